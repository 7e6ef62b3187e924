import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torchvision.ops import box_iou

from kaod import geometry, losses, params

SETTINGS = params.load("shapes")[0].keypoints


def keypoint_loss(P, P_T, T, mask, area, hungarian: bool, settings=SETTINGS):
    return losses.keypoint_loss(losses.Pairs(P, P_T, T, mask, area), replace(settings, hm=hungarian))


def levels_of(height, width, strides=(8, 16, 32, 64, 128)):
    """FCOS's levels for a padded size: their grids, and by level each location's place."""
    grids, places = [], []
    for stride in strides:
        h, w = height // stride, width // stride
        ys, xs = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        places.append(torch.stack((xs, ys), -1).flatten(0, 1).double() * stride)
        grids.append((h, w))
    return grids, places, strides


@pytest.mark.parametrize("size", [(128, 128), (256, 384), (640, 128)])
@pytest.mark.parametrize("level", range(5))
def test_the_field_of_places_reads_as_the_place(size, level):
    grids, places, strides = levels_of(*size)
    field = torch.cat(places)[None, :, None].expand(2, -1, 3, -1)  # P(o) = o, at all three keypoints
    (h, w), stride, start = grids[level], strides[level], sum(map(len, places[:level]))
    reach = torch.tensor([(w - 1) * stride, (h - 1) * stride])
    points = torch.rand(50, 2, dtype=torch.float64) * reach
    image = torch.arange(50) % 2
    location = start + torch.arange(50) % len(places[level])  # any location of the level says which one it is
    read = losses.read_field(field, points, image, location, grids, strides)
    assert (read - points[:, None]).abs().max() < 1e-4


@given(st.floats(-180, 180), st.floats(-30, 30), st.floats(-30, 30), st.randoms(use_true_random=False))
def test_an_equivariant_oracle_has_no_loss(angle, dx, dy, random):
    generator = torch.Generator().manual_seed(random.randrange(1000))
    P = 100 * torch.rand(5, 8, 2, dtype=torch.float64, generator=generator)
    T = geometry.rigid(torch.tensor([angle] * 5), torch.tensor([[dx, dy]] * 5), torch.tensor([[64.0, 48.0]] * 5))
    T = T.double()
    P_T = geometry.transform(T, P)
    mask, area = torch.ones(5, dtype=torch.bool), torch.full((5,), 400.0).double()
    shuffled = P_T[:, torch.randperm(8, generator=generator).roll(1)]
    zero = [keypoint_loss(P, view, T, mask, area, True, SETTINGS) for view in (P_T, shuffled)]
    assert max(zero) < 1e-8  # T was rounded to single precision
    assert keypoint_loss(P, P_T.roll(1, 1), T, mask, area, False, SETTINGS) > 1e-4


def test_the_matching_never_loses_to_another_order():
    P, Q = torch.randn(20, 6, 2), torch.randn(20, 6, 2)
    matched = losses.matched_costs(P, Q, True, 0.1).sum(1)
    for _ in range(50):
        order = torch.randperm(6)
        assert (matched <= losses.matched_costs(P, Q[:, order], False, 0.1).sum(1) + 1e-5).all()


@pytest.mark.parametrize("smooth_l1", [0.1, 1.0, 5.0])
def test_the_loss_is_square_to_the_bend_and_linear_beyond_and_the_matching_minimises_this_very_loss(smooth_l1):
    P, Q = torch.randn(2, 30, 4, 2, dtype=torch.float64) * 2
    apart = (P[:, :, None] - Q[:, None]).abs()
    costs = torch.where(apart < smooth_l1, apart ** 2 / (2 * smooth_l1), apart - smooth_l1 / 2).sum(-1)
    still = geometry.rigid(torch.zeros(30), torch.zeros(30, 2), torch.zeros(30, 2)).double()
    everywhere, area = torch.ones(30, dtype=torch.bool), torch.ones(30).double()
    chosen = replace(SETTINGS, smooth_l1=smooth_l1, reduction="sum")
    by_index = costs.diagonal(dim1=1, dim2=2).sum()
    assert keypoint_loss(P, Q, still, everywhere, area, False, chosen).item() == pytest.approx(by_index.item())
    orders = torch.stack([costs[:, range(4), order].sum(1) for order in itertools.permutations(range(4))])
    best = orders.min(0)[0].sum()
    assert best < by_index
    assert keypoint_loss(P, Q, still, everywhere, area, True, chosen).item() == pytest.approx(best.item(), rel=1e-6)


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(2, 20), st.sampled_from(["random", "tied", "close"]), st.integers(0, 99))
def test_matching_equals_scipy_and_a_batch_its_problems(count, k, kind, seed):
    generator = torch.Generator().manual_seed(seed)
    costs = torch.rand(count, k, k, generator=generator)
    costs = {"random": costs, "tied": (costs * 3).round(), "close": 1 + costs * 1e-5}[kind]
    columns = losses.match(costs)
    for problem, chosen in zip(costs, columns):
        rows, best = linear_sum_assignment(problem.numpy())
        assert sorted(chosen.tolist()) == list(range(k))
        assert problem[range(k), chosen].sum() == pytest.approx(problem[rows, best].sum().item())
        assert (losses.match(problem[None])[0] == chosen).all()


@pytest.mark.cuda
@pytest.mark.parametrize("kind", ["random", "tied", "close"])
def test_matching_on_a_gpu_costs_what_scipys_does(kind):
    costs = torch.rand(500, 16, 16)
    costs = {"random": costs, "tied": (costs * 3).round(), "close": 1 + costs * 1e-5}[kind]
    found, expected = losses.match(costs.cuda()).cpu(), losses.match(costs)
    assert (found.sort(1)[0] == torch.arange(16)).all()
    assert torch.allclose(*(costs.gather(2, columns[..., None]).sum((1, 2)) for columns in (found, expected)))


def test_matching_refuses_nan():
    costs = torch.rand(2, 4, 4)
    costs[1, 2, 3] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        losses.match(costs)


def test_soft_extent_is_bounded_and_tends_to_the_hard_one():
    offsets = torch.randn(50, 16, 2, dtype=torch.float64)
    hard = torch.cat((-offsets.amin(-2), offsets.amax(-2)), -1)
    last = None
    for sharpness in (1, 4, 16, 64, 1000):
        soft = losses.keypoints_to_boxes(offsets, sharpness)
        assert (soft <= hard + 1e-9).all()
        assert last is None or (soft >= last - 1e-9).all()
        last = soft
    assert (last - hard).abs().max() < 1e-2


def test_soft_extent_trains_every_keypoint_and_is_stable():
    offsets = torch.randn(3, 16, 2, requires_grad=True)
    losses.keypoints_to_boxes(offsets, 2).sum().backward()
    assert (offsets.grad != 0).all()
    far = (1e4 * torch.randn(3, 16, 2)).requires_grad_()
    box = losses.keypoints_to_boxes(far, 4)
    box.sum().backward()
    assert torch.isfinite(box).all() and torch.isfinite(far.grad).all()


def test_the_mask_drops_what_left_the_frame():
    boxes = torch.tensor([[40.0, 40, 60, 60], [0, 40, 20, 60], [80, 80, 99, 99]])
    o = (boxes[:, :2] + boxes[:, 2:]) / 2
    size = torch.full((3, 2), 100.0)
    still = geometry.rigid(torch.zeros(3), torch.zeros(3, 2), size / 2)
    assert losses.object_mask(o, boxes, still, size).all()
    left = geometry.rigid(torch.zeros(3), torch.tensor([[-5.0, 0]] * 3), size / 2)
    assert losses.object_mask(o, boxes, left, size).tolist() == [True, False, True]  # the second lost a quarter
    padding = torch.tensor([[104.0, 50]] * 3)  # in the batch's padding, moved into the frame
    back = geometry.rigid(torch.zeros(3), torch.tensor([[-6.0, 0]] * 3), size / 2)
    assert not losses.object_mask(padding, torch.cat((padding, padding), 1), back, size).any()
    turned = geometry.rigid(torch.full((3,), 45.0), torch.zeros(3, 2), size / 2)
    assert losses.object_mask(o, boxes, turned, size).tolist() == [True, True, False]  # a corner turns out


@pytest.mark.parametrize("gone, kept", [(0.15, False), (0.06, True)])
def test_nine_tenths_of_an_object_must_be_visible_unless_a_setting_says_otherwise(gone, kept):
    box, size = torch.tensor([[0.0, 40, 40, 60]]), torch.full((1, 2), 100.0)
    T = geometry.rigid(torch.zeros(1), torch.tensor([[-40 * gone, 0]]), size / 2)
    for share in ({}, {"share": SETTINGS.visible}):
        assert losses.object_mask(geometry.centers(box), box, T, size, **share).item() == kept


def test_the_share_that_must_be_visible_is_a_setting_and_0_asks_for_centres_alone():
    """A box of which a quarter, and one of which all but a part of the left half, leaves the frame."""
    boxes, size = torch.tensor([[0.0, 40, 20, 60], [0, 40, 20, 60]]), torch.full((2, 2), 100.0)
    o = torch.tensor([[10.0, 50], [1, 50]])
    left = geometry.rigid(torch.zeros(2), torch.tensor([[-5.0, 0]] * 2), size / 2)
    for share, kept in ((0.9, False), (0.76, False), (0.75, True), (0.5, True), (0, True)):
        assert losses.object_mask(o, boxes, left, size, share).tolist() == [kept, False]  # the second T(o) is outside
    far = geometry.rigid(torch.zeros(1), torch.tensor([[-10.0, 0]]), size[:1] / 2)
    assert losses.object_mask(o[:1], boxes[:1], far, size[:1], 0).tolist() == [True]  # half is out, the centre is not


@given(st.floats(-180, 180), st.floats(-40, 40))
def test_the_visible_share_is_that_of_the_polygon(angle, shift):
    import shapely

    box, size = torch.tensor([[20.0, 30, 70, 60]]), torch.tensor([[100.0, 80.0]])
    T = geometry.rigid(torch.tensor([angle]), torch.tensor([[shift, 0.0]]), size / 2)
    ring = shapely.Polygon(geometry.transform(T, geometry.corners(box))[0].numpy())
    exact = ring.intersection(shapely.box(0, 0, 100, 80)).area / ring.area
    assert losses.visible(box, T, size).item() == pytest.approx(exact, abs=0.04)


def test_both_views_keypoints_are_trained():
    P, P_T = torch.rand(4, 8, 2, requires_grad=True), torch.rand(4, 8, 2, requires_grad=True)
    T = geometry.rigid(torch.zeros(4), torch.zeros(4, 2), torch.zeros(4, 2))
    keypoint_loss(P, P_T, T, torch.ones(4, dtype=torch.bool), torch.ones(4), True).backward()
    assert P.grad.abs().sum() > 0 and P_T.grad.abs().sum() > 0


def test_distances_count_in_units_of_the_object_and_are_summed_or_averaged():
    P = torch.rand(4, 8, 2, dtype=torch.float64) * 30
    still = geometry.rigid(torch.zeros(4), torch.zeros(4, 2), torch.zeros(4, 2)).double()
    mask, moved = torch.tensor([True, True, True, False]), P + 5.0
    area = torch.full((4,), 400.0, dtype=torch.float64)

    def loss(P, moved, area, **changes):
        return keypoint_loss(P, moved, still, mask, area, True, replace(SETTINGS, **changes)).item()

    assert loss(3 * P, 3 * moved, 9 * area) == pytest.approx(loss(P, moved, area))  # all three times as large
    assert loss(3 * P, 3 * moved, 9 * area, normalize=False) > 2 * loss(P, moved, area, normalize=False)
    assert loss(P, moved, area, reduction="sum") == pytest.approx(3 * 8 * loss(P, moved, area, reduction="mean"))


def test_no_location_left_costs_nothing():
    P = torch.rand(3, 8, 2, requires_grad=True)
    T = geometry.rigid(torch.zeros(3), torch.zeros(3, 2), torch.zeros(3, 2))
    for reduction in ("mean", "sum"):
        loss = keypoint_loss(P, P * 2, T, torch.zeros(3, dtype=torch.bool), torch.ones(3), True,
                                    replace(SETTINGS, reduction=reduction))
        loss.backward()
        assert loss == 0


def test_iou_loss_is_minus_ln_of_torchvisions_iou():
    wanted, found = 1 + torch.rand(50, 4), 0.5 + torch.rand(50, 4)
    boxes = [torch.cat((-each[:, :2], each[:, 2:]), 1) for each in (found, wanted)]
    assert torch.allclose(losses.iou_loss(found, wanted), -box_iou(*boxes).diag().log(), atol=1e-5)
    apart = torch.tensor([[-5.0, 1, 6, 1]])  # the location lies left of the found box, outside it
    assert losses.iou_loss(apart, torch.ones(1, 4)).item() == pytest.approx(-math.log(1e-6))


def test_separation_punishes_points_in_one_place_alone():
    boxes = torch.tensor([[0.0, 0, 10, 20]])
    apart = torch.tensor([[[0.0, 0], [10, 0], [10, 20], [0, 20]]])
    assert losses.separation(apart, boxes, 0.1) == 0 and losses.separation(apart * 0, boxes, 0.1) == 1
    half = torch.tensor([[[0.0, 0], [0.5, 1]]])  # a twentieth of the width and of the height: √.005 of .1
    assert losses.separation(half, boxes, 0.1).item() == pytest.approx(0.5)
    near = torch.tensor([[[0.0, 0], [0.5, 0]]], requires_grad=True)
    losses.separation(near, boxes, 0.1).sum().backward()
    assert near.grad[0, 0, 0] > 0 > near.grad[0, 1, 0]  # downhill is apart


def test_the_gauge_is_zero_for_one_point_and_half_for_an_outline():
    boxes = torch.tensor([[0.0, 0, 10, 10]] * 2)
    turn = torch.arange(16) * 2 * torch.pi / 16
    circle = 5 + 5 * torch.stack((turn.cos(), turn.sin()), 1)
    collapsed, spread = losses.spread(torch.stack((torch.full((16, 2), 5.0), circle)), boxes).tolist()
    assert collapsed == 0 and 0.4 < spread < 0.55


def test_the_gauge_is_the_mean_distance_of_pairs_over_the_diagonal():
    triangle = torch.tensor([[[3.0, 0], [0, 0], [0, 4]]])  # sides 3, 4 and 5
    assert losses.spread(triangle, torch.tensor([[1.0, 1, 7, 9]])).item() == pytest.approx(4 / 10)
