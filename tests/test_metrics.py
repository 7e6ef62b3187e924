import contextlib
import functools
import io
from dataclasses import replace

import numpy as np
import pytest
import shapely
import torch
from conftest import found, ring, sample
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from kaod import geometry, params
from kaod.data import datasets, kinds, warp
from kaod.evaluation import metrics

BOX, FAR = (10, 10, 30, 30), (60, 60, 80, 80)


def ap(samples, detections, label=1, points=None):
    curve = metrics.voc_curve(samples, detections, label)
    return curve and metrics.average_precision(*curve, points)


def shapes_of(samples, detections):
    return metrics.shape_metrics(samples, detections)["shape"]


def test_a_perfect_detector_has_an_ap_of_one(drawn):
    samples, classes = drawn
    detections = [found(each.boxes, each.labels, np.linspace(1, 0.5, len(each.labels))) for each in samples]
    dataset = datasets.DataSet(classes, list(range(1, 8)), samples)
    voc, coco = metrics.voc_metrics(dataset, detections), metrics.coco_metrics(dataset, detections, 100)
    assert voc["AP50"] == coco["AP50"] == coco["AP"] == 1
    present = {classes[label - 1] for each in samples for label in each.labels}
    assert {name for name, value in voc["classes"].items() if value is None} == set(classes) - present
    assert set(coco["classes"]) == set(classes)


def test_nothing_found_is_zero(drawn):
    samples, classes = drawn
    nothing = [found([], [], [])] * len(samples)
    dataset = datasets.DataSet(classes, list(range(1, 8)), samples)
    assert metrics.voc_metrics(dataset, nothing)["AP50"] == 0
    assert metrics.coco_metrics(dataset, nothing, 100)["AP"] == 0


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
    voc, coco = metrics.voc_metrics(dataset, detections), metrics.coco_metrics(dataset, detections, 100)
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
        shape = shapes_of(samples, [perfect])
        assert shape["objects"] == 2 and shape["hull"] == pytest.approx(1) and shape["box"] == pytest.approx(1)
    flat = [np.array([(20, 20), (80, 20), (50, 20)], float)]  # an outline without area is no yardstick
    assert shapes_of([sample(boxes[:1], [1], polygons=[flat])], [found(boxes[:1], [1], [0.9])]) is None


def test_shapes_of_found_objects():
    circle = ring((50, 50), 20, 64)
    samples = [sample([(30, 30, 70, 70), BOX], [1, 1], polygons=[[circle], [ring((20, 20), 10)]])]
    detections = [found([(30, 30, 70, 70)], [1], [0.9]) | {"keypoints": ring((50, 50), 20)[None]}]
    shape = shapes_of(samples, detections)
    assert shape["objects"] == 1
    assert shape["box"] == pytest.approx(np.pi / 4, abs=0.01) and shape["ellipse"] > 0.99
    assert 0.95 < shape["hull"] < shape["bound"] == pytest.approx(1)
    gauge = metrics.shape_metrics(samples, detections)
    assert 0.4 < gauge["spread"] < 0.5 and gauge["overhang"] < 1e-9
    small = [detections[0] | {"boxes": np.array([[30, 30, 70, 60]], np.float32)}]  # a quarter of the height hangs out
    assert 0.15 < metrics.shape_metrics(samples, small)["overhang"] < 0.25
    assert shapes_of(samples, [found([], [], [])]) is None
    points = {"keypoints": ring((20, 20), 9)[None]}
    unknown = metrics.shape_metrics([sample([BOX], [1])], [found([BOX], [1], [1]) | points])
    assert unknown["shape"] is None and unknown["spread"] > 0.3  # the gauge needs no outline


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
        assert ap(samples, detections, label) == pytest.approx(every)
        assert ap(samples, detections, label, 11) == pytest.approx(eleven)


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
    ours = metrics.coco_metrics(dataset, detections, 100)
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


def perfect(each):
    """The objects that count, as detections: keypoints are the vertices of their areas, the last repeated as needed."""
    counted = np.flatnonzero(~each.ignore)
    areas = [shapely.get_coordinates(geometry.polygon(each.polygons[i])) for i in counted]
    vertices = [area if len(area) else np.zeros((1, 2)) for area in areas]
    most = max([3, *map(len, vertices)])
    points = np.array([np.concatenate((v, np.repeat(v[-1:], most - len(v), 0))) for v in vertices])
    return found(each.boxes[counted], each.labels[counted], np.ones(len(counted))) | {
        "keypoints": points.reshape(len(vertices), most, 2)}


def without_twins(each):
    """The sample without objects whose class and box another one has: by the devkit's rule, which compares a detection
    with the object that it overlaps most, no detector can find both. Turned corners cut to the frame make a few."""
    _, first = np.unique(np.column_stack((each.labels, each.boxes)), axis=0, return_index=True)
    first = np.sort(first)
    return replace(each, boxes=each.boxes[first], labels=each.labels[first], ignore=each.ignore[first],
                   polygons=[each.polygons[i] for i in first], areas=None, crowds={})


@functools.lru_cache
def load(root, name: str) -> tuple[datasets.DataSet, str]:
    """A set of real photos, and its layout."""
    if root.name == "VOCdevkit":
        classes = voc.classes(root, ["VOC2007/trainval"])
        return datasets.DataSet(classes, list(range(1, 21)), voc.read(root, name, classes)), "voc"
    path = f"annotations/instances_{name}.json"
    categories = coco.categories(root, path)
    ids = [item["id"] for item in categories]
    return datasets.DataSet([item["name"] for item in categories], ids, read_coco(root, path, ids)), "coco"


SETS = [("coco", "val2017"), ("coco", "train2017"), ("nuclei", "val"), ("nuclei", "train"),
        ("VOCdevkit", "VOC2007/test"), ("VOCdevkit", "VOC2007/trainval")]
SWEEP = 20  # photos of a set, at most angles: all of them would take half an hour


def real_sets():
    """(folder, set, kind, photos) of all sets of real photos in all kinds; the big ones and most angles are slow."""
    for folder, name in SETS:
        slow = [pytest.mark.slow] if name in ("train2017", "train") else []
        for kind in ["st", *kinds.KINDS] + ["rt-ellipse"] * (folder == "VOCdevkit"):
            yield pytest.param(folder, name, kind, None, marks=slow, id=f"{folder}-{name}-{kind}")
        for kind in map(kinds.turned, kinds.ANGLES):
            whole = kind in ("turn-45", "turn+90") and not slow
            yield pytest.param(folder, name, kind, None if whole else SWEEP, id=f"{folder}-{name}-{kind}",
                               marks=[] if whole else [pytest.mark.slow])


@pytest.mark.parametrize("folder, name, kind, photos", list(real_sets()))
def test_perfect_detections_are_perfect(shared, folder, name, kind, photos):
    """On real photos, also turned, cropped and shifted: every AP, the hull as good as a hull can be, the rectangle."""
    dataset, layout = load(shared / folder, name)
    dataset = replace(dataset, samples=dataset.samples[:photos])
    warping = params.load("voc")[0].warp
    if kind != "st":
        samples = []
        for index, each in enumerate(dataset.samples):
            T, size = warp.draw_map(kind.removesuffix("-ellipse"), each.size, np.random.default_rng(index), warping)
            samples.append(warp.warp_sample(each, T, size, warping.min_area, kind == "rt-ellipse"))
        dataset = replace(dataset, samples=samples)
    if layout == "voc":
        count = sum(len(each.labels) for each in dataset.samples)
        dataset = replace(dataset, samples=[without_twins(each) for each in dataset.samples])
        assert sum(len(each.labels) for each in dataset.samples) >= count - 3
    most = max(len(each.labels) for each in dataset.samples)
    result = metrics.evaluate(dataset, [perfect(each) for each in dataset.samples], layout, max(100, most), kind)
    assert result["AP50"] == pytest.approx(1) and result["coco"]["AP"] == pytest.approx(1)
    assert all(value is None or value == pytest.approx(1) for value in result["classes"].values())
    if folder == "VOCdevkit":
        assert result["shape"] is None and result["masks"] is None
    else:
        assert result["shape"]["hull"] == pytest.approx(result["shape"]["bound"], abs=1e-6)
        assert result["shape"]["rectangle"] == pytest.approx(1, abs=1e-6)
        assert result["masks"]["hull"] == pytest.approx(result["masks"]["bound"], abs=1e-9)
        assert result["shape"]["rectangle_box"] < 0.95 and result["shape"]["ellipse"] < result["shape"]["bound"]


@pytest.mark.parametrize("angle", [10.0, -33.0, 90.0, 180.0])
def test_turning_photos_and_perfect_detections_alike_changes_nothing(shared, angle):
    """On a canvas that holds the turned photo whole, so that nothing is cut. VOC's AP and COCO's, shapes and masks."""
    dataset, _ = load(shared / "coco", "val2017")
    upright = [without_twins(each) for each in dataset.samples if all(each.polygons)]
    turned, detections = [], []
    for each in upright:
        center = torch.tensor(each.size, dtype=torch.float64) / 2
        side = 2 * int(max(each.size))
        T = geometry.rigid(torch.tensor(angle).double(), side / 2 - center, center)
        whole = warp.warp_sample(each, T, (side, side), 0.25)
        assert len(whole.labels) == len(each.labels) and not whole.ignore.any()
        points = geometry.transform(T, torch.from_numpy(perfect(each)["keypoints"])).numpy()
        boxes = np.array([geometry.polygon([geometry.transform(T, torch.from_numpy(part)).numpy() for part in parts])
                          .bounds for parts in each.polygons]).reshape(-1, 4)
        turned.append(whole)
        detections.append(found(boxes, each.labels, np.ones(len(boxes))) | {"keypoints": points})
    assert len(turned) > 100
    result = metrics.evaluate(replace(dataset, samples=turned), detections, "voc", 100, "rt")
    assert metrics.ap50(replace(dataset, samples=turned), detections, "voc", 100) == result["AP50"]
    assert result["AP50"] == pytest.approx(1) and result["AP50_11"] == pytest.approx(1)  # VOC's
    assert all(value is None or value == pytest.approx(1) for value in result["classes"].values())
    assert result["coco"]["AP50"] == pytest.approx(1) and result["coco"]["AP"] == pytest.approx(1)
    assert result["shape"]["rectangle"] == pytest.approx(1, abs=2e-3)  # outlines are kept to hundredths of a pixel
    assert result["shape"]["hull"] == pytest.approx(result["shape"]["bound"], abs=2e-3)
    # masks are drawn in whole pixels, other ones for another angle: those of small objects differ a little
    assert result["masks"]["hull"] == pytest.approx(result["masks"]["bound"], abs=0.01)
    bound = metrics.mask_ap(replace(dataset, samples=upright), [found([], [], [])] * len(upright), "bound", 100)
    assert result["masks"]["bound"] == pytest.approx(bound, abs=0.01) and 0.5 < bound["AP"] < 1


def test_masks_are_compared_as_masks():
    """A disc: its hull finds it at every threshold, the box's corners are too much above IoU π / 4."""
    disc = ring((50, 50), 40, 64)
    dataset = datasets.DataSet(["disc"], [1], [sample([(10, 10, 90, 90)], [1], polygons=[[disc]])])
    detections = [found([(10, 10, 90, 90)], [1], [0.9]) | {"keypoints": disc[None]}]
    result = metrics.evaluate(dataset, detections, "coco", 100)
    assert metrics.ap50(dataset, detections, "coco", 100) == result["AP50"]
    assert result["masks"]["hull"] == result["masks"]["bound"] == pytest.approx({"AP": 1, "AP50": 1, "AP75": 1})
    assert result["masks"]["box"]["AP"] == pytest.approx(0.6) and result["masks"]["ellipse"]["AP"] == pytest.approx(1)
    plain = metrics.evaluate(dataset, [found([(10, 10, 90, 90)], [1], [0.9])], "coco", 100)
    assert "hull" not in plain["masks"] and plain["spread"] is None
    assert metrics.evaluate(dataset, [found([], [], [])], "coco", 100)["masks"]["box"]["AP"] == 0


def test_keypoints_in_one_place_or_on_a_line_have_empty_masks():
    disc = ring((50, 50), 40, 64)
    dataset = datasets.DataSet(["disc"], [1], [sample([(10, 10, 90, 90)], [1], polygons=[[disc]])])
    for points in (np.full((8, 2), 50.0), np.stack((np.linspace(10, 90, 8), np.full(8, 50.0)), 1)):
        result = metrics.evaluate(dataset, [found([(10, 10, 90, 90)], [1], [0.9]) | {"keypoints": points[None]}],
                                  "coco", 100)
        assert result["masks"]["hull"]["AP50"] == 0 and result["shape"]["hull"] == 0 == result["shape"]["rectangle"]
