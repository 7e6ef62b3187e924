"""The idea in pictures: the paper's Figures 1 and 2, computed with the functions that training uses.

The keypoints here are put on an object's outline by hand (`on_outline`), where training has to find them. Points of the
photo are blue, points of its second view orange, and a number is a point's place in its list.
"""

import matplotlib.pyplot as plt
import numpy as np
import shapely
import torch
from matplotlib.patches import Rectangle
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

from .. import geometry, losses
from ..data import shapes
from .charts import COLOURS, DARK
from .photos import FROM_POINTS, keypoints, labelled, legend, outline, show

FIRST, SECOND = COLOURS[0], COLOURS[1]


def photo(seed: int, size: int = 256) -> tuple[Image.Image, np.ndarray]:
    """A drawn photo (size × size pixels), and the outline (V, 2) of its first object."""
    image, _, _, outlines = shapes.draw(np.random.default_rng(seed), size)
    return image, outlines[0]


def on_outline(corners: np.ndarray, k: int) -> torch.Tensor:
    """K points (K, 2) at equal distances along an outline (V, 2)."""
    ring = shapely.LinearRing(corners)
    places = shapely.line_interpolate_point(ring, np.arange(k) / k, normalized=True)
    return torch.from_numpy(shapely.get_coordinates(places))


def view(image: Image.Image, T: torch.Tensor, fill: str = "reflect") -> Image.Image:
    """The photo through T (2, 3), as training makes its second view."""
    pixels = pil_to_tensor(image)[None].double()
    warped = geometry.warp_images(pixels, T[None], torch.tensor([image.size]), fill)[0]
    return to_pil_image(warped.round().clamp(0, 255).byte())


def second_list(P: torch.Tensor, T: torch.Tensor, noise: float, seed: int = 0) -> torch.Tensor:
    """P_T (K, 2): P after T as a network would find it, `noise` pixels off and in an order of its own."""
    rng = np.random.default_rng(seed)
    moved = geometry.transform(T, P)[torch.from_numpy(rng.permutation(len(P)))]
    return moved + torch.from_numpy(rng.normal(0, noise, P.shape))


def soft_box(P: torch.Tensor, o: torch.Tensor, anchor: float, sharpness: float) -> torch.Tensor:
    """The box (4,) that KAOD derives from the keypoints (K, 2) of location o; anchor: the anchor's size in pixels."""
    left, top, right, bottom = (anchor * losses.keypoints_to_boxes((P - o) / anchor, sharpness)).unbind()
    return torch.stack((o[0] - left, o[1] - top, o[0] + right, o[1] + bottom))


def shares(P: torch.Tensor, o: torch.Tensor, anchor: float, sharpness: float) -> torch.Tensor:
    """How far the box's left side moves (K,) when each keypoint alone moves by one pixel: its gradient."""
    P = P.clone().requires_grad_()
    return torch.autograd.grad(soft_box(P, o, anchor, sharpness)[0], P)[0][:, 0]


def dots(axes, points, colour, numbers: bool = True) -> None:
    """Points (K, 2), numbered from 1."""
    axes.scatter(*np.asarray(points).T, s=150 if numbers else 45, color=colour, edgecolors="black", linewidths=1,
                 zorder=3)
    for number, place in enumerate(np.asarray(points) if numbers else (), 1):
        axes.text(*place, number, ha="center", va="center_baseline", fontsize=8.5, fontweight="bold", zorder=4,
                  color="white" if colour == FIRST else "black")


def _cross(axes, place, label: str) -> None:
    """A location, with its name."""
    axes.plot(*place, "+", color="white", markersize=16, markeredgewidth=4.5, zorder=4)
    axes.plot(*place, "+", color="black", markersize=14, markeredgewidth=2, zorder=4)
    axes.annotate(label, place, (9, 7), textcoords="offset points", fontsize=11, fontweight="bold", zorder=4,
                  bbox={"facecolor": "white", "alpha": 0.85, "pad": 1.5, "linewidth": 0})


def _rectangle(axes, box, colour, label: str, dashes: str = "-") -> None:
    """A box (4,) with a dark seam, and an entry in the legend."""
    outline(axes, geometry.corners(torch.as_tensor(box)).numpy(), colour, 2.5, dashes=dashes)
    axes.plot([], [], color=colour, linewidth=3, linestyle=dashes, label=label)


def _legend(axes) -> None:
    """Below the picture, where it hides nothing."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), fontsize=10, handlelength=1.6)


def distances_or_points(image, P: torch.Tensor, o: torch.Tensor, anchor: float, sharpness: float):
    """What FCOS learns at one location, and what KAOD learns there."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 4.7))
    box = geometry.enclosing(P).numpy()
    show(left, image, "FCOS: four distances from o")
    _rectangle(left, box, FIRST, "the box, given by the distances")
    x, y = o.tolist()
    for place in ((box[0], y), (box[2], y), (x, box[1]), (x, box[3])):
        left.annotate("", place, (x, y), arrowprops={"arrowstyle": "-|>", "color": "white", "linewidth": 2,
                                                     "shrinkA": 0, "shrinkB": 0, "mutation_scale": 16})
    show(right, image, f"KAOD: K = {len(P)} keypoints from o")
    for place in P.numpy():
        right.plot(*zip((x, y), place), color="white", linewidth=1)
    _rectangle(right, soft_box(P, o, anchor, sharpness).numpy(), FIRST, "the box, derived from the points")
    dots(right, P, FIRST)
    for axes in (left, right):
        _cross(axes, o, "o")
        _legend(axes)
    return figure


def soft_boxes(image, P: torch.Tensor, o: torch.Tensor, anchor: float, sharpness: tuple[float, ...]):
    """Boxes by softmin and softmax of different sharpness; points coloured by their share in the left side.

    The shares, whose sum is one, stand beside the points that have the largest and the smallest.
    """
    figure, panels = plt.subplots(1, len(sharpness), figsize=(11, 4.2))
    by_sharpness = [shares(P, o, anchor, value).numpy() for value in sharpness]
    ends = {"vmin": np.min(by_sharpness), "vmax": np.max(by_sharpness)}  # a share may be below 0 or above 1
    grey = image.convert("L").convert("RGB")
    for axes, value, share in zip(panels, sharpness, by_sharpness):
        show(axes, grey, f"sharpness {value:g}")
        _rectangle(axes, geometry.enclosing(P).numpy(), COLOURS[1], "from smallest to largest x and y", ":")
        _rectangle(axes, soft_box(P, o, anchor, value).numpy(), FIRST, "from softmin to softmax")
        drawn = axes.scatter(*P.numpy().T, c=share, cmap="cividis", **ends, s=110, edgecolors="black", zorder=3)
        for number in (share.argmax(), share.argmin()):
            axes.annotate(f"{share[number]:.2f}", P[number].numpy(), (9, 0), textcoords="offset points", va="center",
                          fontsize=10, zorder=4, bbox={"facecolor": "white", "alpha": 0.85, "pad": 1.5, "linewidth": 0})
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.colorbar(drawn, ax=list(panels), aspect=25, pad=0.01, label="pixels that the left side moves\nwhen a point "
                    "moves by one")
    return figure


def two_views(image, P: torch.Tensor, P_T: torch.Tensor, T: torch.Tensor, o: torch.Tensor, smooth_l1: float = 0.1):
    """The two views, and the keypoint loss in points' order and matched; distances over √(box area)."""
    figure, panels = plt.subplots(2, 2, figsize=(9, 9.2))
    (first, second), (plain, matched) = panels
    show(first, image, "the photo I, and keypoints P of location o")
    dots(first, P, FIRST)
    _cross(first, o, "o")
    show(second, view(image, T), "the second view T I: keypoints P$_T$ of location T(o)")
    dots(second, P_T, SECOND)
    _cross(second, geometry.transform(T, o[None])[0], "T(o)")
    back = geometry.transform(geometry.inverse(T), P_T)  # equation 2
    scale = (geometry.enclosing(P)[2:] - geometry.enclosing(P)[:2]).prod().sqrt()
    partners = losses.match(losses.point_costs(P[None] / scale, back[None] / scale, smooth_l1))[0]
    for axes, order, hungarian, title in ((plain, torch.arange(len(P)), False, "mapped back, index by index"),
                                          (matched, partners, True, "mapped back, matched")):
        value = losses.matched_costs(P[None] / scale, back[None] / scale, hungarian, smooth_l1).mean()
        show(axes, image.convert("L").convert("RGB"), f"{title}: loss {value:.3f}")
        for start, end in zip(P.numpy(), back[order].numpy()):
            for colour, width in (("black", 4.5), (COLOURS[6], 2.5)):
                axes.plot(*zip(start, end), color=colour, linewidth=width, solid_capstyle="round")
        dots(axes, P, FIRST, numbers=False)
        dots(axes, back, SECOND, numbers=False)
    plain.scatter([], [], color=FIRST, edgecolors="black", label="P")
    plain.scatter([], [], color=SECOND, edgecolors="black", label="T⁻¹ P$_T$")
    plain.plot([], [], color=COLOURS[6], linewidth=3, label="partners")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def masks(image, P: torch.Tensor, o: torch.Tensor, maps: dict[str, torch.Tensor]):
    """The mask m for several second views T, by name; what lies outside the frame is not seen by the network."""
    figure, panels = plt.subplots(1, len(maps), figsize=(11, 4.1))
    size, box = torch.tensor([image.size], dtype=P.dtype), geometry.enclosing(P)[None]
    for axes, (name, T) in zip(panels, maps.items()):
        share = losses.visible(box, T[None], size).item()
        kept = losses.object_mask(o[None], box, T[None], size).item()
        axes.imshow(view(image, T, "constant"), extent=(0, image.width, image.height, 0))
        axes.add_patch(Rectangle((0, 0), *image.size, fill=False, edgecolor=DARK, linewidth=2))
        outline(axes, geometry.transform(T, geometry.corners(box[0])).numpy(), SECOND, 2.5)
        _cross(axes, geometry.transform(T, o[None])[0], "T(o)")
        margin = 0.35 * image.width
        axes.set(xlim=(-margin / 8, image.width + margin), ylim=(image.height + margin / 4, -margin / 4))
        axes.set_axis_off()
        axes.set_title(f"{name}\n{100 * share:.0f} % of the box in view: m = {int(kept)}")
    return figure


def for_free(image, corners: np.ndarray, k: int, angles: tuple[float, ...]):
    """The upright box, the rotated box and the hull of the points, for the photo turned by each angle (degrees)."""
    figure, panels = plt.subplots(1, len(angles), figsize=(11, 4.4))
    center = torch.tensor(image.size, dtype=torch.float64) / 2
    for axes, angle in zip(panels, angles):
        T = geometry.rigid(torch.tensor(float(angle)).double(), torch.zeros(2).double(), center)
        points = geometry.transform(T, on_outline(corners, k))
        truth = shapely.Polygon(geometry.transform(T, torch.from_numpy(corners)).numpy())
        ring, hull = geometry.rotated_boxes(points[None].numpy())[0][0], geometry.hulls(points[None].numpy())[0]
        box = geometry.enclosing(points).numpy()
        show(axes, view(image, T), f"turned by {angle:g}°")
        outline(axes, hull, COLOURS[6], 1.5, 0.45)
        axes.plot([], [], color=COLOURS[6], linewidth=7, alpha=0.7,
                  label=f"hull, the mask: IoU {iou(shapely.Polygon(hull), truth):.2f}")
        outline(axes, ring, SECOND, 2.5)
        axes.plot([], [], color=SECOND, linewidth=3, label=f"rotated box: IoU {iou(shapely.Polygon(ring), truth):.2f}")
        _rectangle(axes, box, FIRST, f"upright box: IoU {iou(shapely.box(*box), truth):.2f}", "--")
        dots(axes, points, FIRST, numbers=False)
        _legend(axes)
    return figure


def idea(k: int = 16, angle: float = 40):
    """The whole idea in one line: a drawn photo, its keypoints and what follows from them, and how they turn with it.

    The keypoints lie on the outline here. At most 880 × 330 pixels at the 80 dpi of `charts.style`.
    """
    image, corners = photo(236)
    T = geometry.rigid(torch.tensor(angle).double(), torch.zeros(2).double(), torch.tensor(image.size).double() / 2)
    first = on_outline(corners, k)
    figure, panels = plt.subplots(1, 3, figsize=(11, 4.1))
    show(panels[0], image, "a photo; labelled: an upright box")
    labelled(panels[0], geometry.enclosing(first))
    second, turned = geometry.transform(T, first), f"the photo turned by {angle:g}°: they turn, too"
    for axes, seen, points, title in ((panels[1], image, first, f"KAOD: {k} keypoints that nobody labelled"),
                                      (panels[2], view(image, T), second, turned)):
        show(axes, seen, title)
        keypoints(axes, {"keypoints": points[None].numpy(), "labels": [1]}, 60)
    legend(figure, "labelled box", *FROM_POINTS)
    return figure


def iou(first: shapely.Geometry, second: shapely.Geometry) -> float:
    return first.intersection(second).area / first.union(second).area
