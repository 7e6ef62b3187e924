import numpy as np
import pytest
import shapely
from conftest import found, ring, sample

from kaod import geometry
from kaod.data import coco, datasets
from kaod.evaluation import evaluate, oriented, results

GROUPS = ("all", "round", "upright", "tilted")


def rectangles(*boxes) -> np.ndarray:
    """Corners of rotated boxes: centre x, y, width, height, angle."""
    return geometry.rotated_corners(np.array(boxes, float))


def objects(rings, labels=None, **more):
    """A photo with these outlines (V, 2), their boxes around them."""
    boxes = [(*each.min(0), *each.max(0)) for each in rings]
    return sample(boxes, labels or [1] * len(rings), polygons=[[each] for each in rings], **more)


def detected(rings, scores, labels=None):
    """Rotated boxes (n, 4, 2) with the upright ones around them."""
    boxes = [(*each.min(0), *each.max(0)) for each in rings]
    return found(boxes, labels or [1] * len(rings), scores) | {"rotated_corners": rings}


def test_groups_by_hand():
    shapes = {"round": [(50, 50, 12.9, 10, 45), (50, 50, 10, 10, 0)],
              "upright": [(50, 50, 13.1, 10, 9.9), (50, 50, 40, 10, -80.1), (50, 50, 10, 40, 0)],
              "tilted": [(50, 50, 40, 10, 10.1), (50, 50, 40, 10, 79.9), (50, 50, 13.1, 10, -45)]}
    for name, boxes in shapes.items():
        members = oriented.groups(rectangles(*boxes))
        assert {key for key, chosen in members.items() if chosen.any()} == {"all", name}
        assert members[name].all() and members["all"].all()


def test_perfect_rotated_boxes_are_perfect(drawn):
    """For keypoints on the outline, for rows of both forms, and for outlines with four corners."""
    samples, classes = drawn
    found_by = [found(each.boxes, each.labels, np.ones(len(each.labels))) for each in samples]
    corners = [oriented.truth(each)[0] for each in samples]
    most = max(len(part) for each in samples for parts in each.polygons for part in parts)
    keypoints = [np.array([np.concatenate((part, np.repeat(part[-1:], most - len(part), 0)))
                           for (part,) in each.polygons]) for each in samples]
    dataset = datasets.DataSet(classes, list(range(1, 8)), samples)
    forms = {"keypoints": [each | {"keypoints": points} for each, points in zip(found_by, keypoints)],
             "rotated_box": read(dataset, found_by, [geometry.rotated_boxes(each)[1] for each in corners]),
             "corners": read(dataset, found_by, [np.roll(each, 1, 1).reshape(-1, 8) for each in corners])}
    for detections in forms.values():
        told = oriented.metrics(samples, detections)
        assert told["objects"] == told["found"] and min(told["objects"].values()) > 0
        for figures in (told["rotated"], told["bound"]):
            assert figures.pop("IoU") == pytest.approx(dict.fromkeys(GROUPS, 1), abs=1e-4)
            assert figures == dict.fromkeys(("AP50", "AP", "AP50_tilted", "AP_tilted"), pytest.approx(1))
        assert told["box"]["AP"] < 0.9 and told["box"]["AP_tilted"] < told["box"]["AP"]
    told = oriented.metrics([objects(each, list(each_sample.labels)) for each, each_sample in zip(corners, samples)],
                            forms["corners"])
    assert told["rotated"]["AP"] == pytest.approx(1) and told["rotated"]["IoU"]["tilted"] == pytest.approx(1, abs=1e-4)


def read(dataset, detections, values):
    """Through a results file whose rows have `rotated_box` (5 numbers) or `corners` (8)."""
    rows = []
    for image, each, turned in zip(coco.to_coco(dataset)["images"], detections, values):
        rows += [row | {"corners" if len(value) == 8 else "rotated_box": value.tolist()}
                 for row, value in zip(results.to_rows(each, image["id"], dataset.category_ids), turned)]
    return results.from_rows(rows, dataset)


def test_annotated_rotated_boxes_are_their_own_truth(shared):
    root = shared / "hituav_cars"
    for each in coco.read(root / "annotations" / "instances_val.json", root / "val", [1]):
        true, known = oriented.truth(each)
        overlap = oriented.table("rotated", np.array([part for (part,) in each.polygons]).reshape(-1, 4, 2), true,
                                 np.eye(len(true), dtype=bool)).diagonal()
        assert known.all() and (overlap > 0.999).all()
        annotated = shapely.polygons([part for (part,) in each.polygons])
        assert shapely.area(shapely.polygons(true)) == pytest.approx(shapely.area(annotated), rel=2e-3)


def counted(ring, box, steps: int = 1000) -> float:
    """IoU of a rectangle (4, 2) and an upright box, by counting points of a fine grid."""
    low, high = np.minimum(ring.min(0), box[:2]), np.maximum(ring.max(0), box[2:])
    x, y = np.meshgrid(*np.linspace(low, high, steps).T)
    edges = np.roll(ring, -1, 0) - ring
    inside = np.all([along[0] * (y - start[1]) - along[1] * (x - start[0]) >= 0
                     for start, along in zip(ring, edges)], 0)
    upright = (x >= box[0]) & (x <= box[2]) & (y >= box[1]) & (y <= box[3])
    return (inside & upright).sum() / (inside | upright).sum()


def test_upright_boxes_by_brute_force():
    """Of a round object, an upright one, and two tilted ones, each in its place and of an IoU of its own."""
    rings = rectangles((20, 20, 24, 20, 30), (70, 20, 40, 20, 4), (25, 70, 40, 20, 25), (70, 70, 40, 16, -45))
    photo = objects(rings)
    box = oriented.metrics([photo], [found(photo.boxes, [1] * 4, [0.9, 0.8, 0.7, 0.6])])["box"]
    ious = np.array([counted(*each) for each in zip(rings, photo.boxes)])
    assert box["IoU"] == pytest.approx({"all": ious.mean(), "round": ious[0], "upright": ious[1],
                                        "tilted": ious[2:].mean()}, abs=2e-3)
    assert ious[3] < 0.5 < ious[2] < ious[0] < ious[1]  # three of four are right at .5, in this order
    assert box["AP50"] == pytest.approx(8 / 11) and box["AP50_tilted"] == pytest.approx(6 / 11)
    everything = [devkit([photo], [detected(np.array([geometry.corners(photo.boxes.astype(float))]).reshape(-1, 4, 2),
                                            [0.9, 0.8, 0.7, 0.6])], [np.zeros(4, bool)], 1, least)
                  for least in oriented.IOUS]
    assert box["AP"] == pytest.approx(np.mean(everything))


def test_what_has_no_rotated_box_or_no_outline():
    rings = rectangles((30, 30, 40, 20, 30), (70, 70, 40, 20, -30))
    photo, nothing = objects(rings), found([], [], [])
    told = oriented.metrics([photo], [nothing])
    assert told["rotated"] is None and told["found"]["all"] == 0 and told["objects"]["tilted"] == 2
    assert told["box"]["AP50"] == 0 and told["box"]["IoU"]["all"] is None
    assert oriented.metrics([sample(photo.boxes, [1, 1])], [nothing]) is None
    assert oriented.metrics([sample([], [])], [nothing]) is None
    assert oriented.metrics([objects(rings, ignore=[True, True])], [nothing]) is None
    # of the second the outline is not known: what is found at its box does not count
    half = sample(photo.boxes, [1, 1], polygons=[[rings[0]], []])
    both = detected(np.stack((geometry.corners(photo.boxes.astype(float))[1], rings[0])), [0.9, 0.8])
    told = oriented.metrics([half, sample([], [])], [both, nothing | {"rotated_corners": np.zeros((0, 4, 2))}])
    assert told["rotated"]["AP50"] == 1 and told["objects"]["all"] == told["found"]["all"] == 1
    plain = oriented.metrics([objects(rectangles((30, 30, 20, 20, 30)))], [nothing])
    assert plain["box"]["AP_tilted"] is None and plain["box"]["AP"] == 0 == plain["objects"]["tilted"]


def test_points_on_a_line_or_in_one_place_have_rotated_boxes_without_area():
    photo = objects(rectangles((30, 30, 40, 20, 30), (70, 70, 40, 20, -30)))
    points = np.array([np.full((5, 2), 30.0), np.linspace((50, 60), (90, 80), 5)])
    boxes = found(photo.boxes, [1, 1], [0.9, 0.8])
    told = oriented.metrics([photo], [boxes | {"keypoints": points}])
    assert told["rotated"]["AP50"] == 0 == told["rotated"]["IoU"]["all"] and told["bound"]["AP"] == pytest.approx(1)
    assert oriented.metrics([photo], [boxes | {"keypoints": points[:, :2]}])["rotated"] is None  # as in `predict`


def devkit(samples, detections, difficult, label: int, least: float) -> float | None:
    """voc_eval and voc_ap of dota_evaluation_task1.py, as its main calls them, but for its output of text."""
    rows = [(score, image, shapely.Polygon(ring)) for image, each in enumerate(detections) for score, ring, kind in zip(
        each["scores"].tolist(), each["rotated_corners"], each["labels"]) if kind == label]
    rows.sort(key=lambda row: -row[0])
    truth = [[(shapely.Polygon(part), bool(hard)) for (part,), kind, hard in zip(each.polygons, each.labels, of_photo)
              if kind == label] for each, of_photo in zip(samples, difficult)]
    npos = sum(not hard for each in truth for _, hard in each)
    if npos == 0:
        return None
    det, tp, fp = set(), [], []
    for _, image, bb in rows:
        overlaps = [bb.intersection(bbgt).area / bb.union(bbgt).area for bbgt, _ in truth[image]]
        ovmax, jmax = max(overlaps, default=-np.inf), int(np.argmax(overlaps)) if overlaps else None
        tp.append(0)
        fp.append(0)
        if ovmax > least:
            if not truth[image][jmax][1]:
                if (image, jmax) not in det:
                    tp[-1] = 1
                    det.add((image, jmax))
                else:
                    fp[-1] = 1
        else:
            fp[-1] = 1
    tp, fp = np.cumsum(tp), np.cumsum(fp)
    rec, prec = tp / npos, tp / np.maximum(tp + fp, np.finfo(np.float64).eps)
    # but for recalls of 3, 6 and 7 tenths, which np.arange(0., 1.1, 0.1) makes a last bit too large
    return sum(max(prec[rec >= t - 1e-12], default=0) / 11 for t in np.arange(0., 1.1, 0.1))


def test_oriented_ap_is_the_devkits():
    """Random rectangles in heaps: duplicates, wrong classes, ties of scores, difficult objects, all thresholds."""
    rng = np.random.default_rng(0)
    for _ in range(6):
        samples, detections = [], []
        for _ in range(3):
            count = rng.integers(0, 6)
            boxes = np.column_stack((rng.uniform(20, 80, (count, 2)), rng.uniform(5, 40, (count, 2)),
                                     rng.uniform(-90, 90, count)))
            labels = rng.integers(1, 3, count)
            samples.append(objects(rectangles(*boxes), list(labels), ignore=rng.random(count) < 0.2)
                           if count else sample([], []))
            near = np.repeat(np.arange(count), 3)
            tries = np.concatenate((boxes[near] + rng.normal(0, 1.5, (len(near), 5)) * (1, 1, 1, 1, 4),
                                    [(50, 50, 30, 10, 0)]))
            tries[:, 2:4] = np.abs(tries[:, 2:4])
            kinds = np.append(np.where(rng.random(len(near)) < 0.9, labels[near], 3 - labels[near]), 1)
            detections.append(detected(rectangles(*tries), rng.integers(1, 9, len(tries)) / 10, list(kinds)))
        members = [oriented.groups(oriented.truth(each)[0])["tilted"] for each in samples]
        told = oriented.metrics(samples, detections)
        for suffix, left in (("", [~each for each in map(np.zeros_like, members)]), ("_tilted", members)):
            difficult = [each.ignore | ~of_photo for each, of_photo in zip(samples, left)]
            wanted = [[devkit(samples, detections, difficult, label, least) for label in (1, 2)]
                      for least in oriented.IOUS]
            wanted = [[value for value in row if value is not None] for row in wanted]
            if wanted[0]:
                assert told["rotated"][f"AP50{suffix}"] == pytest.approx(np.mean(wanted[0]))
                assert told["rotated"][f"AP{suffix}"] == pytest.approx(np.mean(wanted))
            else:
                assert told["rotated"][f"AP{suffix}"] is None
        assert 0 < told["rotated"]["AP"] < told["rotated"]["AP50"] < 1


@pytest.mark.parametrize("width, right", [(20, 0), (21, 1)])
def test_an_iou_of_a_half_is_not_above_it(width, right):
    photo, half = objects(rectangles((30, 30, 40, 20, 0))), rectangles((30, 30, width, 20, 0))
    told = oriented.metrics([photo], [detected(half, [0.9])])
    assert told["rotated"]["AP50"] == pytest.approx(right)


def test_a_rectangle_whose_points_are_apart_from_an_object_is_not_right():
    """Its IoU is not measured, as it cannot be above .5: hulls fill half of their rectangles or more."""
    points = np.array([[(0, 0), (40, 40), (38, 2)]], float)
    ring, (object_there,) = geometry.rotated_boxes(points)[0], rectangles((49, 22, 10, 10, 45))
    overlap = shapely.Polygon(ring[0]).intersection(shapely.Polygon(object_there)).area
    assert points[..., 0].max() < object_there[:, 0].min() and overlap > 1
    same = np.ones((1, 1), bool)
    assert oriented.table("rotated", points, object_there[None], same) == 0
    assert oriented.table("rotated", ring, object_there[None], same) > 0
    assert oriented.table("rotated", ring, object_there[None], ~same) == 0  # of another class
    clouds = np.random.default_rng(0).normal(size=(300, 3, 2))
    rings, hulls = geometry.rotated_boxes(clouds)[0], shapely.convex_hull(shapely.linestrings(clouds))
    assert (shapely.area(hulls) > 0.5 * shapely.area(shapely.polygons(rings)) - 1e-9).all()


def test_the_evaluation_has_them_but_for_the_sweep():
    disc = ring((50, 50), 30, 64)
    dataset = datasets.DataSet(["a"], [1], [objects([disc, *rectangles((20, 12, 30, 12, 30))])])
    detections = [found(dataset.samples[0].boxes, [1, 1], [0.9, 0.8])]
    for kind in ("st", "rt", "cr", "tr"):
        told = evaluate.evaluate(dataset, detections, "voc", 100, kind)["oriented"]
        assert told == oriented.metrics(dataset.samples, detections) and told["objects"]["round"] == 1
    for kind in ("turn+30", "rt-ellipse"):
        assert evaluate.evaluate(dataset, detections, "voc", 100, kind)["oriented"] is None
