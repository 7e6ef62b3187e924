import math

import numpy as np
import pytest
import shapely
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from kaod import geometry

numbers = st.floats(-1000, 1000)
maps = st.builds(
    lambda angle, shift, center: geometry.rigid(torch.tensor(angle, dtype=torch.float64),
                                                torch.tensor(shift, dtype=torch.float64),
                                                torch.tensor(center, dtype=torch.float64)),
    st.floats(-720, 720), st.tuples(numbers, numbers), st.tuples(numbers, numbers))


@given(maps, st.lists(st.tuples(numbers, numbers), min_size=1, max_size=8))
def test_inverse_undoes_a_map(T, points):
    points = torch.tensor(points, dtype=torch.float64)
    back = geometry.transform(geometry.inverse(T), geometry.transform(T, points))
    assert torch.allclose(back, points, atol=1e-4)


@given(maps, st.tuples(numbers, numbers, st.floats(0.1, 500), st.floats(0.1, 500)))
def test_boxes_come_back_through_the_inverse(T, box):
    x, y, w, h = box
    box = torch.tensor([x, y, x + w, y + h], dtype=torch.float64)
    back = geometry.transform(geometry.inverse(T), geometry.transform(T, geometry.corners(box)))
    assert torch.allclose(geometry.enclosing(back), box, atol=1e-4)


@given(maps, st.integers(3, 9), st.integers(0, 99))
def test_polygons_come_back_through_the_inverse(T, count, seed):
    ring = 100 * np.random.default_rng(seed).uniform(-1, 1, (count, 2))
    there = geometry.transform(T, torch.from_numpy(ring))
    back = geometry.transform(geometry.inverse(T), there).numpy()
    assert np.abs(back - ring).max() < 1e-4
    # a rigid map keeps the area, whichever way round
    assert shapely.Polygon(there.numpy()).convex_hull.area == pytest.approx(shapely.Polygon(ring).convex_hull.area)


def test_a_positive_angle_is_clockwise_on_the_screen():
    T = geometry.rigid(torch.tensor(90.0), torch.zeros(2), torch.tensor([5.0, 5.0]))
    right_of_centre = torch.tensor([[9.0, 5.0]])
    assert torch.allclose(geometry.transform(T, right_of_centre), torch.tensor([[5.0, 9.0]]), atol=1e-5)  # below it


@settings(deadline=None, max_examples=40)
@given(st.integers(31, 90), st.integers(31, 90), st.floats(-180, 180), st.floats(-4, 4), st.floats(-4, 4),
       st.integers(0, 9))
def test_a_dot_moves_with_its_point(width, height, angle, dx, dy, seed):
    place = torch.tensor(np.random.default_rng(seed).uniform(0.15, 0.85, 2)) * torch.tensor([width, height])
    size = torch.tensor([width, height], dtype=torch.float64)
    ys, xs = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    dot = torch.exp(-((xs - place[0]) ** 2 + (ys - place[1]) ** 2) / 4).double()
    padded = torch.zeros(1, 1, 96, 96, dtype=torch.float64)
    padded[0, 0, :height, :width] = dot
    T = geometry.rigid(torch.tensor(angle, dtype=torch.float64), torch.tensor([dx, dy]).double(), size / 2)
    moved = geometry.warp_images(padded, T[None], size[None], "constant")[0, 0]
    assert moved[height:].abs().sum() == 0 and moved[:, width:].abs().sum() == 0  # the padding stays empty
    moved = moved[:height, :width]
    found = torch.stack(((moved * xs).sum(), (moved * ys).sum())) / moved.sum()
    expected = geometry.transform(T, place[None])[0]
    assume(((expected >= 5) & (expected <= size - 5)).all())  # a dot that the frame cuts has another middle
    assert (found - expected).abs().max() < 0.5


def test_no_turn_and_no_shift_change_nothing():
    images = torch.rand(2, 3, 20, 30)
    sizes = torch.tensor([[30, 20], [17, 11]])
    T = geometry.rigid(torch.zeros(2), torch.zeros(2, 2), sizes / 2)
    for fill in ("reflect", "constant"):
        warped = geometry.warp_images(images, T, sizes, fill)
        assert torch.allclose(warped[0], images[0], atol=1e-5)
        assert torch.allclose(warped[1, :, :11, :17], images[1, :, :11, :17], atol=1e-5)


def test_reflection_mirrors_each_image_in_its_own_frame():
    images = torch.zeros(1, 1, 16, 16)
    images[0, 0, :8, :8] = torch.arange(8.0)  # the image is 8 × 8, the rest is padding; value = column
    T = geometry.rigid(torch.zeros(1), torch.tensor([[3.0, 0.0]]), torch.tensor([[4.0, 4.0]]))
    row = geometry.warp_images(images, T, torch.tensor([[8, 8]]), "reflect")[0, 0, 0]
    assert row.tolist()[:8] == pytest.approx([2, 1, 0, 0, 1, 2, 3, 4], abs=1e-4)
    assert row[8:].abs().sum() == 0


def test_what_comes_from_outside_is_black_on_all_four_sides():
    still = geometry.rigid(torch.zeros(4), torch.tensor([[2.0, 0], [-2, 0], [0, 2], [0, -2]]), torch.full((4, 2), 4.0))
    left, right, top, bottom = geometry.warp_images(torch.ones(4, 1, 8, 8), still, torch.full((4, 2), 8), "constant")
    for sums, empty in ((left[0].sum(0), slice(2)), (right[0].sum(0), slice(6, 8)),
                        (top[0].sum(1), slice(2)), (bottom[0].sum(1), slice(6, 8))):
        kept = torch.full((8,), 8.0)
        kept[empty] = 0
        assert sums.tolist() == pytest.approx(kept.tolist())


def test_what_comes_from_outside_may_have_each_photos_mean_colour():
    images = torch.zeros(2, 3, 9, 8)
    images[0, :, :4, :8], images[1, :, :9, :6] = torch.rand(3, 4, 8), torch.rand(3, 9, 6)  # the rest is padding
    left = geometry.rigid(torch.zeros(2), torch.tensor([[-2.0, 0]] * 2), torch.full((2, 2), 4.0))
    first, second = geometry.warp_images(images, left, torch.tensor([[8, 4], [6, 9]]), "mean")
    assert torch.allclose(first[:, :4, 6:], images[0, :, :4].mean((1, 2))[:, None, None].expand(3, 4, 2))
    assert torch.allclose(second[:, :, 4:6], images[1, :, :, :6].mean((1, 2))[:, None, None].expand(3, 9, 2))


@pytest.mark.parametrize("fill", ["reflect", "constant"])
def test_no_padding_is_mixed_into_the_border(fill):
    images = torch.full((1, 1, 12, 12), 100.0)
    images[0, 0, :7, :9] = 1
    for dx, dy in ((0.5, 0.5), (-0.5, -0.5)):
        T = geometry.rigid(torch.zeros(1), torch.tensor([[dx, dy]]), torch.tensor([[4.5, 3.5]]))
        warped = geometry.warp_images(images, T, torch.tensor([[9, 7]]), fill)[0, 0]
        assert warped[:7, :9].amax() < 1 + 1e-4 and warped[1:6, 1:8].amin() > 1 - 1e-4


def test_random_maps_use_the_whole_range_of_each_side():
    sizes = torch.tensor([[200.0, 50]]).expand(2000, 2)
    T = geometry.random_rigid(sizes, 30.0, 0.1)
    angles = torch.atan2(T[:, 1, 0], T[:, 0, 0]).rad2deg()
    shifts = geometry.transform(T, sizes[:, None] / 2)[:, 0] - sizes / 2  # of the centre
    for values, reach in ((angles, 30), (shifts[:, 0], 20), (shifts[:, 1], 5)):
        assert -reach <= values.min() < -0.98 * reach and 0.98 * reach < values.max() <= 1.0001 * reach
        assert abs(values.mean()) < 0.1 * reach


def test_a_chance_leaves_the_other_images_exactly_where_they_are():
    sizes = torch.tensor([[200.0, 50]]).expand(2000, 2)
    T = geometry.random_rigid(sizes, 30.0, 0.1, 0.3)
    moved = (T != torch.eye(2, 3)).flatten(1).any(1)
    assert 0.25 < moved.float().mean() < 0.35
    assert torch.equal(geometry.random_rigid(sizes, 30.0, 0.1, 0.0), torch.eye(2, 3).expand(2000, 2, 3))
    images = torch.rand(1, 3, 20, 30)
    still = geometry.warp_images(images, torch.eye(2, 3)[None], torch.tensor([[30, 20]]), "mean")
    assert torch.allclose(still, images, atol=1e-5)


@given(st.floats(10, 500), st.floats(10, 500), st.floats(-90, 90))
def test_the_crop_lies_inside_and_cannot_grow(width, height, angle):
    crop_width, crop_height = geometry.largest_crop(width, height, angle)
    photo = shapely.affinity.rotate(shapely.box(-width / 2, -height / 2, width / 2, height / 2), angle)

    def fits(w, h):
        return shapely.box(-w / 2, -h / 2, w / 2, h / 2).within(photo.buffer(1e-6 * (width + height)))

    assert fits(crop_width, crop_height)
    assert not fits(crop_width * 1.01, crop_height * 1.01)


def test_the_crop_of_a_square_at_30_degrees_keeps_73_percent():
    assert geometry.largest_crop(100, 100, 30) == pytest.approx((73.2, 73.2), abs=0.05)
    assert geometry.largest_crop(100, 50, 0) == (100, 50)


@given(st.floats(-89, 89), st.floats(5, 50), st.floats(1, 4.5))
def test_rotated_boxes_recover_a_rectangle(angle, width, height):
    T = geometry.rigid(torch.tensor(angle, dtype=torch.float64), torch.tensor([7.0, 9.0]).double(),
                       torch.zeros(2).double())
    box = torch.tensor([-width, -height, width, height], dtype=torch.float64) / 2
    points = geometry.transform(T, geometry.corners(box)).numpy()
    rings, (fitted,) = geometry.rotated_boxes(points[None])
    assert fitted[:4] == pytest.approx([7, 9, width, height], abs=1e-6)
    assert math.cos(math.radians(2 * (fitted[4] - angle))) == pytest.approx(1, abs=1e-9)
    # corner by corner, as an overlay of two polygons that differ by rounding may come out as both
    apart = cdist(rings[0][:4], points)
    assert max(apart.min(0).max(), apart.min(1).max()) < 1e-6
    assert shapely.Polygon(rings[0]).area == pytest.approx(width * height)


def test_corners_of_rotated_boxes():
    boxes = np.array([(30, 20, 10, 4, 90), (5, 5, 8, 2, 30), (50, 40, 7, 3, -72.5)])
    rings = geometry.rotated_corners(boxes)
    assert rings[0] == pytest.approx(np.array([(32, 15), (32, 25), (28, 25), (28, 15)]))
    assert rings[1][1, 1] > rings[1][0, 1]  # clockwise on the screen: the right end is lower
    assert geometry.rotated_boxes(rings)[1][1:] == pytest.approx(boxes[1:])
    assert geometry.rotated_corners(np.zeros((0, 5))).shape == (0, 4, 2)


def test_degenerate_sets_have_degenerate_boxes():
    point, line = np.full((16, 2), 3.0), np.linspace((0, 0), (45, 60), 16)
    rings, fitted = geometry.rotated_boxes(np.stack((point, line)))
    assert fitted[0].tolist() == [3, 3, 0, 0, 0] and rings[0].tolist() == [[3, 3]] * 4
    assert fitted[1, :4] == pytest.approx([22.5, 30, 75, 0]) and fitted[1, 4] == pytest.approx(53.13, abs=0.01)
    assert [len(hull) for hull in geometry.hulls(np.stack((point, line)))] == [1, 2]
    assert geometry.rotated_boxes(np.zeros((0, 16, 2)))[1].shape == (0, 5) and geometry.hulls([]) == []


def brute_force(points) -> float:
    """The smallest area of a rectangle along any line through two of the points."""
    areas = []
    for first in points:
        for along in points - first:
            if (length := np.linalg.norm(along)) > 1e-9:
                along = along / length
                areas.append(np.ptp(np.stack((points @ along, points @ (-along[1], along[0]))), axis=1).prod())
    return min(areas)  # of more lines than those along the hull, which are enough


whole = st.integers(0, 4)
sets = st.one_of(
    st.builds(lambda count, seed: np.random.default_rng(seed).normal(size=(count, 2)) * (30, 10),
              st.integers(3, 20), st.integers(0, 999)),
    st.lists(st.tuples(whole, whole), min_size=3, max_size=12).map(lambda points: np.array(points, float)),  # in lines
    st.builds(lambda count, seed: np.random.default_rng(seed).normal(size=(count, 2)) * (30, 1e-6),  # nearly a line
              st.integers(3, 12), st.integers(0, 999)))


@settings(max_examples=300)
@given(sets, st.floats(-180, 180))
@example(np.array([(2, 2), (2, 1), (2, 3), (3, 0), (1, 2), (0, 3)], float), -5.0)
def test_the_rotated_box_is_the_smallest_of_all(points, angle):
    assume(len(np.unique(points, axis=0)) > 1)
    T = geometry.rigid(torch.tensor(angle, dtype=torch.float64), torch.zeros(2).double(), torch.zeros(2).double())
    points = geometry.transform(T, torch.from_numpy(points)).numpy()
    rings, (fitted,) = geometry.rotated_boxes(points[None])
    assert fitted[2] * fitted[3] == pytest.approx(brute_force(points), rel=1e-6, abs=1e-6)
    assert shapely.Polygon(rings[0]).buffer(1e-6).covers(shapely.multipoints(points))
    first, second = rings[0][1] - rings[0][0], rings[0][2] - rings[0][1]
    assert first[0] * second[1] - first[1] * second[0] >= -1e-9  # clockwise on the screen


@given(st.floats(-180, 180), st.floats(-20, 20))
def test_the_box_of_a_turned_ellipse_is_that_of_its_points(angle, shift):
    T = geometry.rigid(torch.tensor(angle), torch.tensor([shift, -shift]), torch.tensor([40.0, 30])).double()
    box = torch.tensor([10.0, 20, 60, 40]).double()
    turn = torch.linspace(0, 2 * math.pi, 2000, dtype=torch.float64)
    ellipse = torch.tensor([35.0, 30]) + torch.stack((25 * turn.cos(), 10 * turn.sin()), 1)
    expected = geometry.enclosing(geometry.transform(T, ellipse))
    found = geometry.ellipse_boxes(T, box)
    assert torch.allclose(found, expected, atol=1e-3)
    outer = geometry.enclosing(geometry.transform(T, geometry.corners(box)))
    assert (found[:2] >= outer[:2] - 1e-6).all() and (found[2:] <= outer[2:] + 1e-6).all()
    assert torch.allclose(geometry.ellipse_boxes(T[None], box[None])[0], found)


def test_masks_are_the_hulls_pixels():
    turn = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    circle = np.stack((50 + 20 * np.cos(turn), 40 + 20 * np.sin(turn)), 1)
    star = circle.copy()
    star[::2] = (50, 40) + (star[::2] - (50, 40)) / 3
    point, line = np.full((32, 2), 30.5), np.linspace((0, 0), (60, 60), 32)  # through pixels' centres
    outside = circle - (50, 0)
    sets = np.stack((circle, star, point, line, outside))
    masks = geometry.masks(sets, (100, 80))
    assert masks.shape == (5, 80, 100) and masks.dtype == bool
    ys, xs = np.mgrid[:80, :100] + 0.5
    exact = shapely.contains_xy(shapely.Polygon(circle), xs, ys)
    assert (masks[0] == exact).all() and masks[1].sum() > 0.9 * exact.sum()
    assert not masks[2].any() and not masks[3].any()
    assert masks[4].sum() == pytest.approx(exact.sum() / 2, rel=0.05)  # cut at the image's border
    assert geometry.masks(np.zeros((0, 8, 2)), (10, 10)).shape == (0, 10, 10)


def test_the_area_of_outlines_holds_no_lines():
    """Annotators' outlines go out and back along one line, cross themselves and overlap."""
    square = np.array([[0, 0], [10, 0], [10, 10], [0, 10]], float)
    spike = np.array([[0, 0], [10, 0], [10, 5], [20, 5], [10, 5], [10, 10], [0, 10]], float)
    bow = np.array([[30, 0], [40, 10], [40, 0], [30, 10]], float)
    assert geometry.polygon([spike]).equals(shapely.Polygon(square))
    assert geometry.polygon([square, square + 5]).area == pytest.approx(175)
    for parts in ([spike], [bow], [spike, bow], [spike, square + 5]):
        area = geometry.polygon(parts)
        assert area.is_valid and {part.geom_type for part in shapely.get_parts(area)} == {"Polygon"}
    assert geometry.polygon([spike[2:5]]).is_empty


@pytest.mark.parametrize("order", [1, -1])
def test_the_principal_axis_is_that_of_the_area_wherever_the_vertices_are_and_whichever_way_round(order):
    ring = np.array([(0, 0), (40, 0), (40, 1), (40, 3), (40, 4), (40, 20), (0, 20)], float)[::order]
    x, y = geometry.principal_axis(ring)
    assert abs(x) == pytest.approx(1) and y == pytest.approx(0, abs=1e-9)


@given(st.floats(-180, 180), st.floats(20, 90), st.floats(0.2, 0.9), st.floats(0.5, 1.5), st.booleans())
@example(45.0, 60.0, 0.4, 1.0, True)  # where the box knows the sum of the sides alone
def test_a_rectangle_is_found_from_its_box_and_a_hull_of_its_form(angle, length, ratio, scale, fills):
    """Also where the hull is too small, as soft extents are, or too large."""
    half = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (length, length * ratio) / 2
    turn = geometry.rigid(torch.tensor(angle).double(), torch.zeros(2).double(), torch.zeros(2).double())
    true = geometry.transform(turn, torch.from_numpy(half)).numpy() + (50, 40)
    box = np.concatenate((true.min(0), true.max(0)))
    found = geometry.rectangle_in_box((true - 7) * scale, box, fills)
    shapes = shapely.Polygon(found), shapely.Polygon(true)
    assert shapes[0].symmetric_difference(shapes[1]).area < 1e-3 * shapes[1].area
    (x, y), (z, w) = found[1] - found[0], found[2] - found[1]
    assert x * w - y * z > 0  # clockwise on the screen


def test_an_upright_objects_sides_are_rather_the_boxs_than_the_hulls():
    ring, box = geometry.corners(np.array([0.0, 0, 40, 30])), np.array([0.0, 0, 40, 20])
    sides = np.ptp(geometry.rectangle_in_box(ring, box, True), axis=0)
    of_hull = np.array([40, 30]) * np.sqrt(20 / 30)  # at the box's area
    assert np.abs(sides - (40, 20)).max() < np.abs(sides - of_hull).max() / 2


def test_what_does_not_fill_its_rectangle_has_a_larger_one_than_its_box_alone_says():
    turn = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    ring = np.stack((40 * np.cos(turn), 10 * np.sin(turn)), 1)
    angle = np.radians(30)
    axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    ring = ring @ axes + (60, 50)
    box = np.concatenate((ring.min(0), ring.max(0)))
    true = shapely.Polygon([(-40, -10), (40, -10), (40, 10), (-40, 10)] @ axes + (60, 50))
    loose, filled = (shapely.Polygon(geometry.rectangle_in_box(ring, box, fills)) for fills in (False, True))
    assert loose.symmetric_difference(true).area < 0.01 * true.area and filled.area < 0.9 * true.area
