from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import ring
from hypothesis import assume, example, given
from hypothesis import strategies as st

from kaod import geometry, losses, model
from kaod.data import datasets, warp
from kaod.evaluation import evaluate, turning

ANGLES = [angle for angle in warp.ANGLES if angle]
ANY, SWEEP, SEEDS = st.floats(-180, 180), st.sampled_from(ANGLES), st.integers(0, 999)


def moved(angle, count: int, shift=(0.0, 0.0)):
    """Maps (count, 2, 3) that turn by `angle` about a photo's centre."""
    return geometry.rigid(torch.full((count,), angle, dtype=torch.float64), torch.tensor([shift] * count).double(),
                          torch.full((count, 2), 64.0, dtype=torch.float64))


def pairs(P, P_T, T, area=400.0):
    mask = torch.ones(len(P), dtype=torch.bool)
    return losses.Pairs(P, P_T, T, mask, torch.full((len(P),), area, dtype=torch.float64))


def blind(P, o, T):
    """Keypoints that only the location moves."""
    return P - o[:, None] + geometry.transform(T, o[:, None])


def away(first, second) -> float:
    """Degrees between two angles."""
    return abs((first - second + 180) % 360 - 180)


def draw(seed: int, count: int = 3, K: int = 8):
    """Sets of keypoints (count, K, 2) in any position, and locations (count, 2)."""
    generator = torch.Generator().manual_seed(seed)
    return (128 * torch.rand(size, dtype=torch.float64, generator=generator) for size in ((count, K, 2), (count, 2)))


@given(ANY, st.tuples(st.floats(-30, 30), st.floats(-30, 30)), st.integers(3, 40), SEEDS)
@example(0.0625, (0.25, 4.0), 3, 3)  # whose hulls GEOS finds apart
def test_a_set_that_turns_has_its_turn_no_distance_and_one_hull(angle, shift, K, seed):
    P, o = draw(seed, K=K)
    T = moved(angle, 3, shift)
    found = turning.figures(pairs(P, geometry.transform(T, P), T), o, angle)
    assert away(found["turn"], angle) < 1e-6 and away(found["turn_matched"], angle) < 1e-6
    assert found["distance"] < 1e-9 and found["distance_matched"] < 1e-9
    assert found["hull"] == pytest.approx(1)


@given(ANY, st.integers(3, 40), SEEDS)
def test_the_order_of_a_set_that_turns_is_seen_by_index_alone(angle, K, seed):
    P, o = draw(seed, K=K)
    T = moved(angle, 3)
    order = torch.randperm(K, generator=torch.Generator().manual_seed(seed))
    assume((order != torch.arange(K)).any())
    found = turning.figures(pairs(P, geometry.transform(T, P)[:, order], T), o, angle)
    assert found["distance_matched"] < 1e-9 and found["hull"] == pytest.approx(1)
    assert away(found["turn_matched"], angle) < 1e-6 and found["distance"] > 1e-3


@given(SWEEP, st.integers(4, 64), st.floats(0.2, 1), SEEDS)
def test_a_blind_ring_of_any_number_is_told_from_one_that_turns(angle, K, flat, seed):
    """Round or flat: by the turn and by the distance, by index; a flat one also by its hulls."""
    _, o = draw(seed)
    P = o[:, None] + torch.from_numpy(ring((3, -2), 10, K)) * torch.tensor([1, flat])
    T = moved(angle, 3)
    not_turned, turns = (turning.figures(pairs(P, P_T, T), o, angle)
                         for P_T in (blind(P, o, T), geometry.transform(T, P)))
    assert away(not_turned["turn"], 0) < 1e-6 and away(turns["turn"], angle) < 1e-6
    # each point is off by its chord: a point at radius r by 2 r sin(angle / 2)
    assert not_turned["distance"] > flat * np.sin(np.radians(abs(angle) / 2)) / 2 and turns["distance"] < 1e-9
    assert not_turned["hull_unturned"] == pytest.approx(1) and turns["hull"] == pytest.approx(1)
    assert not_turned["hull"] <= not_turned["hull_unturned"] + 1e-6
    if flat < 0.7:
        assert not_turned["hull_unturned"] > not_turned["hull"] + 0.01
        assert turns["hull"] > turns["hull_unturned"] + 0.01


@pytest.mark.parametrize("K, angle", [(12, 30), (24, 15), (48, -45), (4, 90)])
def test_a_blind_ring_passes_what_is_matched(K, angle):
    """So the matched figures alone, as they once were, say nothing."""
    o = torch.full((1, 2), 50.0).double()
    P, T = torch.from_numpy(ring((50, 50), 10, K))[None], moved(float(angle), 1)
    found = turning.figures(pairs(P, blind(P, o, T), T), o, angle)
    assert found["distance_matched"] < 1e-9 and found["turn_matched"] == pytest.approx(angle)
    assert found["hull"] == pytest.approx(1)
    assert found["turn"] == pytest.approx(0) and found["distance"] > 0.05


def test_units_weights_and_the_mask():
    """Distances are in √area. A large object's turn counts as much as a small one's; what is masked does not count."""
    o = torch.tensor([[30.0, 30], [90, 90], [60, 60]]).double()
    size = torch.tensor([1.0, 10, 3]).double()
    P = o[:, None] + size[:, None, None] * torch.from_numpy(ring((0, 0), 1, 8))
    T = moved(30.0, 3)
    P_T = geometry.transform(T, P)
    P_T[1] = blind(P, o, T)[1]
    P_T[2] += 1000
    of_all = replace(pairs(P, P_T, T), area=4 * size ** 2, mask=torch.tensor([True, True, False]))
    found = turning.figures(of_all, o, 30)
    assert found["turn"] == pytest.approx(15)
    assert found["distance"] == pytest.approx(np.sin(np.radians(15)) / 2)  # 2 r sin(15°) / 2 r, and 0
    assert turning.compare(replace(of_all, mask=~of_all.mask & False), o, torch.cat((o, o), 1), 30) is None


@given(SWEEP, st.integers(3, 64), st.floats(1, 4), SEEDS)
def test_blind_and_perfect_sets_stand_beside_any_model(angle, K, long, seed):
    P, o = draw(seed, K=K)
    T = moved(angle, 3)
    boxes = torch.cat((o - torch.tensor([10, 10 * long]), o + torch.tensor([12, 11 * long])), 1)
    found = turning.compare(pairs(P, geometry.transform(T, P), T), o, boxes, angle)
    assert list(found) == ["model", "ring", "ellipse", "perfect"] and found["model"] == found["perfect"]
    assert away(found["ring"]["turn"], 0) < 1e-6 and away(found["ellipse"]["turn"], 0) < 1e-6
    assert found["ring"]["hull_unturned"] == pytest.approx(1)
    assert found["ring"]["distance"] > 0 and found["ellipse"]["distance"] > 0
    assert 0 < found["ellipse"]["hull"] < 1 + 1e-6


def test_the_hull_of_the_ellipse_follows_the_box_and_its_points_do_not():
    """So hulls that agree better when turned back do not show that keypoints turn."""
    boxes = torch.tensor([[10.0, 10, 90, 30]]).double()
    o, T = torch.tensor([[30.0, 14]]).double(), moved(90.0, 1)
    P = turning.ellipses(boxes, 16)
    found = turning.compare(pairs(P, P, T), o, boxes, 90)["ellipse"]
    assert found["hull"] == pytest.approx(1) and found["hull_unturned"] < 0.5
    assert away(found["turn"], 0) < 1e-6 and found["distance"] > 0.5


def test_the_ellipse_touches_the_box():
    boxes = torch.tensor([[10.0, 20, 30, 80]]).double()
    points = turning.ellipses(boxes, 64)
    assert torch.allclose(geometry.enclosing(points), boxes) and points.mean(1).tolist() == [[20, 50]]


def test_points_on_a_line_have_no_hull_and_a_turn():
    o = torch.full((1, 2), 20.0).double()
    P, T = torch.tensor([[[10.0, 10], [30, 30]]]).double(), moved(-60.0, 1)
    found = turning.figures(pairs(P, geometry.transform(T, P), T), o, -60)
    assert found["hull"] is None is found["hull_unturned"] and found["turn"] == pytest.approx(-60)


@pytest.fixture
def untrained(tiny):
    settings = tiny[0]
    return model.build(settings.model, settings.keypoints, 7, 16).eval()


def test_a_network_is_read_where_objects_are(drawn, untrained):
    photos = [datasets.Photos(drawn[0])[i] for i in range(4)]
    images = [image.float() / 255 for image, _ in photos]
    targets = [{key: target[key] for key in ("boxes", "labels")} for _, target in photos]
    still, turned = (evaluate.turned(untrained, images, [dict(each) for each in targets], angle)
                     for angle in (0.0, 30.0))
    assert len(still["mask"]) > 10 and (still["P"] - still["P_T"]).abs().max() < 1e-3
    assert all(len(each) == len(turned["mask"]) for each in turned.values())
    o, boxes = still["o"], still["boxes"]
    assert ((boxes[:, :2] <= o) & (o <= boxes[:, 2:])).all()  # a location learns an object that it lies in
    assert (still["P"].mean(1) - o).abs().max() < 5  # keypoints start on a circle around it


def test_an_untrained_network_is_a_blind_ring(drawn, untrained):
    found = evaluate.turns(untrained, drawn[0], most=2)
    assert found.keys() == {str(angle) for angle in ANGLES if angle > 0}
    for each in found.values():
        assert abs(each["model"]["turn"]) < 5 and away(each["perfect"]["turn"], 0) >= 14.9
        assert each["model"]["distance"] == pytest.approx(each["ring"]["distance"], rel=0.2)
        assert each["model"]["hull_unturned"] > each["model"]["hull"] - 0.05
        assert each["model"].keys() == each["ellipse"].keys()


def test_without_an_object_there_is_nothing_to_turn(drawn, untrained):
    ignored = [replace(each, ignore=np.ones(len(each.labels), bool)) for each in drawn[0]]
    assert evaluate.turns(untrained, ignored) is None
