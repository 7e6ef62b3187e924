from dataclasses import replace

import pytest
import torch
from torchvision.models.detection import FCOS
from torchvision.models.detection.fcos import FCOSHead

from kaod import geometry, losses, model, params
from kaod.data import datasets


def batch(samples):
    images, targets = datasets.collate([datasets.Photos(samples)[i] for i in range(len(samples))])
    return [image.float() / 255 for image in images], targets


@pytest.fixture
def build(tiny):
    """A small model; `layers` are changes of its model's settings, other keywords of its keypoints'."""
    def make(name="kaod-paper", k=8, layers=(), **changes):
        profile = params.apply(tiny[0], tiny[1][name])
        return model.build(replace(profile.model, **dict(layers)), replace(profile.keypoints, **changes), 7, k)

    return make


def test_the_baseline_is_torchvisions_own(tiny, build):
    profile, _ = tiny
    torch.manual_seed(0)
    ours = build("fcos", layers={"start": "zero"}).eval()
    torch.manual_seed(0)
    body = model.backbone(profile.model)
    theirs = FCOS(body, 8, head=FCOSHead(body.out_channels, 1, 8, profile.model.head_convs),
                  min_size=profile.model.min_size, max_size=profile.model.max_size, size_divisible=128,
                  anchor_generator=ours.anchor_generator, score_thresh=0.0,
                  center_sampling_radius=1.5 / profile.model.anchor_scale).eval()
    assert ours.state_dict().keys() == theirs.state_dict().keys()  # the first weights are the same, too
    assert all(torch.equal(weight, theirs.state_dict()[name]) for name, weight in ours.state_dict().items())
    ours.score_thresh = 0.0
    images = [torch.rand(3, 100, 140), torch.rand(3, 128, 128)]
    for mine, reference in zip(ours(images), theirs(images)):
        assert mine.keys() == reference.keys() and len(mine["boxes"]) == 100
        for key in mine:
            assert torch.equal(mine[key], reference[key])


@pytest.mark.parametrize("size", [(400, 2), (2, 400), (3000, 1), (49 * 128, 49), (1, 1)])
@pytest.mark.parametrize("name", ["fcos", "kaod-paper"])
def test_a_photo_of_any_shape_is_learned_and_searched(build, name, size):
    """torchvision leaves no pixel of a side that is much shorter than the other."""
    detector = build(name).train()
    boxes = torch.tensor([[0.0, 0, size[1], size[0] / 2]])
    assert all(loss.isfinite() for loss in detector(
        [torch.rand(3, *size), torch.rand(3, 90, 120)],
        [{"boxes": boxes, "labels": torch.tensor([1])}] * 2).values())
    images, (target,) = detector.transform([torch.rand(3, *size)], [{"boxes": boxes}])
    (height, width), = images.image_sizes
    assert min(height, width) > 0 and target["boxes"].tolist() == [[0, 0, width, pytest.approx(height / 2)]]
    (found,) = detector.eval()([torch.rand(3, *size)])
    assert (found["boxes"] >= 0).all() and (found["boxes"] <= torch.tensor(size[::-1] * 2) + 1e-3).all()


def first_boxes(detector, sizes) -> tuple[torch.Tensor, torch.Tensor]:
    """The boxes (L, 4) of all locations before training, but for the random weights of the last layer, and o (L, 2)."""
    detector.eval().head.regression_head.bbox_reg.weight.data.zero_()
    images, _ = detector.transform([torch.rand(3, *sizes)])
    features = list(detector.backbone(images.tensors).values())
    anchors = detector.anchor_generator(images, features)[0]
    found = detector.head(features)["bbox_regression"][0]
    return detector.head.box_coder.decode(found, anchors), (anchors[:, :2] + anchors[:, 2:]) / 2


@pytest.mark.parametrize("layers", [{}, {"spread": 4.0, "sharpness": 4.0, "anchor_scale": 1.0}])
def test_fcos_and_the_keypoint_head_start_with_the_same_boxes(build, layers):
    fcos, kaod = (first_boxes(build(name, layers=layers), (128, 128))[0] for name in ("fcos", "kaod"))
    assert torch.allclose(fcos, kaod, rtol=1e-6, atol=1e-5)  # equal; a processor may add up K numbers in other orders
    sides = fcos[:, 2:] - fcos[:, :2]
    zero, o = first_boxes(build("fcos", layers=layers | {"start": "zero"}), (128, 128))
    assert (sides > 4).all() and torch.equal(zero, torch.cat((o, o), 1))
    ring, other = (build("fcos", layers=layers | {"start": start}).state_dict() for start in ("ring", "zero"))
    assert other["head.regression_head.bbox_reg.bias"].abs().sum() == 0 and ring.keys() == other.keys()


def test_fcos_draws_the_same_weights_with_either_start(build):
    made = []
    for start in ("ring", "zero"):
        torch.manual_seed(0)
        made.append(build("fcos", layers={"start": start}).state_dict())
    assert [name for name in made[0] if not torch.equal(made[0][name], made[1][name])] == [
        "head.regression_head.bbox_reg.bias"]


@pytest.mark.parametrize("k", [3, 8, 16])
def test_keypoints_start_evenly_on_the_circle(build, k):
    """`spread` anchor sizes from their location, in pixels; no two of them together."""
    detector = build(k=k, layers={"spread": 3.0})
    detector.head.regression_head.bbox_reg.weight.data.zero_()
    images, _ = detector.transform([torch.rand(3, 128, 128)])
    points = detector.views(images, None, "reflect").first["offsets"][0]
    assert torch.allclose(points.norm(dim=-1), torch.tensor(3.0))
    turns = torch.atan2(points[..., 1], points[..., 0]).rad2deg().remainder(360 - 1e-3).sort(1)[0]
    assert torch.allclose(turns, (torch.arange(k) * 360 / k).expand_as(turns), atol=1e-2)


@pytest.mark.parametrize("scale", [0.25, 0.5, 0.75, 1.0, 2.0])
def test_anchors_have_the_size_that_is_asked_for(build, scale):
    """torchvision rounds half their sides: to 0 on P3 at a scale of 0.1."""
    for name in ("fcos", "kaod"):
        anchors = build(name, layers={"anchor_scale": scale}).anchor_generator.cell_anchors
        assert len(anchors) == 5
        for stride, anchor in zip(model.STRIDES, anchors):
            half = stride * scale / 2
            assert anchor.tolist() == [[-half, -half, half, half]]


def test_the_keypoint_head_differs_in_its_last_layer_only(build):
    shapes = [{name: weight.shape for name, weight in build(name).named_parameters()} for name in ("fcos", "kaod")]
    different = {name for name in shapes[0] | shapes[1] if shapes[0].get(name) != shapes[1].get(name)}
    assert different == {f"head.regression_head.bbox_reg.{part}" for part in ("weight", "bias")}


def test_detections_are_those_of_torchvisions_postprocessing(build):
    """The override keeps the boxes, scores and labels, and adds the keypoints that give each box."""
    detector = build().eval()
    detector.score_thresh = 0.0
    images = [torch.rand(3, 128, 128), torch.rand(3, 60, 90)]
    mine = detector(images)
    postprocess = model.KAOD.postprocess_detections
    try:
        model.KAOD.postprocess_detections = FCOS.postprocess_detections
        reference = detector(images)
    finally:
        model.KAOD.postprocess_detections = postprocess
    for ours, theirs in zip(mine, reference):
        for key in theirs:
            assert torch.equal(ours[key], theirs[key])
        assert ours["keypoints"].shape == (100, 8, 2)
        low, high = ours["keypoints"].amin(1), ours["keypoints"].amax(1)
        inside = (ours["boxes"][:, :2] > 1).all(1) & (ours["boxes"][:, 2:] < torch.tensor([58.0, 58.0])).all(1)
        assert inside.any()  # away from the border, where boxes are cut
        assert (ours["boxes"][inside, :2] >= low[inside] - 1e-3).all()
        assert (ours["boxes"][inside, 2:] <= high[inside] + 1e-3).all()


@pytest.mark.parametrize("name", ["fcos", "kaod"])
def test_the_papers_box_loss_differs_from_giou_in_the_box_loss_alone(tiny, name, drawn):
    profile, models = tiny
    found = {}
    for box_loss in ("giou", "iou"):
        torch.manual_seed(0)
        chosen = params.apply(profile, models[name])
        keypoints = replace(chosen.keypoints, kpl=False, labels="first")
        detector = model.build(replace(chosen.model, box_loss=box_loss), keypoints, 7, 8).train()
        found[box_loss] = detector(*batch(drawn[0]))
    assert found["iou"]["bbox_regression"] != found["giou"]["bbox_regression"]
    assert found["iou"]["bbox_regression"].requires_grad and torch.isfinite(found["iou"]["bbox_regression"])
    for key in found["giou"].keys() - {"bbox_regression"}:
        assert torch.equal(found["giou"][key], found["iou"][key])
    images, targets = batch(drawn[0])
    twice = detector(images * 2, targets * 2)["bbox_regression"]  # a mean over locations
    assert twice.item() == pytest.approx(found["iou"]["bbox_regression"].item(), rel=1e-4)


@pytest.mark.parametrize("boxes", [
    [], [(0.0, 0, 128, 128)], [(x, y, x + 4.0, y + 5) for x in range(0, 120, 12) for y in range(0, 120, 12)],
    [(0.0, 0, 20, 20), (108, 108, 128, 128), (-5, 40, 10, 60)]], ids=["none", "huge", "a hundred", "at the border"])
def test_unusual_photos_give_finite_losses_and_gradients(build, boxes):
    target = {"boxes": torch.tensor(boxes).reshape(-1, 4), "labels": torch.ones(len(boxes), dtype=torch.int64)}
    for changes in ({}, {"locations": "all"}, {"separation": 1.0}):
        detector = build(**changes).train()
        found = detector([torch.rand(3, 128, 128)], [dict(target)])  # a batch of one
        assert all(torch.isfinite(value) for value in found.values())
        sum(value for key, value in found.items() if key != "spread").backward()
        assert all(weight.grad is None or torch.isfinite(weight.grad).all() for weight in detector.parameters())


def test_two_keypoints_warn_that_there_will_be_no_masks(build):
    with pytest.warns(UserWarning, match="no masks"):
        detector = build(k=2).train()
    image = torch.rand(3, 128, 128)
    target = {"boxes": torch.tensor([[20.0, 20, 90, 100]]), "labels": torch.tensor([1])}
    assert all(torch.isfinite(value) for value in detector([image], [target]).values())
    assert detector.eval()([image])[0]["keypoints"].shape[1] == 2


def test_training_gives_every_loss_and_gradient(build, drawn):
    for changes in ({}, {"locations": "all", "reduction": "sum", "normalize": False}, {"labels": "turned"},
                    {"labels": "both", "hm": False}):
        detector = build(**changes).train()
        found = detector(*batch(drawn[0]))
        assert found.keys() == {"classification", "bbox_regression", "bbox_ctrness", "keypoints", "spread"}
        sum(found.values()).backward()
        for name, weight in detector.named_parameters():
            assert weight.grad is not None and torch.isfinite(weight.grad).all(), name
    assert "keypoints" not in build(kpl=False).train()(*batch(drawn[0]))
    assert build(kpl=False, separation=0.5).train()(*batch(drawn[0]))["separation"] >= 0


def test_photos_without_objects_train(build):
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    for locations in ("foreground", "all"):
        found = build(locations=locations).train()([torch.rand(3, 128, 128)] * 2, [empty, dict(empty)])
        assert all(torch.isfinite(value) for value in found.values())


def oblong():
    """Photos that are not square, padded in the batch, with an object each."""
    images = [torch.rand(3, 128, 100), torch.rand(3, 90, 128)]
    return images, [{"boxes": torch.tensor([[20.0, 15, 75, 80]]), "labels": torch.tensor([1])} for _ in images]


@pytest.mark.parametrize("locations", ["foreground", "all"])
def test_at_the_identity_the_second_view_is_the_first(build, locations):
    """Read where it was predicted there is no keypoint loss, on any level, also of padded photos."""
    assert build(angle=0.0, shift=0.0, locations=locations).train()(*oblong())["keypoints"] < 1e-6
    assert build(locations=locations).train()(*oblong())["keypoints"] > 1e-4


ODD = [(611, 397), (389, 605), (513, 257)]  # width and height: three sizes, padded to one


def paired(detector, T, first, second):
    """`pairs` over all locations of photos of the sizes ODD, with the keypoints (photo, location, K, 2) in pixels that
    first(o) and second(o) give for their locations o (L, 2); and o."""
    detector.transform.min_size, detector.transform.max_size = (384,), 640
    images, _ = detector.transform([torch.rand(3, height, width).double() for width, height in ODD])
    grids = [tuple(side // stride for side in images.tensors.shape[2:]) for stride in model.STRIDES]
    anchors = detector.anchor_generator(images, [torch.zeros(3, 1, *grid).double() for grid in grids])[0]
    o, size = (anchors[:, :2] + anchors[:, 2:]) / 2, anchors[:, 2:] - anchors[:, :2]
    sizes = torch.tensor([(w, h) for h, w in images.image_sizes]).double()
    T = T(sizes)
    views = [{"offsets": (points(o, T) - o[:, None]) / size[:, None]} for points in (first, second)]
    nothing = torch.zeros(0, dtype=torch.int64)
    pairs = detector.pairs(losses.Views(*views, T, sizes, anchors, grids),
                           losses.Supervised(nothing, nothing, *torch.zeros(3, 0, 4).double()),
                           replace(detector.settings, locations="all"))
    return pairs, o, grids


@pytest.mark.parametrize("angle", [-170.0, -30.0, 12.5, 90.0])
def test_the_field_of_places_read_at_t_of_o_is_t_of_o(build, angle):
    """P(o) = o on the second view: every half pixel that is lost shows. On all levels, of odd and padded photos."""
    pairs, o, grids = paired(
        build(), lambda sizes: geometry.rigid(torch.full((3,), angle).double(), 0.05 * sizes, sizes / 2),
        lambda o, T: o[None, :, None].expand(3, -1, 8, -1), lambda o, T: o[None, :, None].expand(3, -1, 8, -1))
    read, T, mask = pairs.P_T, pairs.T, pairs.mask
    place = geometry.transform(T, o.repeat(3, 1)[:, None])[:, 0]
    level = torch.arange(5).repeat_interleave(torch.tensor([h * w for h, w in grids])).repeat(3)
    last = torch.tensor([((w - 1) * s, (h - 1) * s) for (h, w), s in zip(grids, model.STRIDES)])[level]
    between = ((place >= 0) & (place <= last)).all(1)  # beyond the outermost locations there is nothing to read
    assert (read - place[:, None])[between].abs().max() < 1e-4
    assert set(level[between & mask].tolist()) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("seed", range(2))
def test_an_equivariant_detector_has_no_keypoint_loss(build, seed):
    """Keypoints that are constant over an object and turn with it, in any order on the second view."""
    generator = torch.Generator().manual_seed(seed)
    points = 100 + 200 * torch.rand(3, 1, 8, 2, dtype=torch.float64, generator=generator)
    orders = [torch.arange(8), *(torch.randperm(8, generator=generator).roll(1) for _ in range(2))]

    def chosen(sizes):
        turns = 360 * torch.rand(3, dtype=torch.float64, generator=generator)
        return geometry.rigid(turns, 0.2 * (torch.rand(3, 2, generator=generator) - 0.5) * sizes, sizes / 2)

    detector = build()
    for order in orders:
        pairs, *_ = paired(
            detector, chosen, lambda o, T: points.expand(-1, len(o), -1, -1),
            lambda o, T, order=order: geometry.transform(T[:, None], points)[:, :, order].expand(-1, len(o), -1, -1))
        assert pairs.mask.sum() > 1000
        matched, plain = (losses.keypoint_loss(pairs, replace(detector.settings, hm=hm)) for hm in (True, False))
        assert matched < 1e-12
        assert plain < 1e-12 if torch.equal(order, orders[0]) else plain > 1e-3


def fixed(monkeypatch, T):
    """Every second view is this T (2, 3) of its photo."""
    monkeypatch.setattr(model, "random_rigid", lambda sizes, *_: T.to(sizes).expand(len(sizes), 2, 3))


def shifted(dx: float, dy: float):
    return torch.tensor([[1.0, 0, dx], [0, 1, dy]])


@pytest.mark.parametrize("changes", [{"angle": 0.0}, {"shift": 0.0}])
def test_second_views_are_turned_and_are_shifted(build, changes):
    assert build(**changes).train()(*oblong())["keypoints"] > 1e-4  # 0 with neither


def test_an_object_counts_where_enough_of_it_is_in_both_views(build, monkeypatch):
    fixed(monkeypatch, shifted(-10, 0))
    target = {"boxes": torch.tensor([[0.0, 40, 40, 80]]), "labels": torch.tensor([1])}  # three quarters stay
    for visible, counts in ((0.76, False), (0.74, True), (0.0, True)):
        found = build(visible=visible).train()([torch.rand(3, 128, 128)], [dict(target)])
        assert (found["keypoints"] > 0) == counts


def test_what_fills_the_second_view_is_a_setting(build):
    found = []
    for fill in ("reflect", "reflect", "constant"):
        torch.manual_seed(0)
        found.append(build(fill=fill).train()(*oblong())["keypoints"])
    assert found[0] == found[1] != found[2]


def test_the_second_view_is_each_photo_moved_by_its_own_t_in_its_own_frame_whatever_pads_it(build):
    """In a batch where the first photo stays as it is."""
    detector, photos = build().double(), [torch.rand(3, *size).double() for size in ((128, 100), (90, 128), (128, 128))]
    T = torch.stack((torch.eye(2, 3), shifted(7, -12), shifted(-9, 5))).double()
    warped = [geometry.warp_images(photo[None], each[None], torch.tensor([photo.shape[:0:-1]]), "reflect")[0]
              for photo, each in zip(photos, T)]
    images, alone = (detector.transform(each)[0] for each in (photos, warped))
    second, expected = detector.views(images, T, "reflect").second, detector.views(alone, None, "reflect").first
    assert torch.allclose(second["offsets"], expected["offsets"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["fcos", "kaod"])
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_locations_learn_an_object_within_one_and_a_half_strides_of_its_centre(build, monkeypatch, name, scale):
    """FCOS's rule, in pixels, whatever the size of the anchors: P3 takes this object with all of them."""
    seen, detector = {}, build(name, layers={"anchor_scale": scale}, kpl=False, labels="first").train()
    original = model.Head.compute_loss

    def spy(self, targets, outputs, anchors, matched):
        seen["o"] = ((anchors[0][:, :2] + anchors[0][:, 2:]) / 2)[matched[0] >= 0]
        return original(self, targets, outputs, anchors, matched)

    monkeypatch.setattr(model.Head, "compute_loss", spy)
    center = torch.tensor([66.0, 61])
    detector([torch.rand(3, 128, 128)],
             [{"boxes": torch.cat((center - 14, center + 14))[None], "labels": torch.tensor([1])}])
    places = torch.cartesian_prod(*[torch.arange(0.0, 128, 8)] * 2)
    expected = places[((places - center).abs() < 12).all(1)]
    assert len(expected) == 9 and sorted(seen["o"].tolist()) == sorted(expected.tolist())


@pytest.mark.parametrize("sharpness", [0.3, 1000.0])
def test_the_boxes_are_the_soft_extents_at_the_sharpness_that_is_set(build, sharpness):
    """The keypoints' own extent where it is large; where it is small, boxes go to the keypoints' mean."""
    detector = build(layers={"sharpness": sharpness}).eval()
    found = detector.head([torch.randn(1, 64, 4, 4)])
    offsets, box = found["offsets"], found["bbox_regression"]
    hard = torch.cat((-offsets.amin(2), offsets.amax(2)), -1)
    share = (box / hard).mean().item()
    assert share == pytest.approx(1, abs=1e-2) if sharpness > 100 else share < 0.7


def test_the_weight_of_the_separation_is_its_setting_and_the_gauge_trains_nothing(build):
    found = []
    for weight in (1.0, 3.0):
        torch.manual_seed(0)
        found.append(build(separation=weight, apart=0.5).train()(*oblong()))
    assert found[0]["separation"] > 0
    assert found[1]["separation"].item() == pytest.approx(3 * found[0]["separation"].item(), rel=1e-5)
    assert not found[0]["spread"].requires_grad


def test_where_no_object_is_distances_count_in_objects_of_the_levels_own_size(build):
    pairs, _, grids = paired(
        build(), lambda sizes: geometry.rigid(torch.zeros(3).double(), 0 * sizes, sizes / 2),
        *[lambda o, T: o[None, :, None].expand(3, -1, 8, -1)] * 2)
    sides = torch.cat([torch.full((h * w,), 8 * 0.5 * stride) for (h, w), stride in zip(grids, model.STRIDES)])
    assert torch.equal(pairs.area, (sides ** 2).double().repeat(3))


def test_the_weight_of_the_keypoint_loss_is_beta(build):
    found = []
    for beta in (1.0, 5.0):
        torch.manual_seed(0)
        found.append(build(beta=beta).train()(*oblong())["keypoints"])
    assert found[1].item() == pytest.approx(5 * found[0].item(), rel=1e-5)


def test_the_padding_of_a_batch_is_in_no_keypoint_loss(build):
    """All locations whose place and moved place are in the photo itself, and no other."""
    seen = {}

    class Spy(model.KAOD):
        def pairs(self, *given):
            found = super().pairs(*given)
            seen["m"] = found.mask
            return found

    detector = build(locations="all", angle=0.0, shift=0.0).train()
    detector.__class__ = Spy
    detector([torch.rand(3, 90, 128)], [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}])
    # padded to 128 × 128, of which the rows below 90 are padding
    assert seen["m"].sum() == sum(len(range(0, 91, stride)) * (128 // stride) for stride in model.STRIDES)


@pytest.mark.parametrize("labels", ["first", "turned", "both"])
def test_the_gradient_agrees_with_finite_differences(build, drawn, labels):
    detector = build(hm=True, labels=labels).double().train()
    images, targets = batch(drawn[0][:2])
    images = [image.double() for image in images]

    def loss():
        torch.manual_seed(0)
        found = detector(images, [dict(target) for target in targets])
        return sum(value for key, value in found.items() if key != "spread")

    loss().backward()
    step = 1e-6
    for name in ("head.regression_head.bbox_reg.weight", "head.classification_head.cls_logits.bias",
                 "head.regression_head.bbox_ctrness.bias", "backbone.fpn.layer_blocks.0.0.weight"):
        weight = detector.get_parameter(name)
        index = tuple(each.item() for each in (weight.grad.abs() == weight.grad.abs().max()).nonzero()[0])
        with torch.no_grad():
            original = weight[index].item()
            weight[index] = original + step
            high = loss()
            weight[index] = original - step
            low = loss()
            weight[index] = original
        assert ((high - low) / (2 * step)).item() == pytest.approx(weight.grad[index].item(), rel=1e-4)


def test_one_keypoint_is_refused(build):
    with pytest.raises(ValueError, match="at least 2"):
        build(k=1)


@pytest.mark.parametrize("name, width", [("resnet18", 512), ("resnet50", 2048), ("resnet101", 2048)])
def test_pretrained_backbones(tiny, monkeypatch, name, width):
    settings = replace(tiny[0].model, backbone=name, weights="imagenet")
    offline = model.backbone(settings, fetch=False)  # as a checkpoint wants it: no download
    assert not any(weight.requires_grad for weight in offline.body.conv1.parameters())
    assert offline.fpn.inner_blocks[-1][0].in_channels == width
    assert {type(part) for part in offline.body.modules() if "Norm" in type(part).__name__} == {model.FrozenNorm}
    levels = offline.eval()(torch.rand(1, 3, 128, 128)).values()
    assert [level.shape[-1] for level in levels] == [16, 8, 4, 2, 1]

    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(model, "get_model", refuse)
    with pytest.raises(RuntimeError, match=rf"{name}.*https?://.*checkpoints"):
        model.backbone(settings)


def test_every_profile_builds(tiny):
    for name in ("shapes", "voc", "coco"):
        profile, models = params.load(name)
        chosen = params.apply(profile, models["kaod"])
        assert isinstance(model.build(chosen.model, chosen.keypoints, 3, 16, fetch=False), model.KAOD)
