"""The idea in pictures: the paper's Figures 1 and 2, and the label that turns back, computed with the functions that
training uses.

The keypoints here are put on an object's outline by hand (`on_outline`), where training has to find them. Points of the
photo are blue, points of its second view orange, and a number is a point's place in its list.
"""

import matplotlib.pyplot as plt
import numpy as np
import shapely
import torch
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from PIL import Image
from torchvision.ops import box_iou
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

from .. import geometry, losses
from ..data import shapes
from .charts import COLOURS
from .photos import DASHES, FROM_POINTS, keypoints, labelled, legend, outline, show

FIRST, SECOND = COLOURS[0], COLOURS[1]


def photo(seed: int, size: int = 256) -> tuple[Image.Image, np.ndarray]:
    """A drawn photo (size × size pixels), and the outline (V, 2) of its first object."""
    image, _, outlines = shapes.draw(np.random.default_rng(seed), size)
    return image, outlines[0]


def on_outline(corners: np.ndarray, k: int) -> torch.Tensor:
    """K points (K, 2) at equal distances along an outline (V, 2)."""
    ring = shapely.LinearRing(corners)
    places = shapely.line_interpolate_point(ring, np.arange(k) / k, normalized=True)
    return torch.from_numpy(shapely.get_coordinates(places))


def motion(image: Image.Image, angle: float, shift=(0.0, 0.0)) -> torch.Tensor:
    """T (2, 3): a turn by `angle` degrees, clockwise, about the photo's centre, and a shift in pixels."""
    center = image.width / 2, image.height / 2
    return geometry.rigid(*(torch.tensor(each, dtype=torch.float64) for each in (angle, shift, center)))


def view(image: Image.Image, T: torch.Tensor, fill: str = "reflect") -> Image.Image:
    """The photo through T (2, 3), as training makes its second view."""
    pixels = pil_to_tensor(image)[None].double()
    warped = geometry.warp_images(pixels, T[None], torch.tensor([image.size]), fill)[0]
    return to_pil_image(warped.round().clamp(0, 255).byte())


def second_list(P: torch.Tensor, T: torch.Tensor, noise: float) -> torch.Tensor:
    """P_T (K, 2): P after T as a network would find it, `noise` pixels off and in an order of its own."""
    rng = np.random.default_rng(0)
    moved = geometry.transform(T, P)[torch.from_numpy(rng.permutation(len(P)))]
    return moved + torch.from_numpy(rng.normal(0, noise, P.shape))


def soft_box(P: torch.Tensor, o: torch.Tensor, anchor: float, sharpness: float) -> torch.Tensor:
    """The box (4,) that KAOD derives from the keypoints (K, 2) of location o; anchor: the anchor's size in pixels."""
    sides = anchor * losses.keypoints_to_boxes((P - o) / anchor, sharpness)
    return torch.cat((o - sides[:2], o + sides[2:]))


def shares(P: torch.Tensor, o: torch.Tensor, anchor: float, sharpness: float) -> torch.Tensor:
    """How far the box's left side moves (K,) when each keypoint alone moves by one pixel: its gradient."""
    P = P.clone().requires_grad_()
    return torch.autograd.grad(soft_box(P, o, anchor, sharpness)[0], P)[0][:, 0]


def dots(axes, points: torch.Tensor, colour: str, label: str = "") -> None:
    """Points (K, 2): numbered from 1, or, with an entry in the legend, small."""
    axes.scatter(*points.T, s=45 if label else 150, color=colour, edgecolors="black", zorder=3, label=label)
    for number, place in enumerate(() if label else points.numpy(), 1):
        axes.text(*place, number, ha="center", va="center_baseline", fontsize=8.5, fontweight="bold", zorder=4,
                  color="white" if colour == FIRST else "black")


def note(axes, place: torch.Tensor, text: str) -> None:
    """Words beside a place (2,), readable on any ground."""
    axes.annotate(text, place.numpy(), (10, 2), textcoords="offset points", fontsize=10, fontweight="bold", zorder=4,
                  bbox={"facecolor": "white", "alpha": 0.85, "pad": 1.5, "linewidth": 0})


def location(axes, place: torch.Tensor, name: str) -> None:
    """A cross, with its name."""
    axes.plot(*place, "P", color="black", markeredgecolor="white", markersize=12, zorder=4)
    note(axes, place, name)


def distances_or_points(image, P: torch.Tensor, o: torch.Tensor, anchor: float, sharpness: float):
    """What FCOS learns at one location, and what KAOD learns there."""
    figure, panels = plt.subplots(1, 2, figsize=(8.4, 4.3))
    box, (x, y) = geometry.enclosing(P), o
    ends = torch.stack((box[0], y, x, box[1], box[2], y, x, box[3])).reshape(4, 2)
    for axes, points, ring, title in (
            (panels[0], ends, box, "FCOS: the box from four distances"),
            (panels[1], P, soft_box(P, o, anchor, sharpness), f"KAOD: the box from K = {len(P)} keypoints")):
        show(axes, image, title)
        outline(axes, geometry.corners(ring), FIRST, 2.5)
        axes.plot(*torch.stack((o.expand_as(points), points)).permute(2, 0, 1), color="white")
        location(axes, o, "o")
    panels[0].plot(*ends.T, "o", color="white", markeredgecolor="black")
    dots(panels[1], P, FIRST)
    return figure


def soft_boxes(image, P: torch.Tensor, o: torch.Tensor, anchor: float, sharpness: tuple[float, ...]):
    """Boxes by softmin and softmax of different sharpness; points coloured by their share in the left side.

    The shares, whose sum is one, stand beside the points that have the largest and the smallest.
    """
    figure, panels = plt.subplots(1, len(sharpness), figsize=(11, 4.2))
    found = torch.stack([shares(P, o, anchor, value) for value in sharpness])
    for axes, value, share in zip(panels, sharpness, found):
        show(axes, image.convert("L").convert("RGB"), f"sharpness {value:g}")
        for box, colour, dashes, words in ((geometry.enclosing(P), SECOND, ":", "from smallest to largest x and y"),
                                           (soft_box(P, o, anchor, value), FIRST, "-", "from softmin to softmax")):
            outline(axes, geometry.corners(box), colour, 2.5, dashes=dashes)
            axes.plot([], [], color=colour, linewidth=3, linestyle=dashes, label=words)
        drawn = axes.scatter(*P.T, c=share, cmap="cividis", s=110, edgecolors="black", zorder=3,
                             vmin=found.min().item(), vmax=found.max().item())  # a share may be below 0 or above 1
        for number in (share.argmax(), share.argmin()):
            note(axes, P[number], f"{share[number]:.2f}")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.colorbar(drawn, ax=list(panels), aspect=25, pad=0.01, label="pixels that the left side moves\nwhen a point "
                    "moves by one")
    return figure


def two_views(image, P: torch.Tensor, P_T: torch.Tensor, T: torch.Tensor, o: torch.Tensor, smooth_l1: float = 0.1):
    """The two views, and the keypoint loss in points' order and matched; distances over √(box area)."""
    figure, panels = plt.subplots(2, 2, figsize=(9, 9.2))
    show(panels[0, 0], image, "the photo I, and keypoints P of location o")
    dots(panels[0, 0], P, FIRST)
    location(panels[0, 0], o, "o")
    show(panels[0, 1], view(image, T), "the second view T I: keypoints P$_T$ of location T(o)")
    dots(panels[0, 1], P_T, SECOND)
    location(panels[0, 1], geometry.transform(T, o[None])[0], "T(o)")
    back = geometry.transform(geometry.inverse(T), P_T)  # equation 2
    box = geometry.enclosing(P)
    first, second = (points[None] / (box[2:] - box[:2]).prod().sqrt() for points in (P, back))
    partners = losses.match(losses.point_costs(first, second, smooth_l1))[0]
    for axes, order, hungarian, title in ((panels[1, 0], slice(None), False, "index by index"),
                                          (panels[1, 1], partners, True, "matched")):
        value = losses.matched_costs(first, second, hungarian, smooth_l1).mean()
        show(axes, image.convert("L").convert("RGB"), f"mapped back, {title}: loss {value:.3f}")
        for colour, width, words in (("black", 4.5, ""), (COLOURS[6], 2.5, "partners")):
            axes.add_collection(LineCollection(torch.stack((P, back[order]), 1).numpy(), colors=colour,
                                               linewidths=width, capstyle="round", label=words))
        dots(axes, P, FIRST, "P")
        dots(axes, back, SECOND, "T⁻¹ P$_T$")
    figure.legend(*panels[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def masks(image, P: torch.Tensor, o: torch.Tensor, maps: dict[str, torch.Tensor]):
    """The mask m for several second views T, by name; what lies outside the frame is not seen by the network."""
    figure, panels = plt.subplots(1, len(maps), figsize=(11, 4.1))
    size, box = torch.tensor([image.size], dtype=P.dtype), geometry.enclosing(P)[None]
    for axes, (name, T) in zip(panels, maps.items()):
        share = losses.visible(box, T[None], size).item()
        kept = losses.object_mask(o[None], box, T[None], size).item()
        show(axes, view(image, T, "constant"), f"{name}\n{100 * share:.0f} % of the box in view: m = {int(kept)}")
        outline(axes, geometry.transform(T, geometry.corners(box[0])), SECOND, 2.5)
        location(axes, geometry.transform(T, o[None])[0], "T(o)")
        axes.set(xlim=(-10, 1.35 * image.width), ylim=(1.1 * image.height, -0.1 * image.height))  # and what left it
    return figure


def turned_boxes(corners: np.ndarray, T: torch.Tensor) -> dict[str, torch.Tensor]:
    """Boxes (4,) of an object on T of the photo, by name. Two follow from the upright label, as in `turned_copy`; their
    names tell the IoU with the third, the true one, which only the outline (V, 2) gives."""
    points = torch.from_numpy(corners)
    label, true = geometry.enclosing(points), geometry.enclosing(geometry.transform(T, points))
    guesses = {"turned corners": geometry.enclosing(geometry.transform(T, geometry.corners(label))),
               "turned ellipse": geometry.ellipse_boxes(T, label)}
    return {**{f"box of the {name}: IoU {box_iou(box[None], true[None]).item():.2f}": box
               for name, box in guesses.items()}, "true box, of the turned outline": true}


def on_axes(P: torch.Tensor, angle: float) -> torch.Tensor:
    """The corners (4, 2) of the box around points (K, 2) on axes that are turned by `angle` degrees, clockwise."""
    R = geometry.rigid(*(torch.tensor(each, dtype=P.dtype) for each in (angle, (0, 0), (0, 0))))
    return geometry.transform(R, geometry.corners(geometry.enclosing(geometry.transform(geometry.inverse(R), P))))


def frame(axes, points: torch.Tensor, colour: str, dashes="-") -> tuple[Line2D, Line2D]:
    """A box's corners (4, 2) as `outline` draws them; gives what stands for them in a legend."""
    outline(axes, points, colour, 2, dashes=dashes)
    return Line2D([], [], color="black", linewidth=4), Line2D([], [], color=colour, linewidth=2.5, linestyle=dashes)


def labels_turned_back(image, corners: np.ndarray, P: torch.Tensor, angle: float, others=(-25, 0)):
    """Boxes for a turned copy; its keypoints, turned back to the labelled box; and boxes on axes that nobody labelled.

    corners: (V, 2), the object's outline. P: (K, 2), keypoints on the photo; a network finds T of them on the copy.
    angle: degrees by which T turns. others: degrees by which the label's axes could be turned on the copy instead.
    """
    figure, panels = plt.subplots(1, 3, figsize=(11, 4.6), layout="constrained")
    figure.get_layout_engine().set(wspace=0.05)  # for the arrow
    T, label = motion(image, angle), geometry.corners(geometry.enclosing(torch.from_numpy(corners)))
    copy, P_T = view(image, T, "mean"), geometry.transform(T, P)
    back = geometry.transform(geometry.inverse(T), P_T)  # equation 2
    for axes, shown, points, title in ((panels[0], copy, P_T, "a turned copy: which box?"),
                                       (panels[1], image, back, "its keypoints, turned back to the label"),
                                       (panels[2], copy, P_T, "the label could have other axes")):
        show(axes, shown, title)
        dots(axes, points, SECOND, "keypoints")
    looks = (COLOURS[3], DASHES), (COLOURS[6], DASHES), (FIRST, "-")
    keys = {words: frame(panels[0], geometry.corners(box), *look)
            for (words, box), look in zip(turned_boxes(corners, T).items(), looks)}
    for turn in others:
        keys["boxes on other axes"] = frame(panels[2], on_axes(P_T, turn), COLOURS[5])
    for axes, points in ((panels[1], label), (panels[2], geometry.transform(T, label))):
        keys["labelled box"] = frame(axes, points, "white", "--")
    keys["keypoints"] = panels[0].collections[0]
    arrow = {"arrowstyle": "-|>", "linewidth": 2}
    panels[1].annotate("", (-0.01, 0.5), (-0.11, 0.5), xycoords="axes fraction", arrowprops=arrow)
    panels[1].annotate("T⁻¹", (-0.06, 0.53), xycoords="axes fraction", fontsize=13, ha="center")
    figure.legend(keys.values(), keys, loc="outside lower center", ncols=3)
    return figure


def turned(axes, image, corners: np.ndarray, k: int, angle: float, title: str) -> dict[str, np.ndarray]:
    """The photo turned by `angle` (degrees), with k keypoints on an object's outline and what follows from them; gives
    the shapes (V, 2) by name, and the turned outline as "object"."""
    T = motion(image, angle)
    points = geometry.transform(T, on_outline(corners, k))
    show(axes, view(image, T), title)
    keypoints(axes, {"keypoints": points[None].numpy(), "labels": [1]}, 60)
    return {"upright box": geometry.corners(geometry.enclosing(points)).numpy(),
            "rotated box": geometry.rotated_boxes(points[None].numpy())[0][0],
            "hull (mask)": geometry.hulls(points[None].numpy())[0],
            "object": geometry.transform(T, torch.from_numpy(corners)).numpy()}


def for_free(image, corners: np.ndarray, k: int, angles: tuple[float, ...]):
    """The upright box, the rotated box and the hull of the points, for the photo turned by each angle (degrees)."""
    figure, panels = plt.subplots(1, len(angles), figsize=(11, 4.9))
    for axes, angle in zip(panels, angles):
        found = turned(axes, image, corners, k, angle, f"turned by {angle:g}°")
        outline(axes, found["upright box"], FIRST, dashes=DASHES)
        areas = {words: shapely.Polygon(ring) for words, ring in found.items()}
        truth = areas.pop("object")
        axes.set_xlabel("\n".join(f"{words}: IoU {area.intersection(truth).area / area.union(truth).area:.2f}"
                                  for words, area in areas.items()))
    legend(figure, "upright box", *FROM_POINTS)
    return figure


def idea(k: int = 16, angle: float = 40):
    """The whole idea in one line: a drawn photo, its keypoints and what follows from them, and how they turn with it.

    The keypoints lie on the outline here. At most 880 × 330 pixels at the 80 dpi of `charts.style`.
    """
    image, corners = photo(236)
    figure, panels = plt.subplots(1, 3, figsize=(11, 4.1))
    show(panels[0], image, "a photo; labelled: an upright box")
    labelled(panels[0], geometry.enclosing(on_outline(corners, k)))
    turned(panels[1], image, corners, k, 0, f"KAOD: {k} keypoints that nobody labelled")
    turned(panels[2], image, corners, k, angle, f"the photo turned by {angle:g}°: they turn, too")
    legend(figure, "labelled box", *FROM_POINTS)
    return figure
