import numpy as np
import pytest
from conftest import found, ring, sample

from kaod import datasets, evaluate

BOX, FAR = (10, 10, 30, 30), (60, 60, 80, 80)


def ap(samples, detections, label=1, **options):
    return evaluate.voc_ap(samples, detections, label, **options)


def test_a_perfect_detector_has_an_ap_of_one(drawn):
    samples, classes = drawn
    detections = [found(each.boxes, each.labels, np.linspace(1, 0.5, len(each.labels))) for each in samples]
    dataset = datasets.DataSet(classes, list(range(1, 8)), samples)
    voc, coco = evaluate.voc_metrics(dataset, detections), evaluate.coco_metrics(dataset, detections, 100)
    assert voc["AP50"] == coco["AP50"] == coco["AP"] == 1
    present = {classes[label - 1] for each in samples for label in each.labels}
    assert {name for name, value in voc["classes"].items() if value is None} == set(classes) - present
    assert set(coco["classes"]) == set(classes)


def test_nothing_found_is_zero(drawn):
    samples, classes = drawn
    nothing = [found([], [], [])] * len(samples)
    dataset = datasets.DataSet(classes, list(range(1, 8)), samples)
    assert evaluate.voc_metrics(dataset, nothing)["AP50"] == 0
    assert evaluate.coco_metrics(dataset, nothing, 100)["AP"] == 0


def test_a_second_find_and_a_wrong_class_are_false():
    samples = [sample([BOX, FAR], [1, 1])]
    twice = [found([BOX, BOX, FAR], [1, 1, 1], [0.9, 0.8, 0.7])]
    assert ap(samples, twice) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert ap(samples, [found([BOX, FAR], [1, 2], [0.9, 0.8])]) == pytest.approx(0.5)


def test_difficult_objects_count_neither_way():
    samples = [sample([BOX, FAR], [1, 1], [False, True])]
    assert ap(samples, [found([FAR, FAR, BOX], [1, 1, 1], [0.9, 0.8, 0.7])]) == 1
    assert ap(samples, [found([], [], [])]) == 0
    assert ap([sample([FAR], [1], [True])], [found([BOX], [1], [0.9])]) is None


def test_eleven_points_by_hand():
    """Two of four objects found, in the order right, wrong, right: precision 1 to recall .25, 2/3 to .5."""
    samples = [sample([BOX, FAR, (10, 60, 30, 80), (60, 10, 80, 30)], [1] * 4)]
    detections = [found([BOX, (0, 0, 5, 5), FAR], [1] * 3, [0.9, 0.8, 0.7])]
    assert ap(samples, detections, points=11) == pytest.approx((3 * 1 + 3 * 2 / 3) / 11)
    assert ap(samples, detections) == pytest.approx(0.25 + 0.25 * 2 / 3)


def test_voc_and_coco_agree_up_to_their_recall_points():
    """With no difficult object both are the area under the same curve, COCO's at 101 points."""
    rng = np.random.default_rng(0)
    samples, detections = [], []
    for _ in range(60):
        corner = rng.uniform(0, 60, (4, 2))
        boxes = np.concatenate((corner, corner + rng.uniform(15, 35, (4, 2))), 1)
        labels = rng.integers(1, 4, 4)
        samples.append(sample(boxes, labels))
        kept = rng.random(4) < 0.8
        noise = rng.uniform(0, 60, (3, 2))
        detections.append(found(
            np.concatenate((boxes[kept] + rng.normal(0, 2, (kept.sum(), 4)), np.tile(noise, 2) + (0, 0, 20, 20))),
            np.concatenate((labels[kept], rng.integers(1, 4, 3))), rng.random(kept.sum() + 3)))
    dataset = datasets.DataSet(list("abc"), [1, 2, 3], samples)
    order = [np.argsort(-each["scores"]) for each in detections]
    detections = [{key: value[rows] for key, value in each.items()} for each, rows in zip(detections, order)]
    voc, coco = evaluate.voc_metrics(dataset, detections), evaluate.coco_metrics(dataset, detections, 100)
    assert 0.2 < voc["AP50"] < 0.9
    assert voc["AP50"] == pytest.approx(coco["AP50"], abs=0.01)


def test_two_objects_of_a_class_in_one_place_keep_their_own_shapes():
    """Boxes that overlap by more than half: each detection is measured against the object that it fits best."""
    wide, narrow = [np.array([(20, 20), (80, 20), (80, 60), (20, 60)], float)], [
        np.array([(20, 20), (60, 20), (60, 60), (20, 60)], float)]
    boxes = [(20, 20, 80, 60), (20, 20, 60, 60)]
    samples = [sample(boxes, [1, 1], polygons=[wide, narrow])]
    for scores in ((0.9, 0.8), (0.8, 0.9)):
        order = np.argsort(scores)[::-1]
        perfect = found(np.array(boxes)[order], [1, 1], np.sort(scores)[::-1]) | {
            "keypoints": np.stack([(wide[0], narrow[0])[i] for i in order])}
        shape = evaluate.shape_metrics(samples, [perfect])
        assert shape["objects"] == 2 and shape["hull"] == pytest.approx(1) and shape["box"] == pytest.approx(1)
    flat = [np.array([(20, 20), (80, 20), (50, 20)], float)]  # an outline without area is no yardstick
    assert evaluate.shape_metrics([sample(boxes[:1], [1], polygons=[flat])], [found(boxes[:1], [1], [0.9])]) is None


def test_shapes_of_found_objects():
    circle = ring((50, 50), 20, 64)
    samples = [sample([(30, 30, 70, 70), BOX], [1, 1], polygons=[[circle], [ring((20, 20), 10)]])]
    detections = [found([(30, 30, 70, 70)], [1], [0.9]) | {"keypoints": ring((50, 50), 20)[None]}]
    shape = evaluate.shape_metrics(samples, detections)
    assert shape["objects"] == 1
    assert shape["box"] == pytest.approx(np.pi / 4, abs=0.01) and shape["ellipse"] > 0.99
    assert 0.95 < shape["hull"] < shape["bound"] == 1 and 0.4 < shape["spread"] < 0.5
    assert shape["overhang"] < 1e-9
    small = [detections[0] | {"boxes": np.array([[30, 30, 70, 60]], np.float32)}]  # a quarter of the height hangs out
    assert 0.15 < evaluate.shape_metrics(samples, small)["overhang"] < 0.25
    assert evaluate.shape_metrics(samples, [found([], [], [])]) is None
    assert evaluate.shape_metrics([sample([BOX], [1])], [found([BOX], [1], [1])]) is None  # outlines unknown
