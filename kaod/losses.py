"""The keypoint loss (equations 1 and 2): two views, one matching, one mask.

Names: M locations, K keypoints. o: a location on image I. P(o): its keypoints. T: the map from I to the
second view I_T = T I. P_T: keypoints predicted on I_T. P'_T = T⁻¹ P_T: the same, back on I. m: 1 where the
object is still in the frame of I_T. All points are in pixels of I or of I_T.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss
from torch_linear_assignment import batch_linear_assignment

from .geometry import centers, inverse, transform
from .params import Keypoints


@dataclass
class Views:
    """A batch of N photos, seen as they are and as T of them.

    first, second: the head's outputs on either, empty where it was not looked at. T: (N, 2, 3). sizes: (N, 2), width
    and height of each photo in pixels, padding aside. anchors: (L, 4), the same for all photos. grids: (height, width)
    of each level, in locations.
    """

    first: dict[str, Tensor]
    second: dict[str, Tensor]
    T: Tensor | None
    sizes: Tensor
    anchors: Tensor
    grids: list[tuple[int, int]]


@dataclass
class Supervised:
    """The M locations that learn an object: photo (M,), location (M,), and, on the photo, the location's place o
    (M, 2), its keypoints (M, K, 2) and the object's box (M, 4)."""

    image: Tensor
    location: Tensor
    o: Tensor
    points: Tensor
    boxes: Tensor


@dataclass
class Pairs:
    """What equation 1 compares at M locations o.

    P: (M, K, 2), keypoints on I. P_T: (M, K, 2), keypoints on I_T, read at T(o). T: (M, 2, 3). mask: (M,), m(o).
    area: (M,) px², of the objects' boxes.
    """

    P: Tensor
    P_T: Tensor
    T: Tensor
    mask: Tensor
    area: Tensor


def keypoints_to_boxes(offsets: Tensor, sharpness: float) -> Tensor:
    """Softmin and softmax over the K keypoints: FCOS's four distances (..., 4), left top right bottom.

    offsets: (..., K, 2) from the location, in anchor sizes. Σ softmax(s u) u tends to max u as the sharpness s
    grows, stays below it, and gives every keypoint a share of the gradient.
    """
    high = (torch.softmax(sharpness * offsets, -2) * offsets).sum(-2)  # (..., 2): right, bottom
    low = (torch.softmax(-sharpness * offsets, -2) * offsets).sum(-2)  # (..., 2): left, top
    return torch.cat((-low, high), -1)


def ring(k: int, radius: float) -> Tensor:
    """K offsets (K, 2) on a circle: points that start together get the same gradient, and stay together."""
    angles = torch.arange(k) * 2 * math.pi / k
    return radius * torch.stack((angles.cos(), angles.sin()), 1)


def iou_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """−ln IoU (M,), the paper's box loss (Yu et al., UnitBox): (M, 4) and (M, 4) distances from one location.

    Boxes that do not meet have the loss of an IoU of 1e-6 and no gradient; GIoU, the default, gives them one. (With
    `start: zero`, FCOS's distances may start at 0, and stay there without a gradient.)
    """
    meet = torch.minimum(found, wanted)
    meet = (meet[:, :2] + meet[:, 2:]).clamp(min=0).prod(1)
    areas = [(each[:, :2] + each[:, 2:]).prod(1) for each in (found, wanted)]
    return -(meet / (areas[0] + areas[1] - meet)).clamp(min=1e-6).log()


def read_field(field: Tensor, points: Tensor, image: Tensor, location: Tensor, grids, strides) -> Tensor:
    """The field of keypoints at places between its locations, bilinear.

    field: (N, L, K, 2), one row per location, levels one after the other, each row by row. points: (M, 2)
    pixels; image, location: (M,), in which image to read, and on the level of which location. grids: (height, width) of
    each level, in locations. strides: pixels. torchvision's locations sit at i·stride, so the index is x / stride.
    Outside the outermost locations the field goes on as it is there. Returns (M, K, 2).

    `grid_sample` would do the same for one level and equally many points per photo; the locations here are
    scattered over both.
    """
    lengths = torch.tensor([height * width for height, width in grids])
    levels = torch.tensor([(end - height * width, height, width, stride) for end, (height, width), stride in zip(
        lengths.cumsum(0).tolist(), grids, strides)]).repeat_interleave(lengths, 0)  # (L, 4)
    start, height, width, stride = levels.to(field.device)[location].unbind(1)
    size = torch.stack((width, height), 1)
    index = points / stride[:, None]
    index = torch.minimum(index.clamp(min=0), (size - 1).to(index))

    def at(column, row):
        return field[image, start + row * width + column]

    low = index.floor().long()
    high = torch.minimum(low + 1, size - 1)
    wx, wy = (index - low)[:, :, None, None].unbind(1)  # each (M, 1, 1)
    (x0, y0), (x1, y1) = low.unbind(1), high.unbind(1)
    return (at(x0, y0) * (1 - wx) * (1 - wy) + at(x1, y0) * wx * (1 - wy)
            + at(x0, y1) * (1 - wx) * wy + at(x1, y1) * wx * wy)


def visible(boxes: Tensor, T: Tensor, size: Tensor, lattice: int = 16) -> Tensor:
    """The share (M,) of each transformed box that lies in the frame, counted on a lattice of points.

    boxes: (M, 4) on I. T: (M, 2, 3). size: (M, 2), width and height of the frame. 16 × 16 points tell the area to
    a sixteenth where one side is cut straight, all on the device; shapely would cut exactly, one box at a time.
    """
    ticks = (torch.arange(lattice, device=boxes.device, dtype=boxes.dtype) + 0.5) / lattice
    unit = torch.cartesian_prod(ticks, ticks)  # (lattice², 2)
    points = transform(T, boxes[:, None, :2] + unit * (boxes[:, None, 2:] - boxes[:, None, :2]))
    return ((points >= 0) & (points <= size[:, None])).all(-1).to(boxes).mean(1)


def object_mask(o: Tensor, boxes: Tensor, T: Tensor, size: Tensor, share: float = 0.9) -> Tensor:
    """The mask m (M,): o and T(o) lie in the frame, and so does this share of the object's transformed box.

    share: 0 asks for valid centres alone, as the paper does. (o itself may lie in the padding of a batch where all
    locations are compared.)
    """
    inside = [((place >= 0) & (place <= size)).all(-1) for place in (o, transform(T, o[:, None])[:, 0])]
    return inside[0] & inside[1] & (visible(boxes, T, size) >= share)


def point_costs(P: Tensor, Q: Tensor, smooth_l1: float) -> Tensor:
    """Smooth L1 between all pairs, summed over x and y: (M, K, 2) and (M, K, 2) to (M, K, K)."""
    K = P.shape[1]
    return smooth_l1_loss(P[:, :, None].expand(-1, -1, K, -1), Q[:, None].expand(-1, K, -1, -1),
                          reduction="none", beta=smooth_l1).sum(-1)


def match(costs: Tensor) -> Tensor:
    """Hungarian matching of M problems at once: (M, K, K) costs to (M, K) columns, one for each row.

    The cost is the loss itself, so that the matching minimises equation 1. Raises ValueError on NaN.
    """
    if torch.isnan(costs).any():
        raise ValueError("the keypoint matching got NaN: a keypoint of one of the two views is not finite")
    return batch_linear_assignment(costs.detach().float())


def matched_costs(P: Tensor, Q: Tensor, hungarian: bool, smooth_l1: float) -> Tensor:
    """The loss of each of P's points (M, K) against its partner in Q: matched, or index to index."""
    if hungarian:
        with torch.no_grad():
            # a NaN is to reach the loss, where training stops and names it; any matching will do until then
            columns = match(point_costs(P, Q, smooth_l1).nan_to_num(nan=0, posinf=0))
        Q = Q.gather(1, columns[..., None].expand_as(Q))
    return smooth_l1_loss(P, Q, reduction="none", beta=smooth_l1).sum(-1)


def keypoint_loss(pairs: Pairs, settings: Keypoints) -> Tensor:
    """Equation 1: Σ_o m(o) Σ_k |p_k − p'_σ(k)|, with P'_T = T⁻¹ P_T (equation 2) and σ the matching.

    With `normalize`, distances are divided by the root of the object's area, so that small and large objects count
    alike.
    """
    P_back = transform(inverse(pairs.T), pairs.P_T)  # equation 2
    P, P_back = pairs.P[pairs.mask], P_back[pairs.mask]
    if settings.normalize:
        scale = pairs.area[pairs.mask].sqrt()[:, None, None]
        P, P_back = P / scale, P_back / scale
    costs = matched_costs(P, P_back, settings.hm, settings.smooth_l1)  # equation 1
    return costs.sum() if settings.reduction == "sum" else costs.sum() / max(1, costs.numel())


def turned_back(offsets: Tensor, anchors: Tensor, T: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Locations and keypoints of a turned view, taken back to the photo: o = T⁻¹ o_T, and P' = T⁻¹ P_T (equation 2).

    There the labelled box is exact, whatever T is: P' has to have its extent along the label's own axes.

    offsets: (N, L, K, 2) from o_T, in anchor sizes. anchors: (L, 4) around o_T. T: (N, 2, 3). sizes: (N, 2), width and
    height of the photos and their views in pixels. Returns the offsets of P' from o, and anchors (N, L, 4) around o. A
    location in the padding of a batch sees no photo, so its o is put far off, where no object is.
    """
    o_T, half = centers(anchors), (anchors[:, 2:] - anchors[:, :2]) / 2
    inside = ((o_T >= 0) & (o_T <= sizes[:, None])).all(-1, keepdim=True)
    o = torch.where(inside, transform(inverse(T), o_T), -1e6)
    back = (offsets.flatten(1, 2) @ T[..., :2]).view_as(offsets)  # row by row, u R is R⁻¹ u
    return back, torch.cat((o - half, o + half), -1)


def still_there(targets: list[dict[str, Tensor]], T: Tensor, sizes: Tensor, share: float) -> list[dict[str, Tensor]]:
    """The objects of N photos of which at least this share is in the frame of T I; what lies outside the photo does
    not count. T: (N, 2, 3). sizes: (N, 2)."""
    counts = [len(target["boxes"]) for target in targets]
    photo = torch.repeat_interleave(torch.tensor(counts, device=T.device))
    boxes = torch.cat([target["boxes"] for target in targets]).to(T)
    boxes = torch.minimum(boxes.clamp(min=0), sizes[photo].to(T).repeat(1, 2))
    kept = (visible(boxes, T[photo], sizes[photo]) >= share).split(counts)
    return [{key: target[key][here] for key in ("boxes", "labels")} for target, here in zip(targets, kept)]


def separation(points: Tensor, boxes: Tensor, distance: float) -> Tensor:
    """A hinge against collapse (M,): the mean over pairs of max(0, δ² − ‖(p_i − p_j) / (w, h)‖²) / δ².

    points: (M, K, 2), boxes: (M, 4). δ = `distance`, in boxes. 0: no two points nearer than δ; 1: all in one place.
    """
    K = points.shape[1]
    unit = points / (boxes[:, None, 2:] - boxes[:, None, :2]).clamp(min=1e-6)
    first, second = torch.triu_indices(K, K, 1, device=points.device)
    squares = (unit[:, first] - unit[:, second]).square().sum(-1)
    return (1 - squares / distance ** 2).clamp(min=0).mean(1)


def spread(points: Tensor, boxes: Tensor) -> Tensor:
    """The collapse gauge (M,): mean distance between two keypoints over the box's diagonal.

    0: all points in one place. K points spread evenly on the box's outline give about 0.5.
    """
    K = points.shape[1]
    pairs = torch.cdist(points, points).sum((1, 2)) / (K * (K - 1))
    return pairs / (boxes[:, 2:] - boxes[:, :2]).norm(dim=1).clamp(min=1e-6)
