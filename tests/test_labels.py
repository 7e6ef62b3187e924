"""Labels that turn with the photo: locations and keypoints of a turned view go back to where the box is exact."""

import functools
from dataclasses import replace

import pytest
import torch
from conftest import built
from hypothesis import assume, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.models.detection.image_list import ImageList

from kaod import geometry, losses, model, params

PROFILE, MODELS = params.load("tiny")
SIZES = [(128, 100), (90, 128), (61, 77)]  # height and width: padded in the batch


def detector(layers=(), **changes):
    profile = params.apply(PROFILE, MODELS["kaod"])
    torch.manual_seed(0)
    return model.build(replace(profile.model, **dict(layers)), replace(profile.keypoints, **{"chance": 1} | changes), 7,
                       8).train()


def drawn_photos():
    generator = torch.Generator().manual_seed(3)
    images = [torch.rand(3, *size, generator=generator) for size in SIZES]
    boxes = [[(10.0, 10, 60, 70), (50, 60, 98, 120), (20, 20, 40, 36)], [(30.0, 20, 100, 80)], []]
    return images, [{"boxes": torch.tensor(each).reshape(-1, 4), "labels": torch.arange(1, len(each) + 1)}
                    for each in boxes]


PHOTOS = drawn_photos()


def learned(made, monkeypatch):
    """The losses, gradients and matches of one step on the photos."""
    seen, original = [], model.KAOD.matched_losses
    monkeypatch.setattr(model.KAOD, "matched_losses",
                        lambda *given: seen.append(original(*given)) or seen[-1])
    torch.manual_seed(1)
    found = made(*PHOTOS)
    sum(value for name, value in found.items() if name != "spread").backward()
    monkeypatch.undo()
    return found, {name: weight.grad for name, weight in made.named_parameters()}, seen


@pytest.mark.parametrize("fill", ["reflect", "constant", "mean"])
def test_with_t_the_identity_a_turned_view_teaches_what_the_photo_does_to_the_bit(monkeypatch, fill):
    still = {"angle": 0.0, "shift": 0.0, "fill": fill}
    (first, gradients, (matched,)), (turned, others, (again,)) = (
        learned(detector(labels=labels, **still), monkeypatch) for labels in ("first", "turned"))
    assert first.keys() == turned.keys() and all(torch.equal(first[name], turned[name]) for name in first)
    assert all(torch.equal(gradient, others[name]) for name, gradient in gradients.items())
    assert len(matched[1].image) > 10
    assert all(torch.equal(value, vars(again[1])[name]) for name, value in vars(matched[1]).items())


def test_labels_on_both_views_cost_the_mean_of_what_they_cost_on_either(monkeypatch):
    found = {labels: learned(detector(labels=labels), monkeypatch)[0] for labels in ("first", "turned", "both")}
    for name in ("classification", "bbox_regression", "bbox_ctrness"):
        first, turned = found["first"][name].item(), found["turned"][name].item()
        assert found["both"][name].item() == pytest.approx((first + turned) / 2, rel=1e-5)
        assert first != pytest.approx(turned, rel=1e-4)
    assert "keypoints" not in found["both"]


@pytest.mark.parametrize("labels, kpl, views", [
    ("first", False, 1), ("turned", False, 1), ("both", False, 2), ("first", True, 2), ("turned", True, 2),
    ("both", True, 2)])
def test_no_view_and_no_box_is_computed_that_nothing_learns_from(monkeypatch, labels, kpl, views):
    made, seen, boxes, original = detector(labels=labels, kpl=kpl), [], [], losses.keypoints_to_boxes
    made.backbone.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    monkeypatch.setattr(losses, "keypoints_to_boxes", lambda *given: boxes.append(len(given[0])) or original(*given))
    assert ("keypoints" in made(*PHOTOS)) == kpl and seen == [3 * views]
    # the paper's second view has points alone; and of 1,023 locations few learn a box
    assert len(boxes) == (1 if labels == "first" else views) and all(0 < each < 100 for each in boxes)


untrained = functools.cache(detector)  # nothing below changes it, and building one takes a tenth of a second


def of_view(T, points, photos=slice(None), sharpness=4.0, **changes):
    """What is learned on T (N, 2, 3) of the PHOTOS: losses and matches, with the keypoints (K, 2) in pixels of the view
    that points(o_T) gives for its locations o_T (L, 2). All in float64, without a backbone."""
    sizes = torch.tensor(SIZES)[photos].flip(1).double()
    targets = [{**each, "boxes": each["boxes"].double()} for each in PHOTOS[1][photos]]
    grids = [(128 // stride,) * 2 for stride in model.STRIDES]
    made = untrained((("sharpness", sharpness),), labels="turned", **changes)
    images = ImageList(torch.zeros(len(T), 3, 128, 128).double(), SIZES[photos])
    anchors = made.anchor_generator(images, [torch.zeros(len(T), 3, *grid).double() for grid in grids])[0]
    o_T, side = geometry.centers(anchors), anchors[:, 2:] - anchors[:, :2]
    offsets = ((points(o_T) - o_T[:, None]) / side[:, None]).expand(len(T), -1, -1, -1)
    generator = torch.Generator().manual_seed(0)
    second = {"offsets": offsets, "cls_logits": torch.zeros(*offsets.shape[:2], 8).double(),
              "bbox_ctrness": torch.randn(*offsets.shape[:2], 1, generator=generator).double()}
    views = losses.Views({}, second, T, sizes, anchors, grids)
    return *made.turned_losses(targets, views), views, targets


def maps(angle: float, shift: float = 0.0) -> torch.Tensor:
    sizes = torch.tensor([(width, height) for height, width in SIZES]).double()
    return geometry.rigid(torch.full((3,), angle).double(), shift * sizes, sizes / 2)


ONE = torch.tensor([30.0, 20, 100, 80]).double()  # the second photo's only object


def outline(angle: float) -> torch.Tensor:
    """Eight points on the ellipse inscribed in ONE and on its box: the box is theirs."""
    turn = torch.arange(4).double() * torch.pi / 2
    ends = torch.stack((turn.cos(), turn.sin()), 1)  # where the ellipse touches the box
    turn = turn + angle
    others = torch.stack((turn.cos(), turn.sin()), 1)
    half = (ONE[2:] - ONE[:2]) / 2
    return geometry.centers(ONE) + torch.cat((ends, others)) * half


@examples(max_examples=100)
@given(angle=st.floats(-180, 180), shift=st.floats(-0.1, 0.1), others=st.floats(0.2, 1.3))
def test_points_on_the_outline_that_turn_have_no_box_loss_and_others_with_the_right_upright_box_have(
        angle, shift, others):
    """For any T, at odd and padded sizes. The upright box on the view says nothing of the label's own axes."""
    T, on_photo = maps(angle, shift)[1:2], outline(others)
    on_view = geometry.transform(T[0], on_photo)
    loose = geometry.corners(geometry.enclosing(on_view)).repeat(2, 1)  # the same upright box, another hull
    loss = {}
    for name, points in (("oracle", on_view), ("loose", loose)):
        found, matched, *_ = of_view(T, lambda o_T, points=points: points, photos=slice(1, 2), in_view=0.0,
                                     sharpness=4000.0)  # nearly the hard extent
        assume(len(matched.o))
        loss[name] = found["bbox_regression"].item()
        assert name == "loose" or torch.allclose(matched.points, on_photo.expand(len(matched.o), -1, -1), atol=1e-9)
    assert loss["oracle"] < 1e-3
    assert loss["loose"] > 0.02 or min(angle % 90, -angle % 90) < 5


@pytest.mark.parametrize("angle", [-40.0, 0.0, 30.0])
def test_the_loss_of_points_on_the_outline_falls_as_the_softmax_gets_sharper(angle):
    T = maps(angle)[1:2]
    on_view = geometry.transform(T[0], outline(0.6))
    found = [of_view(T, lambda o_T: on_view, slice(1, 2), sharpness)[0]["bbox_regression"].item()
             for sharpness in (1.0, 4.0, 16.0, 64.0, 4000.0)]
    assert found == sorted(found, reverse=True) and found[0] > 0.05 and found[-1] < 1e-3


@pytest.mark.parametrize("angle, shift", [(0.0, 0.0), (20.0, 0.1), (-75.0, -0.05), (180.0, 0.3)])
def test_a_location_learns_the_object_that_it_sees_on_the_photo(angle, shift):
    """FCOS's rule for T⁻¹ o_T, and the centerness of that place, against a plain loop; what left teaches nothing."""
    T = maps(angle, shift)
    found, matched, views, targets = of_view(T, lambda o_T: o_T[:, None] + torch.eye(2).double().repeat(4, 1))
    expected, centerness = {}, []
    levels = [level for level, (h, w) in enumerate(views.grids) for _ in range(h * w)]
    for photo, (height, width) in enumerate(SIZES):
        size = torch.tensor([width, height]).double()
        kept = [box for box in targets[photo]["boxes"] if losses.visible(box[None], T[photo][None], size[None]) >= 0.5]
        for location, anchor in enumerate(views.anchors):
            o_T = geometry.centers(anchor)
            o, side = geometry.transform(geometry.inverse(T[photo]), o_T[None])[0], (anchor[2] - anchor[0]).item()
            stride, seen = model.STRIDES[levels[location]], ((o_T >= 0) & (o_T <= size)).all()
            mine = []
            for box in kept if seen else []:
                ends = torch.cat((o - box[:2], box[2:] - o))
                near = (o - geometry.centers(box)).abs().max() < 1.5 * stride
                low = 0 if levels[location] == 0 else 4 * side
                high = float("inf") if levels[location] == 4 else 8 * side
                if near and ends.min() > 0 and low < ends.max() < high:
                    mine.append(((box[2:] - box[:2]).prod().item(), box.tolist(), ends))
            if mine:
                _, box, ends = min(mine)
                expected[photo, location] = box
                (left, top, right, bottom) = ends.tolist()
                centerness.append((min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom)) ** 0.5)
    pairs = list(zip(matched.image.tolist(), matched.location.tolist()))
    assert dict(zip(pairs, matched.boxes.tolist())) == expected and len(expected) > 8
    logits = views.second["bbox_ctrness"][matched.image, matched.location, 0]
    wanted = binary_cross_entropy_with_logits(logits, torch.tensor(centerness).double())
    assert found["bbox_ctrness"].item() == pytest.approx(wanted.item(), rel=1e-6)


@pytest.mark.parametrize("share, kept", [(0.0, [1, 2, 3]), (0.4, [1, 2]), (0.5, [1])])
def test_an_object_is_gone_where_too_little_of_it_is_in_view(share, kept):
    boxes = torch.tensor([[30.0, 30, 60, 60], [0, 20, 40, 60], [-20, 70, 20, 90]])  # the third begins outside
    target, size = {"boxes": boxes, "labels": torch.tensor([1, 2, 3])}, torch.tensor([100.0, 100.0])
    T = torch.tensor([[1.0, 0, -22], [0, 1, 0]])  # of the second one 18 of 40 columns stay, of the third one none
    [found] = losses.still_there([target], T[None], size[None], share)
    assert found["labels"].tolist() == kept and torch.equal(found["boxes"], boxes[torch.tensor(kept) - 1])
    # what was never in the photo has not left it
    [still] = losses.still_there([target], torch.eye(3)[None, :2], size[None], 1.0)
    assert still["labels"].tolist() == [1, 2, 3]


def test_fcos_trains_on_turned_copies_as_kaod_does():
    """The pipeline's fcos-turned: as many photos turned, ellipse boxes, T of the same range."""
    fcos, kaod = (params.apply(PROFILE, MODELS[name]) for name in ("fcos-turned", "kaod"))
    assert fcos.train.rotate == kaod.keypoints.chance == 0.5
    assert fcos.train.rotated_boxes == "ellipse" and fcos.model.head == "fcos"
    assert kaod.keypoints.labels == "turned" and not kaod.keypoints.kpl and kaod.train.rotate == 0
    assert (fcos.keypoints.angle, fcos.keypoints.shift) == (kaod.keypoints.angle, kaod.keypoints.shift)
    assert replace(fcos.train, rotate=0.0) == kaod.train
    paper = built(PROFILE, MODELS, "kaod-paper", 7, 8)[1].keypoints
    assert paper.labels == "first" and paper.kpl and paper.hm and paper.chance == 1
