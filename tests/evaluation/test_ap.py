import contextlib
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import found, sample
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import read_coco
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from kaod.data import coco, datasets
from kaod.evaluation import ap

BOX, FAR = (10, 10, 30, 30), (60, 60, 80, 80)


def average(samples, detections, label=1, points=None):
    curve = ap.voc_curve(samples, detections, label)
    return curve and ap.average_precision(*curve, points)


def test_a_perfect_detector_has_an_ap_of_one(drawn):
    samples, classes = drawn
    detections = [found(each.boxes, each.labels, np.linspace(1, 0.5, len(each.labels))) for each in samples]
    dataset = datasets.DataSet(classes, list(range(1, 8)), samples)
    voc, coco = ap.voc_metrics(dataset, detections), ap.coco_metrics(dataset, detections, 100)
    assert voc["AP50"] == coco["AP50"] == coco["AP"] == 1
    present = {classes[label - 1] for each in samples for label in each.labels}
    assert {name for name, value in voc["classes"].items() if value is None} == set(classes) - present
    assert set(coco["classes"]) == set(classes)


def test_nothing_found_is_zero(drawn):
    samples, classes = drawn
    nothing = [found([], [], [])] * len(samples)
    dataset = datasets.DataSet(classes, list(range(1, 8)), samples)
    assert ap.voc_metrics(dataset, nothing)["AP50"] == 0
    assert ap.coco_metrics(dataset, nothing, 100)["AP"] == 0


def test_a_second_find_and_a_wrong_class_are_false():
    samples = [sample([BOX, FAR], [1, 1])]
    twice = [found([BOX, BOX, FAR], [1, 1, 1], [0.9, 0.8, 0.7])]
    assert average(samples, twice) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert average(samples, [found([BOX, FAR], [1, 2], [0.9, 0.8])]) == pytest.approx(0.5)


def test_difficult_objects_count_neither_way():
    samples = [sample([BOX, FAR], [1, 1], [False, True])]
    assert average(samples, [found([FAR, FAR, BOX], [1, 1, 1], [0.9, 0.8, 0.7])]) == 1
    assert average(samples, [found([], [], [])]) == 0
    assert average([sample([FAR], [1], [True])], [found([BOX], [1], [0.9])]) is None


def test_thresholds_limits_and_missing_classes_by_hand():
    """IoU .72 is right at five of COCO's ten thresholds. A class without objects counts in no mean."""
    dataset = datasets.DataSet(["a", "b"], [1, 2], [sample([(0, 0, 100, 50)], [1])])
    each = ap.coco_metrics(dataset, [found([(0, 0, 72, 50)], [1], [0.9])], 100)
    assert (each["AP50"], each["AP75"], each["AP"]) == pytest.approx((1, 0, 0.5))
    assert each["classes"] == {"a": pytest.approx(0.5), "b": None}
    two = datasets.DataSet(["a"], [1], [sample([BOX, FAR], [1, 1])])
    weak_first = [found([(40, 40, 50, 50), BOX, FAR], [1, 1, 1], [0.1, 0.9, 0.8])]
    for kind in ("voc", "coco"):
        every, one = (ap.ap50(two, weak_first, kind, limit) for limit in (100, 1))
        assert every == 1 and one == pytest.approx(0.5, abs=0.01)
    best = ap.strongest(weak_first, 1)
    assert ap.coco_metrics(two, ap.strongest(weak_first, 3), 1)["AP50"] == pytest.approx(0.5, abs=0.01)
    assert [(key, len(values)) for key, values in best[0].items()] == [("boxes", 1), ("labels", 1), ("scores", 1)]


def test_eleven_points_by_hand():
    """Two of four objects found, in the order right, wrong, right: precision 1 to recall .25, 2/3 to .5."""
    samples = [sample([BOX, FAR, (10, 60, 30, 80), (60, 10, 80, 30)], [1] * 4)]
    detections = [found([BOX, (0, 0, 5, 5), FAR], [1] * 3, [0.9, 0.8, 0.7])]
    assert average(samples, detections, points=11) == pytest.approx((3 * 1 + 3 * 2 / 3) / 11)
    assert average(samples, detections) == pytest.approx(0.25 + 0.25 * 2 / 3)


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
    voc, coco = ap.voc_metrics(dataset, detections), ap.coco_metrics(dataset, detections, 100)
    assert 0.2 < voc["AP50"] < 0.9
    assert voc["AP50"] == pytest.approx(coco["AP50"], abs=0.01)


def devkit(samples, detections, label: int) -> tuple[float | None, float | None]:
    """VOCevaldet.m and VOCap.m, line by line: (all points, 11 points)."""
    rows = [(score, image, box) for image, each in enumerate(detections) for box, score, kind in zip(
        each["boxes"].tolist(), each["scores"].tolist(), each["labels"]) if kind == label]
    rows.sort(key=lambda row: -row[0])
    truth = [[(box, bool(ignore)) for box, kind, ignore in zip(each.boxes.tolist(), each.labels, each.ignore)
              if kind == label] for each in samples]
    npos = sum(not difficult for each in truth for _, difficult in each)
    if npos == 0:
        return None, None
    det, tp, fp = set(), [], []
    for _, image, bb in rows:
        ovmax, jmax = -1, None
        for j, (bbgt, _) in enumerate(truth[image]):
            iw = min(bb[2], bbgt[2]) - max(bb[0], bbgt[0])
            ih = min(bb[3], bbgt[3]) - max(bb[1], bbgt[1])
            if iw > 0 and ih > 0:
                ua = (bb[2] - bb[0]) * (bb[3] - bb[1]) + (bbgt[2] - bbgt[0]) * (bbgt[3] - bbgt[1]) - iw * ih
                if iw * ih / ua > ovmax:
                    ovmax, jmax = iw * ih / ua, j
        if ovmax >= 0.5:
            if not truth[image][jmax][1]:
                first = (image, jmax) not in det
                det.add((image, jmax))
                tp.append(first)
                fp.append(not first)
            else:
                tp.append(False)
                fp.append(False)
        else:
            tp.append(False)
            fp.append(True)
    tp, fp = np.cumsum(tp), np.cumsum(fp)
    rec, prec = tp / npos, tp / np.maximum(fp + tp, 1e-12)
    eleven = sum(max((p for r, p in zip(rec, prec) if r >= t - 1e-12), default=0) for t in np.linspace(0, 1, 11)) / 11
    mrec, mpre = [0, *rec, 1], [0, *prec, 0]
    for i in range(len(mpre) - 2, -1, -1):
        mpre[i] = max(mpre[i], mpre[i + 1])
    return sum((mrec[i] - mrec[i - 1]) * mpre[i] for i in range(1, len(mrec))), eleven


corner = st.integers(0, 6)
box = st.tuples(corner, corner, st.integers(1, 4), st.integers(1, 4)).map(
    lambda v: (v[0] * 5, v[1] * 5, (v[0] + v[2]) * 5, (v[1] + v[3]) * 5))
objects = st.lists(st.tuples(box, st.integers(1, 2), st.booleans()), max_size=5)
finds = st.lists(st.tuples(box, st.integers(1, 2), st.sampled_from([0.2, 0.4, 0.6, 0.8])), max_size=8)  # with ties


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(objects, finds), min_size=1, max_size=4))
def test_voc_ap_is_the_devkits(photos):
    """Ties, duplicates, difficult objects, classes without an object: as an independent transcription has it."""
    samples = [sample([b for b, _, _ in truth], [kind for _, kind, _ in truth], [ignore for *_, ignore in truth])
               for truth, _ in photos]
    detections = [found([b for b, _, _ in finds], [kind for _, kind, _ in finds], [score for *_, score in finds])
                  for _, finds in photos]
    for label in (1, 2):
        every, eleven = devkit(samples, detections, label)
        assert average(samples, detections, label) == pytest.approx(every)
        assert average(samples, detections, label, 11) == pytest.approx(eleven)


@pytest.mark.parametrize("rule", ["voc", "coco"])
def test_what_has_no_object_has_no_ap(rule):
    """A class without objects; and a set of which all are ignored, as a crop may leave it."""
    samples = [sample([(0, 0, 50, 50)], [1])]
    detections = [found([(0, 0, 50, 50), (60, 60, 80, 80)], [1, 2], [0.9, 0.8])]
    told = ap.headline(datasets.DataSet(["a", "b"], [1, 2], samples), detections, rule, 100)
    assert told["AP50"] == pytest.approx(1) and told["classes"] == {"a": pytest.approx(1), "b": None}
    ignored = [replace(samples[0], ignore=np.array([True]))]
    told = ap.headline(datasets.DataSet(["a", "b"], [1, 2], ignored), detections, rule, 100)
    assert told["AP"] is told["AP50"] is told["coco"]["AP75"] is None and told.get("AP50_11") is None
    assert json.loads(json.dumps(told)) == told


def noisy(samples, classes: int, seed: int = 0):
    """Detections: the objects, shaken, some left out, with wrong ones among them; best first."""
    rng = np.random.default_rng(seed)
    for each in samples:
        kept = rng.random(len(each.boxes)) < 0.8
        boxes = each.boxes[kept] + rng.normal(0, 4, (kept.sum(), 4))
        corner = rng.uniform(0, 0.6, (5, 2)) * each.size
        boxes = np.concatenate((boxes, np.concatenate((corner, corner + rng.uniform(20, 90, (5, 2))), 1)))
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        scores = np.sort(rng.random(len(boxes)))[::-1]
        order = rng.permutation(len(boxes))
        yield {"boxes": boxes[order], "scores": scores.copy(),
               "labels": np.concatenate((each.labels[kept], rng.integers(1, classes + 1, 5)))[order]}


@pytest.mark.parametrize("folder, name", [("coco", "val2017"), ("nuclei", "val")])
def test_coco_ap_is_that_of_pycocotools_on_the_original_file(shared, folder, name):
    root, path = shared / folder, f"annotations/instances_{name}.json"
    categories = coco.categories(root, path)
    ids = [item["id"] for item in categories]
    samples = read_coco(root, path, ids)
    dataset = datasets.DataSet([item["name"] for item in categories], ids, samples)
    detections = list(noisy(samples, len(ids)))
    ours = ap.coco_metrics(dataset, detections, 100)
    rows = [{"image_id": each.id, "category_id": ids[label - 1], "score": score,
             "bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]]} for each, seen in zip(samples, detections)
            for b, label, score in zip(seen["boxes"].tolist(), seen["labels"], seen["scores"].tolist())]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(root / path)
        run = COCOeval(truth, truth.loadRes(rows), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    figures = ["AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"]
    mine = [-1 if ours[key] is None else ours[key] for key in figures]
    assert mine == pytest.approx(list(run.stats[:6]), abs=1e-9)
    assert 0.02 < ours["AP"] < 0.9
