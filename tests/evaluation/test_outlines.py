import numpy as np
import pytest
import shapely
from conftest import found, ring, sample

from kaod.data import datasets
from kaod.evaluation import ap, evaluate, outlines

BOX = (10, 10, 30, 30)


def shapes_of(samples, detections):
    return outlines.shape_metrics(samples, detections)["shape"]


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
    gauge = outlines.shape_metrics(samples, detections)
    assert 0.4 < gauge["spread"] < 0.5 and gauge["overhang"] < 1e-9
    small = [detections[0] | {"boxes": np.array([[30, 30, 70, 60]], np.float32)}]  # a quarter of the height hangs out
    assert 0.15 < outlines.shape_metrics(samples, small)["overhang"] < 0.25
    assert shapes_of(samples, [found([], [], [])]) is None
    points = {"keypoints": ring((20, 20), 9)[None]}
    unknown = outlines.shape_metrics([sample([BOX], [1])], [found([BOX], [1], [1]) | points])
    assert unknown["shape"] is None and unknown["spread"] > 0.3  # the gauge needs no outline


def square(x1, y1, x2, y2) -> np.ndarray:
    return np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], float)


def test_only_objects_that_count_of_their_own_class_and_half_covered_are_found():
    half, less = (10, 10, 30, 20), (10, 10, 30, 19.9)  # of BOX: IoU 0.5, and a little less
    for labels, ignore, box, expected in (([1], [False], half, [(0, 0)]), ([1], [False], less, []),
                                          ([2], [False], half, []), ([1], [True], half, [])):
        assert outlines.pairs(sample([BOX], labels, ignore), found([box], [1], [0.9])) == expected


def test_hulls_are_cut_to_the_frame_and_the_overhang_is_a_share_of_them():
    outline = square(60, 20, 100, 60)
    samples = [sample([(60, 20, 100, 60)], [1], polygons=[[outline]])]
    beyond = found([(60, 20, 100, 60)], [1], [0.9]) | {"keypoints": square(60, 20, 140, 60)[None]}
    figures = outlines.shape_metrics(samples, [beyond])
    assert figures["shape"]["hull"] == pytest.approx(1) == figures["shape"]["rectangle"] and figures["overhang"] == 0
    narrow = found([(60, 20, 90, 60)], [1], [0.9]) | {"keypoints": outline[None]}
    assert outlines.shape_metrics(samples, [narrow])["overhang"] == pytest.approx(1 / 4)


@pytest.mark.parametrize("angle", [0, 30, 77])
def test_rectangles_by_hand(angle):
    """A flat triangle, 60 by 20, and keypoints whose rectangle is its left half. Both turned; areas from the sides."""
    turn = np.radians(angle)
    cos, sin = np.cos(turn), np.sin(turn)

    def turned(*points):
        return (np.array(points) - (30, 10)) @ np.array([(cos, sin), (-sin, cos)]) + 50

    truth, points = turned((0, 0), (60, 0), (30, 20)), turned((0, 0), (30, 0), (30, 10), (0, 20))
    half = np.array([60 * cos + 20 * sin, 60 * sin + 20 * cos]) / 2
    box = (*(50 - half), *(50 + half))  # around the triangle's rectangle
    shape = shapes_of([sample([box], [1], polygons=[[truth]])],
                      [found([box], [1], [0.9]) | {"keypoints": points[None]}])
    assert shape["rectangle"] == pytest.approx(1 / 2, abs=1e-6)
    assert shape["rectangle_box"] == pytest.approx(60 * 20 / (4 * half.prod()), abs=1e-6)
    assert shape["hull"] == pytest.approx(shapely.intersection(*map(shapely.Polygon, (truth, points))).area
                                          / shapely.union(*map(shapely.Polygon, (truth, points))).area)


def test_what_is_found_where_no_outline_is_known_does_not_count():
    disc, box, other = ring((30, 30), 20, 64), (10, 10, 50, 50), (60, 60, 90, 90)
    dataset = datasets.DataSet(["a"], [1], [sample([box, other], [1, 1], polygons=[[disc], []])])
    detections = [found([other, box], [1, 1], [0.9, 0.8]) | {"keypoints": np.stack((ring((75, 75), 5, 64), disc))}]
    assert outlines.mask_ap(dataset, detections, "hull", 100) == pytest.approx({"AP": 1, "AP50": 1, "AP75": 1})


def test_masks_are_compared_as_masks():
    """A disc: its hull finds it at every threshold, the box's corners are too much above IoU π / 4."""
    disc = ring((50, 50), 40, 64)
    dataset = datasets.DataSet(["disc"], [1], [sample([(10, 10, 90, 90)], [1], polygons=[[disc]])])
    detections = [found([(10, 10, 90, 90)], [1], [0.9]) | {"keypoints": disc[None]}]
    result = evaluate.evaluate(dataset, detections, "coco", 100)
    assert ap.ap50(dataset, detections, "coco", 100) == result["AP50"]
    assert result["masks"]["hull"] == result["masks"]["bound"] == pytest.approx({"AP": 1, "AP50": 1, "AP75": 1})
    assert result["masks"]["box"]["AP"] == pytest.approx(0.6) and result["masks"]["ellipse"]["AP"] == pytest.approx(1)
    plain = evaluate.evaluate(dataset, [found([(10, 10, 90, 90)], [1], [0.9])], "coco", 100)
    assert "hull" not in plain["masks"] and plain["spread"] is None
    assert evaluate.evaluate(dataset, [found([], [], [])], "coco", 100)["masks"]["box"]["AP"] == 0


def test_keypoints_in_one_place_or_on_a_line_have_empty_masks():
    disc = ring((50, 50), 40, 64)
    dataset = datasets.DataSet(["disc"], [1], [sample([(10, 10, 90, 90)], [1], polygons=[[disc]])])
    for points in (np.full((8, 2), 50.0), np.stack((np.linspace(10, 90, 8), np.full(8, 50.0)), 1)):
        result = evaluate.evaluate(dataset, [found([(10, 10, 90, 90)], [1], [0.9]) | {"keypoints": points[None]}],
                                  "coco", 100)
        assert result["masks"]["hull"]["AP50"] == 0 and result["shape"]["hull"] == 0 == result["shape"]["rectangle"]
