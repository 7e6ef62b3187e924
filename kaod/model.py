"""The detector: torchvision's FCOS, with keypoints in place of its four distances.

Every location o of every FPN level predicts classes, a centerness and K keypoints. The box is derived from the
keypoints, so that FCOS's own matching, losses, decoding and suppression work unchanged, and the comparison with the
baseline isolates the head. Known of torchvision's FCOS: locations sit at i·stride (not in the middle of their cell);
sizes must be padded to 128 (else P6 and P7 have strides of 61 and 114 at 800 px); `num_classes` counts the background.
"""

import warnings
from types import SimpleNamespace
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torchvision.models import get_model, get_weight
from torchvision.models.detection import FCOS, _utils
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.fcos import FCOSHead, FCOSRegressionHead
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.ops import FrozenBatchNorm2d, batched_nms, clip_boxes_to_image
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from . import losses, params
from .geometry import absolute, at_least_a_pixel, centers, photo_sizes, random_rigid, transform, warp_images

STRIDES = (8, 16, 32, 64, 128)  # P3 to P7
WEIGHTS = {"resnet18": "ResNet18_Weights", "resnet50": "ResNet50_Weights", "resnet101": "ResNet101_Weights"}
DETECTION = params.Evaluate(batch=16, score_thresh=0.05, nms_thresh=0.6, detections=100, ap="coco")
ALONE = SimpleNamespace(world=lambda: 1, share=lambda count: 1, rand=torch.rand)
"""What losses ask of the processes that train together; `training.processes` answers for several."""


def backbone(settings: params.Model, fetch: bool = True) -> BackboneWithFPN:
    """ResNet and FPN. Pretrained: frozen batch norm, and the first two blocks stay as they are, as in torchvision's
    recipes. From scratch: group norm, since batch statistics would mix the two views. fetch: false builds the layers
    without pretrained weights, for a checkpoint to fill. Raises RuntimeError, with what to do, where there are none.
    """
    if settings.weights == "imagenet":
        if settings.backbone not in WEIGHTS:
            raise RuntimeError(f"model.weights: expected none for {settings.backbone}; ImageNet weights are there for "
                               f"{', '.join(WEIGHTS)}")
        weights = get_weight(f"{WEIGHTS[settings.backbone]}.IMAGENET1K_V1")
        try:
            body = get_model(settings.backbone, weights=weights if fetch else None, norm_layer=FrozenNorm)
        except (URLError, OSError, RuntimeError) as error:
            raise RuntimeError(
                f"no ImageNet weights for {settings.backbone} ({error}); fetch {weights.url} on another machine "
                f"and put it into {torch.hub.get_dir()}/checkpoints/, or set model.weights: none") from None
        nn.ModuleList((body.conv1, body.layer1)).requires_grad_(False)
    else:
        body = ResNet10(group_norm) if settings.backbone == "resnet10" else get_model(
            settings.backbone, norm_layer=group_norm)
    width = body.inplanes  # what its last stage gives
    return BackboneWithFPN(
        body, {"layer2": "0", "layer3": "1", "layer4": "2"}, [width // 4, width // 2, width],
        settings.fpn_channels, LastLevelP6P7(settings.fpn_channels, settings.fpn_channels))


def group_norm(channels: int) -> nn.GroupNorm:
    """In groups of four channels or more: what is normalised one by one, or two by two, knows no contrast."""
    return nn.GroupNorm(min(32, channels // 4), channels)


class ResNet10(ResNet):
    """resnet18 with one block a stage in place of two, of half the width: a fifth of its work, for the CPU."""

    def __init__(self, norm_layer):
        super().__init__(BasicBlock, [1, 1, 1, 1], norm_layer=norm_layer)

    def _make_layer(self, block, planes, *args, **kwargs):
        if planes == 64:  # the first stage
            self.inplanes, self.conv1 = 32, nn.Conv2d(3, 32, 7, stride=2, padding=3, bias=False)
            self.bn1 = self._norm_layer(32)
        return super()._make_layer(block, planes // 2, *args, **kwargs)


class FrozenNorm(FrozenBatchNorm2d):
    """torchvision's, with a result of its input's type: it would turn bf16 features to float32, and those to come."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).to(x.dtype)


class Head(FCOSHead):
    """torchvision's FCOS head, with the paper's −ln IoU as another box loss."""

    processes = ALONE

    def __init__(self, channels: int, num_classes: int, settings: params.Model):
        super().__init__(channels, 1, num_classes, settings.head_convs)
        self.box_loss = settings.box_loss

    def compute_loss(self, targets, head_outputs, anchors, matched_idxs) -> dict[str, Tensor]:
        found = super().compute_loss(targets, head_outputs, anchors, matched_idxs)
        foreground = torch.stack(matched_idxs) >= 0
        if self.box_loss == "iou":
            image, location = foreground.nonzero(as_tuple=True)
            boxes = torch.cat([target["boxes"][index[index >= 0]] for target, index in zip(targets, matched_idxs)])
            wanted = self.box_coder.encode(torch.stack(anchors)[image, location], boxes)  # distances in anchor sizes
            loss = losses.iou_loss(head_outputs["bbox_regression"][image, location], wanted)
            found["bbox_regression"] = loss.sum() / max(1, len(loss))
        share = self.processes.share(foreground.sum())
        return {key: loss * share for key, loss in found.items()}


class KeypointBranch(FCOSRegressionHead):
    """FCOS's regression tower with 2K channels, the K offsets (dx, dy) from the location, as its last layer."""

    def __init__(self, channels: int, k: int, settings: params.Model):
        super().__init__(channels, 1, settings.head_convs)
        self.bbox_reg = nn.Conv2d(channels, 2 * k, 3, padding=1)
        nn.init.normal_(self.bbox_reg.weight, std=0.01)
        self.bbox_reg.bias.data = losses.ring(k, settings.spread).flatten()

    def forward(self, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Offsets (N, L, K, 2) in anchor sizes, signed, and centerness (N, L, 1), over all levels."""
        offsets, centerness = [], []
        for hidden in map(self.conv, features):
            offsets.append(self.bbox_reg(hidden).permute(0, 2, 3, 1).flatten(1, 2).unflatten(-1, (-1, 2)))
            centerness.append(self.bbox_ctrness(hidden).permute(0, 2, 3, 1).flatten(1, 2))
        return torch.cat(offsets, 1), torch.cat(centerness, 1)


class KeypointHead(Head):
    """FCOS's head whose four distances come from keypoints."""

    def __init__(self, channels: int, num_classes: int, settings: params.Model, k: int):
        super().__init__(channels, num_classes, settings)
        self.regression_head = KeypointBranch(channels, k, settings)
        self.sharpness = settings.sharpness

    def forward(self, features: list[Tensor]) -> dict[str, Tensor]:
        offsets, centerness = self.regression_head(features)
        offsets = offsets.to(torch.promote_types(offsets.dtype, torch.float32))  # of bf16 layers: boxes are float32
        found = {"cls_logits": self.classification_head(features), "offsets": offsets, "bbox_ctrness": centerness}
        if not self.training:  # FCOS's four distances (N, L, 4); `compute_loss` derives its own
            found["bbox_regression"] = losses.keypoints_to_boxes(offsets, self.sharpness)
        return found

    def compute_loss(self, targets, head_outputs, anchors, matched_idxs) -> dict[str, Tensor]:
        """FCOS's three losses, and beside them which object each location learns: FCOS tells only its head."""
        matched, offsets = torch.stack(matched_idxs), head_outputs["offsets"]
        learns = matched >= 0  # FCOS looks at no other location's box
        boxes = offsets.new_zeros(*matched.shape, 4)
        boxes[learns] = losses.keypoints_to_boxes(offsets[learns], self.sharpness)
        found = super().compute_loss(targets, {**head_outputs, "bbox_regression": boxes}, anchors, matched_idxs)
        return {**found, "matched": matched}


class KAOD(FCOS):
    """FCOS with a keypoint head. `keypoints.labels` says what it learns from: each image, as in the paper; T of it,
    turned back; or both. The keypoint loss compares the two, labelled or not. Torch's global generator draws T."""

    processes = ALONE

    def __init__(self, *args, settings: params.Keypoints, **kwargs):
        super().__init__(*args, **kwargs)
        self.settings = settings

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None):
        """Training: the losses, "spread" (the collapse gauge, no gradient) among them. Else detections:
        dicts of boxes (n, 4), labels, scores (n,) and keypoints (n, K, 2), in pixels of the given images."""
        if not self.training:
            return super().forward(images)
        settings = self.settings
        images, targets = self.transform(images, targets)
        turned = settings.kpl or settings.labels != "first"
        T = random_rigid(photo_sizes(images), settings.angle, settings.shift, settings.chance,
                         self.processes.rand) if turned else None
        views = self.views(images, T, settings.fill, first=settings.kpl or settings.labels != "turned")
        learned = {"first": self.matched_losses(targets, views.first, views)} if views.first else {}
        if settings.labels != "first":
            learned["turned"] = self.turned_losses(targets, views)
        labelled = [learned[view] for view in learned if settings.labels in (view, "both")]
        found = {name: sum(terms[name] for terms, _ in labelled) / len(labelled) for name in labelled[0][0]}
        if settings.kpl:
            pairs = self.pairs(views, learned["first"][1], settings)
            # of a sum, DistributedDataParallel's mean over the ranks would be a part
            share = self.processes.share(pairs.mask.sum()) if settings.reduction == "mean" else self.processes.world()
            found["keypoints"] = settings.beta * losses.keypoint_loss(pairs, settings) * share
        matched = labelled[0][1]
        if settings.separation:
            hinge = losses.separation(matched.points, matched.boxes, settings.apart)
            found["separation"] = settings.separation * self.mean(hinge)
        return found | {"spread": self.mean(losses.spread(matched.points, matched.boxes).detach())}

    def mean(self, values: Tensor) -> Tensor:
        """Over all processes, once their results are averaged; 0 of none."""
        count = torch.tensor(len(values), device=values.device)
        return values.sum() / max(1, len(values)) * self.processes.share(count)

    def views(self, images, T: Tensor | None, fill: str, first: bool = True) -> losses.Views:
        """What backbone and head give for the images (torchvision's ImageList), where wanted, and for T of them."""
        sizes, count = photo_sizes(images), len(images.tensors)
        seen = [images.tensors] if first else []
        if T is not None:
            moved = (T != torch.eye(2, 3).to(T)).any((1, 2))  # the others stay
            seen.append(images.tensors.clone())
            seen[-1][moved] = warp_images(images.tensors[moved], T[moved], sizes[moved], fill)
        features = list(self.backbone(torch.cat(seen)).values())
        outputs = self.head(features)
        return losses.Views({key: value[:count] for key, value in outputs.items() if first},
                            {key: value[-count:] for key, value in outputs.items() if T is not None}, T, sizes,
                            self.anchor_generator(images, features)[0], [level.shape[-2:] for level in features])

    def matched_losses(self, targets, outputs: dict[str, Tensor], views: losses.Views,
                       anchors: Tensor | None = None) -> tuple[dict[str, Tensor], losses.Supervised]:
        """FCOS's three losses of one view, and the locations that learn an object. anchors: (N, L, 4), where they are
        not `views.anchors` for all photos."""
        anchors = views.anchors.expand(len(targets), -1, -1) if anchors is None else anchors
        found = self.compute_loss(targets, outputs, list(anchors), [h * w for h, w in views.grids])
        matched = found.pop("matched")
        image, location = (matched >= 0).nonzero(as_tuple=True)
        boxes = torch.cat([target["boxes"][index[index >= 0]] for target, index in zip(targets, matched)])
        here = anchors[image, location]
        points = absolute(outputs["offsets"][image, location], here)
        return found, losses.Supervised(image, location, centers(here), points, boxes)

    def turned_losses(self, targets, views: losses.Views) -> tuple[dict[str, Tensor], losses.Supervised]:
        """The same of T of the photos, by FCOS's own code: locations and keypoints go back to where the labels are."""
        offsets, anchors = losses.turned_back(views.second["offsets"], views.anchors, views.T, views.sizes)
        targets = losses.still_there(targets, views.T, views.sizes, self.settings.in_view)
        return self.matched_losses(targets, views.second | {"offsets": offsets}, views, anchors)

    def pairs(self, views: losses.Views, matched: losses.Supervised, settings: params.Keypoints) -> losses.Pairs:
        """What the keypoint loss compares: at each location o, P and P_T, read at T(o).

        Over the matched locations, or over all. Where no object is, m asks for o and T(o) only, and the area is that of
        an object which FCOS gives to the level, of 8 anchor sizes a side. A mean over all is mostly one of background.
        """
        anchors, T, sizes = views.anchors, views.T, views.sizes
        P, P_T = matched.points, absolute(views.second["offsets"], anchors)
        image, location, o, boxes = matched.image, matched.location, matched.o, matched.boxes
        if settings.locations == "all":
            found = P.new_zeros(*P_T.shape[:2], 4)
            found[image, location] = boxes
            image, location = torch.ones_like(found[..., 0]).nonzero(as_tuple=True)
            P, boxes = absolute(views.first["offsets"], anchors).flatten(0, 1), found.flatten(0, 1)
            o = centers(anchors[location])
        empty = (boxes[:, 2:] <= boxes[:, :2]).any(1)  # background: no object that could leave
        extents = torch.where(empty[:, None], torch.cat((o, o), 1), boxes)
        m = losses.object_mask(o, extents, T[image], sizes[image], settings.visible)
        anchor_area = (anchors[location, 2:] - anchors[location, :2]).prod(1)
        area = torch.where(empty, 8 ** 2 * anchor_area, (boxes[:, 2:] - boxes[:, :2]).prod(1))
        # the images are padded so that each level's stride is exactly this
        read = losses.read_field(P_T, transform(T[image], o[:, None])[:, 0], image, location, views.grids, STRIDES)
        return losses.Pairs(P, read, T[image], m, area)

    def postprocess_detections(self, head_outputs, anchors, image_shapes) -> list[dict[str, Tensor]]:
        """torchvision's, with each detection's keypoints kept: the best of each level, then class-wise suppression."""
        detections = []
        for i, shape in enumerate(image_shapes):
            boxes, scores, labels, points = [], [], [], []
            for logits, regression, centerness, offsets, anchor in zip(
                    *(head_outputs[key] for key in ("cls_logits", "bbox_regression", "bbox_ctrness", "offsets")),
                    anchors[i]):
                score = torch.sqrt(logits[i].sigmoid() * centerness[i].sigmoid()).flatten()
                candidates = (score > self.score_thresh).nonzero()[:, 0]
                score, best = score[candidates].topk(_utils._topk_min(candidates, self.topk_candidates, 0))
                location = candidates[best] // logits.shape[-1]
                boxes.append(self.box_coder.decode(regression[i][location], anchor[location]))
                scores.append(score)
                labels.append(candidates[best] % logits.shape[-1])
                points.append(absolute(offsets[i][location], anchor[location]))
            boxes, scores, labels = clip_boxes_to_image(torch.cat(boxes), shape), torch.cat(scores), torch.cat(labels)
            kept = batched_nms(boxes, scores, labels, self.nms_thresh)[:self.detections_per_img]
            detections.append({"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept],
                               "keypoints": torch.cat(points)[kept]})
        return detections


def build(settings: params.Model, keypoints: params.Keypoints, classes: int, k: int,
          detection: params.Evaluate = DETECTION, fetch: bool = True) -> FCOS:
    """The detector; its weights come from torch's global generator.

    classes: without background. k: keypoints per location, at least 2; of FCOS, those of the ring that it starts as.
    fetch: whether pretrained weights are wanted, not only their architecture.
    """
    if k < 2:
        raise ValueError(f"k: expected at least 2 keypoints, since the box of one has no area; got {k}")
    body = backbone(settings, fetch)
    anchors = AnchorGenerator(tuple((stride * settings.anchor_scale,) for stride in STRIDES), ((1.0,),) * len(STRIDES))
    shared = dict(
        backbone=body, num_classes=classes + 1, min_size=settings.min_size, max_size=settings.max_size,
        anchor_generator=anchors, center_sampling_radius=1.5 / settings.anchor_scale,  # FCOS: 1.5 strides
        score_thresh=detection.score_thresh, nms_thresh=detection.nms_thresh,
        detections_per_img=detection.detections, size_divisible=128)
    if settings.head == "fcos":
        head = Head(body.out_channels, classes + 1, settings)
        if settings.start == "ring":  # KAOD's first boxes; with boxes of no size FCOS would start behind
            head.regression_head.bbox_reg.bias.data = losses.keypoints_to_boxes(
                losses.ring(k, settings.spread), settings.sharpness)
        detector = FCOS(head=head, **shared)
    else:
        if k == 2:
            warnings.warn("k: 2 keypoints span a line: boxes, but no rotated boxes and no masks", stacklevel=2)
        detector = KAOD(head=KeypointHead(body.out_channels, classes + 1, settings, k), settings=keypoints, **shared)
    detector.transform.register_forward_pre_hook(at_least_a_pixel)
    return detector
