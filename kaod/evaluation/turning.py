"""Do the keypoints turn with the object? Figures beside those of sets that do not, and of one that does.

`compare` takes what a model gives at supervised locations o of photos and of the same photos turned by one angle, and
returns `figures` of four sets of keypoints:
model     the model's own.
ring      blind: P again in the second view, moved to T(o) and not turned.
ellipse   blind, but for the box: K points on the ellipse inscribed in the object's box, and in the second view on the
          one inscribed in the box that encloses the turned ellipse. Each keeps its direction in the photo.
perfect   P and T P: keypoints that turn.

`turn` and `distance` tell: keypoints turn as far as both are nearer to those of `perfect` than to those of the blind
sets. Matched, they do not tell: a ring of K points looks the same after a turn by 360°/K, and is matched so. Hulls say
what the keypoints are worth, but not that they turn: a round hull looks the same however it is turned, and the
ellipse's follows the object's box.
"""

import math
from dataclasses import replace

import numpy as np
import shapely
import torch
from torch import Tensor

from .. import losses
from ..geometry import ellipse_boxes, inverse, transform
from .outlines import GRID, iou


def fitted_turn(P: Tensor, Q: Tensor, weight: Tensor) -> float:
    """The turn in degrees, clockwise on the screen, after which the sets P (M, K, 2) lie nearest to Q, point by point.

    Each set turns about its centroid, all by the same angle (least squares: Procrustes without scale). weight: (M,).
    """
    P, Q = P - P.mean(1, keepdim=True), Q - Q.mean(1, keepdim=True)
    across, along = P[..., 0] * Q[..., 1] - P[..., 1] * Q[..., 0], (P * Q).sum(-1)
    return math.degrees(math.atan2(*((weight[:, None] * each).sum() for each in (across, along))))


def hull_iou(P: Tensor, Q: Tensor) -> float | None:
    """The mean IoU of the hulls of sets (M, K, 2), over those P whose hull has an area; None without one."""
    first, second = (shapely.convex_hull(shapely.linestrings(each.numpy())) for each in (P, Q))
    wide = shapely.area(first) > 1e-6
    return float(np.mean(iou(first[wide], second[wide], GRID))) if wide.any() else None


def figures(pairs: losses.Pairs, o: Tensor, angle: float) -> dict[str, float | None]:
    """How far keypoints follow a turn by `angle` degrees, over the M > 0 locations o (M, 2) that the mask keeps.

    turn               the turn that fits P_T best, in degrees; small and large objects count alike
    turn_matched       the same after Hungarian matching of P with T⁻¹ P_T: what is left of a turn, plus `angle`
    distance           the mean ‖P − T⁻¹ P_T‖ / √area, by index
    distance_matched   the same after matching
    hull               the mean IoU of the hulls of P and T⁻¹ P_T; None where no hull has an area
    hull_unturned      the same with P_T moved from T(o) to o, and not turned back
    """
    there = transform(pairs.T, o[:, None])[pairs.mask]
    P, P_T, T, area = (each[pairs.mask].double().cpu() for each in (pairs.P, pairs.P_T, pairs.T, pairs.area))
    moved = P_T + (o[pairs.mask][:, None] - there).double().cpu()
    back = transform(inverse(T), P_T)
    distances = torch.cdist(P, back, compute_mode="donot_use_mm_for_euclid_dist")
    columns = losses.match(distances)[..., None]
    matched = back.gather(1, columns.expand_as(back))
    unit = area.sqrt()[:, None]
    return {"turn": fitted_turn(P, P_T, 1 / area), "turn_matched": angle + fitted_turn(P, matched, 1 / area),
            "distance": ((P - back).norm(dim=-1) / unit).mean().item(),
            "distance_matched": (distances.gather(2, columns)[..., 0] / unit).mean().item(),
            "hull": hull_iou(P, back), "hull_unturned": hull_iou(P, moved)}


def ellipses(boxes: Tensor, K: int) -> Tensor:
    """K points (M, K, 2) on the ellipses inscribed in boxes (M, 4), from the right on, clockwise on the screen."""
    turns = torch.arange(K, dtype=boxes.dtype, device=boxes.device) * 2 * math.pi / K
    circle = torch.stack((turns.cos(), turns.sin()), 1)
    return ((boxes[:, None, :2] + boxes[:, None, 2:]) + (boxes[:, None, 2:] - boxes[:, None, :2]) * circle) / 2


def compare(pairs: losses.Pairs, o: Tensor, boxes: Tensor, angle: float) -> dict[str, dict] | None:
    """{set: its `figures`}, as this module's docstring says; None where the mask keeps no location.

    o: (M, 2), the locations. boxes: (M, 4), of their objects. angle: degrees, that of pairs.T.
    """
    if not pairs.mask.any():
        return None
    P, T, K = pairs.P, pairs.T, pairs.P.shape[1]
    sets = {"model": pairs, "ring": replace(pairs, P_T=P - o[:, None] + transform(T, o[:, None])),
            "ellipse": replace(pairs, P=ellipses(boxes, K), P_T=ellipses(ellipse_boxes(T, boxes), K)),
            "perfect": replace(pairs, P_T=transform(T, P))}
    return {name: figures(each, o, angle) for name, each in sets.items()}
