import functools
from dataclasses import replace

import numpy as np
import pytest
import shapely
import torch
from conftest import found
from layouts import read_coco

from kaod import ROOT, geometry, params
from kaod.data import coco, datasets, files, voc, warp
from kaod.evaluation import ap, evaluate, outlines


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
        samples = [replace(each, polygons=[[] for _ in each.labels])  # as datasets.load does: traced, no ground truth
                   for each in voc.read(root, name, classes)]
        return datasets.DataSet(classes, list(range(1, 21)), samples), "voc"
    path = f"annotations/instances_{name}.json"
    categories = coco.categories(root, path)
    ids = [item["id"] for item in categories]
    return datasets.DataSet([item["name"] for item in categories], ids, read_coco(root, path, ids)), "coco"


SETS = [("coco", "val2017"), ("coco", "train2017"), ("nuclei", "val"), ("nuclei", "train"),
        ("VOCdevkit", "VOC2007/test"), ("VOCdevkit", "VOC2007/trainval")]
PART = 20  # photos of a set, where all of them were seen in another kind: more would take half an hour
TRAINING = ("train2017", "train", "VOC2007/trainval")


def real_sets():
    """(folder, set, kind, photos): each set whole as it is and, slow, rotated; a part of each test set in all kinds and
    at some angles. -cr and -tr are -rt's map without its turn, and an angle is like another. A part of the nuclei has
    hundreds already, so whole they are slow."""
    for folder, name in SETS:
        kinds = {"st": [], "rt": [pytest.mark.slow]}
        if name not in TRAINING:
            kinds |= dict.fromkeys(("cr", "tr", "turn-45", "turn+15", "turn+90"), [])
            kinds |= {"rt-ellipse": []} if folder == "VOCdevkit" else {}
        for kind, marks in kinds.items():
            whole = kind in ("st", "rt")
            marks = marks or [pytest.mark.slow] * (name in ("train2017", "train") or whole and folder == "nuclei")
            yield pytest.param(folder, name, kind, None if whole else PART, marks=marks, id=f"{folder}-{name}-{kind}")


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
    result = evaluate.evaluate(dataset, [perfect(each) for each in dataset.samples], layout, max(100, most), kind)
    assert result["AP50"] == pytest.approx(1) and result["coco"]["AP"] == pytest.approx(1)
    assert all(value is None or value == pytest.approx(1) for value in result["classes"].values())
    if folder == "VOCdevkit":
        assert result["shape"] is None and result["masks"] is None
    else:
        assert result["shape"]["hull"] == pytest.approx(result["shape"]["bound"], abs=1e-6)
        assert result["shape"]["rectangle"] == pytest.approx(1, abs=1e-6)
        assert (result["masks"] is None) == kind.startswith("turn")
        if result["masks"]:
            assert result["masks"]["hull"] == pytest.approx(result["masks"]["bound"], abs=1e-9)
        assert result["shape"]["rectangle_box"] < 0.95 and result["shape"]["ellipse"] < result["shape"]["bound"]


@pytest.mark.parametrize("angle", [-33.0, 90.0, pytest.param(10.0, marks=pytest.mark.slow),
                                   pytest.param(180.0, marks=pytest.mark.slow)])
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
    result = evaluate.evaluate(replace(dataset, samples=turned), detections, "voc", 100, "rt")
    assert ap.ap50(replace(dataset, samples=turned), detections, "voc", 100) == result["AP50"]
    assert result["AP50"] == pytest.approx(1) and result["AP50_11"] == pytest.approx(1)  # VOC's
    assert all(value is None or value == pytest.approx(1) for value in result["classes"].values())
    assert result["coco"]["AP50"] == pytest.approx(1) and result["coco"]["AP"] == pytest.approx(1)
    assert result["shape"]["rectangle"] == pytest.approx(1, abs=2e-3)  # outlines are kept to hundredths of a pixel
    assert result["shape"]["hull"] == pytest.approx(result["shape"]["bound"], abs=2e-3)
    # masks are drawn in whole pixels, other ones for another angle: those of small objects differ a little
    assert result["masks"]["hull"] == pytest.approx(result["masks"]["bound"], abs=0.01)
    bound = outlines.mask_ap(replace(dataset, samples=upright), [found([], [], [])] * len(upright), "bound", 100)
    assert result["masks"]["bound"] == pytest.approx(bound, abs=0.01) and 0.5 < bound["AP"] < 1


def test_background_is_no_detection(drawn):
    """An untrained model's label 0 counts nowhere, also where detections are measured without being written."""
    samples, _ = drawn

    def detector(images):
        return [{"boxes": torch.tensor([[1.0, 1, 9, 9], [2, 2, 8, 8]]), "scores": torch.tensor([0.9, 0.8]),
                 "labels": torch.tensor([0, 7])} for _ in images]

    detections = evaluate.detect(detector, samples, 4)
    assert [each["labels"].tolist() for each in detections] == [[7]] * len(samples)
    assert all(len(each["boxes"]) == len(each["scores"]) == 1 for each in detections)


def test_ap_stands_on_top_whosever_ap50_it_is(drawn):
    samples, classes = drawn
    dataset = datasets.DataSet(classes, list(range(1, 8)), samples)
    detections = [found(each.boxes + 3, each.labels, np.ones(len(each.labels))) for each in samples]
    voc, coco = (evaluate.evaluate(dataset, detections, rule, 100) for rule in ("voc", "coco"))
    assert 0 < voc["AP"] == coco["AP"] == voc["coco"]["AP"] < voc["AP50"]
    assert voc.keys() - coco.keys() == {"AP50_11", "classes_11"}
    with pytest.raises(ValueError, match="a test set with photos"):
        evaluate.evaluate(replace(dataset, samples=[]), [], "voc", 100)


def test_the_summary_names_what_is_known():
    kind = {"AP": 0.4, "AP50": 0.7, "shape": None, "spread": None}
    plain = evaluate.summary({"st": kind, "rt": kind | {"AP": 0.3}})
    assert len(plain) == 16 and plain["AP-rt"] == 0.3 and plain["AP50-st"] == 0.7
    assert [name for name, value in plain.items() if value is None] == [
        "AP-cr", "AP-tr", "AP50-cr", "AP50-tr", "AP-oriented", "AP50-oriented", "AP-oriented-box",
        "AP50-oriented-box", "hull", "rectangle", "spread", "turn30"]
    told = evaluate.summary({"st": kind | {"spread": 0.5, "turning": {"-30": None, "30": {"model": {"turn": 2.5}}},
                                           "shape": {"hull": 0.6, "rectangle": 0.8, "box": 0.1}}})
    assert [told[name] for name in ("hull", "rectangle", "spread", "turn30")] == [0.6, 0.8, 0.5, 2.5]
    assert evaluate.summary({"st": kind | {"turning": {"30": None}}})["turn30"] is None
    boxes = {"AP": 0.2, "AP50": 0.6, "IoU": {"all": 0.7}}
    for rotated, expected in ((None, [None, None, 0.2, 0.6]), (boxes | {"AP": 0.3}, [0.3, 0.6, 0.2, 0.6])):
        told = evaluate.summary({"st": kind | {"oriented": {"rotated": rotated, "box": boxes}}})
        assert [told[f"{ap}-oriented{box}"] for box in ("", "-box") for ap in ("AP", "AP50")] == expected


@pytest.mark.parametrize("name", params.load()[1])
def test_the_committed_summaries_are_those_of_their_details(name):
    folder = ROOT / "results" / "shapes"
    assert files.read_json(folder / "metrics" / f"{name}.json") == evaluate.summary(
        files.read_json(folder / "details" / f"{name}.json"))
