"""Photos, and what is true of them or was found on them, drawn for the notebooks, the README and `predict`."""

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Polygon
from torchvision.ops import nms

from .. import geometry
from .charts import COLOURS, DARK, legible

DASHES = (0, (4, 1.2))  # of upright boxes, so long that their colour is seen
FROM_POINTS = ("rotated box", "hull (mask)", "keypoints")  # what is drawn of them; see `legend`


def show(axes, image, title: str = "") -> None:
    """A photo in continuous pixel coordinates: pixel i covers [i, i + 1]."""
    axes.imshow(image, extent=(0, image.width, image.height, 0))
    axes.set(xlim=(0, image.width), ylim=(image.height, 0), xticks=[], yticks=[], frame_on=False, title=title)


def outline(axes, points, colour, width: float = 1.8, fill: float = 0.0, dashes="-") -> None:
    """A closed line through points (V, 2), black below, and between its dashes, so that it reads on any ground."""
    if fill and len(points) > 2:
        axes.add_patch(Polygon(points, facecolor=colour, alpha=fill, edgecolor="none"))
    for colour_, width_, dashes_ in (("black", width + 1.2, "-"), (colour, width, dashes)):
        axes.add_patch(Polygon(points, fill=False, edgecolor=colour_, linewidth=width_, linestyle=dashes_,
                               joinstyle="round"))


def legend(figure, *kinds: str, **place) -> None:
    """A line below the photos that says what is drawn on them, `kinds` of the keys below; colours of classes are grey
    here. place: where in the figure, if not where its layout puts it."""
    def line(colour, dashes="-"):
        return Line2D([], [], color="black", linewidth=3.4), Line2D([], [], color=colour, linewidth=2, linestyle=dashes)

    points = tuple(Line2D([], [], color=colour, marker="o", markersize=7, linestyle="", markeredgecolor="black")
                   for colour in plt.get_cmap("twilight")((0.15, 0.4, 0.75)))
    known = {"labelled box": line("white", "--"), "true outline": Patch(facecolor="#CCCCCC", edgecolor=DARK),
             "ignored object": line("#999999"), "upright box": line("#BBBBBB", DASHES), "rotated box": line("#BBBBBB"),
             "hull (mask)": Patch(facecolor="#CCCCCC"), "keypoints": points}
    figure.legend([known[kind] for kind in kinds], kinds, ncols=len(kinds), handlelength=2.4, columnspacing=1.2,
                  frameon=False, handler_map={tuple: HandlerTuple(1), points: HandlerTuple(None)},
                  **({"loc": "outside lower center"} | place))


def labelled(axes, box, ignored: bool = False) -> None:
    """A labelled box (4,): white dashes; grey where the object is ignored."""
    outline(axes, geometry.corners(box), "#999999" if ignored else "white", 1.4,
            dashes="-" if ignored else "--")


def truth(axes, sample, classes: list[str]) -> None:
    """The objects' outlines, where known, and boxes, with their classes; ignored objects in grey."""
    for box, label, ignore, parts in zip(sample.boxes, sample.labels, sample.ignore, sample.polygons):
        name(axes, box, classes[label - 1] + (" (ignored)" if ignore else ""))
        for part in parts:
            outline(axes, part, "#999999" if ignore else COLOURS[(label - 1) % len(COLOURS)], 1.2, 0.25)
        labelled(axes, box, ignore)


def name(axes, box, text: str) -> None:
    """Words above a box's top left corner, or its right one near the photo's right end, or below it at the photo's top;
    over all else, readable on any ground."""
    (bottom, top), (left, right) = axes.get_ylim(), axes.get_xlim()
    inside, late = box[1] < top + 0.08 * (bottom - top), box[0] > left + 0.65 * (right - left)
    axes.annotate(legible(text), (box[2 if late else 0], box[1]), (-1 if late else 1, -2 if inside else 2),
                  textcoords="offset points", ha="right" if late else "left", va="top" if inside else "bottom",
                  fontsize=8, color="white", annotation_clip=True, zorder=5,
                  bbox={"facecolor": "black", "alpha": 0.6, "pad": 1, "linewidth": 0}).set_in_layout(False)


def detections(axes, found: dict[str, np.ndarray], classes: list[str], size: float = 26) -> None:
    """Upright boxes, dashed, with class and score, and what else `keypoints` draws where there are any."""
    for box, label, score in zip(found["boxes"], found["labels"], found["scores"]):
        outline(axes, geometry.corners(box), COLOURS[(label - 1) % len(COLOURS)], dashes=DASHES)
        name(axes, box, f"{classes[label - 1]} {score:.2f}")
    if "keypoints" in found:
        keypoints(axes, found, size)


def keypoints(axes, found: dict[str, np.ndarray], size: float = 26) -> None:
    """Each detection's keypoints, `size` square points large, their hull as mask, and the rotated box. A keypoint's
    colour is its place in the list; the colours go round and differ in lightness, too."""
    rings, _ = geometry.rotated_boxes(found["keypoints"])
    hulls = geometry.hulls(found["keypoints"])
    for points, hull, ring, label in zip(found["keypoints"], hulls, rings, found["labels"]):
        colour = COLOURS[(label - 1) % len(COLOURS)]
        axes.add_patch(Polygon(hull, facecolor=colour, alpha=0.35, edgecolor="none"))
        outline(axes, ring, colour, 1.6)
        colours = plt.get_cmap("twilight")(np.arange(len(points)) / len(points))
        axes.scatter(*points.T, c=colours, s=size, edgecolors="black", linewidths=0.8, zorder=3)


def best(found: dict[str, np.ndarray], least: float, most: int = 8) -> dict[str, np.ndarray]:
    """What is worth drawing: scores of at least `least`, at most `most`, and of detections in one place (IoU over
    one half, whatever their class) the best one."""
    kept = nms(torch.from_numpy(found["boxes"]), torch.from_numpy(found["scores"]), 0.5).numpy()
    kept = kept[found["scores"][kept] >= least][:most]
    return {key: value[kept] for key, value in found.items()}


def picture(photos: list, all_found: list[dict], classes: list[str], largest: int = 1280):
    """Photos of one size beside each other, each with its detections, and a legend of 26 pixels below, at 100 dpi.

    Pixel for pixel, but at least 480 pixels wide, and at most `largest` pixels a side: letters and lines keep their
    size, and on a larger picture nobody could read them.
    """
    width, height = photos[0].size
    scale = min(max(1, 480 / width), largest / max(width, height))
    wide, high, below, gap = max(1, round(width * scale)), max(1, round(height * scale)), 26, 6
    across, tall = (wide + gap) * len(photos) - gap, high + below
    figure = Figure(figsize=(across / 100, tall / 100), dpi=100, layout="none")  # which nothing has to close
    for number, (image, found) in enumerate(zip(photos, all_found)):
        axes = figure.add_axes((number * (wide + gap) / across, below / tall, wide / across, high / tall))
        axes.imshow(image.resize((wide, high)) if scale < 1 else image, extent=(0, width, height, 0), aspect="auto")
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.set_axis_off()
        detections(axes, found, classes)
    kinds = FROM_POINTS if any("keypoints" in found for found in all_found) else ()
    legend(figure, "upright box", *kinds, loc="lower center", borderaxespad=0, fontsize=8)
    return figure


def grid(rows: list[tuple[str, list]], classes: list[str], titles=()):
    """Photos in rows: [(the row's title, [(sample, what was found there, or None: what is true of it)])]; titles: those
    of the columns."""
    figure, panels = plt.subplots(len(rows), len(rows[0][1]), figsize=(11, 0.5 + 10.8 / len(rows[0][1]) * len(rows)),
                                  squeeze=False)
    for line, (title, cells) in zip(panels, rows):
        line[0].set_ylabel(title)
        for axes, (sample, found) in zip(line, cells):
            show(axes, sample.image())
            truth(axes, sample, classes) if found is None else detections(axes, found, classes, 60)
    for axes, title in zip(panels[0], titles):
        axes.set_title(title)
    detected = ("upright box", *FROM_POINTS) if any(found for _, cells in rows for _, found in cells) else ()
    legend(figure, "labelled box", "true outline", *detected or ("ignored object",))
    return figure


def close_up(axes, sample, box, title: str) -> None:
    """What is around a labelled box (4,), and the box."""
    middle, reach = (box[:2] + box[2:]) / 2, 0.75 * (box[2:] - box[:2]).max()
    show(axes, sample.image(), title)
    axes.set(xlim=(middle[0] - reach, middle[0] + reach), ylim=(middle[1] + reach, middle[1] - reach))
    labelled(axes, box)


def strip(sample, moments: dict[str, dict[int, np.ndarray]], classes: list[str], most: int = 4):
    """Keypoints of some objects of a photo over the training: one row an object, one column a moment.

    moments: {title: {object: keypoints (K, 2) in pixels}}, as `predict.at_objects` gives them. The photo is cut to what
    is around the labelled box.
    """
    chosen = list(next(iter(moments.values())))[:most]
    figure, grid = plt.subplots(len(chosen), len(moments), figsize=(2.1 * len(moments), 0.3 + 2.1 * len(chosen)),
                                squeeze=False)
    for number, panels in zip(chosen, grid):
        panels[0].set_ylabel(legible(classes[sample.labels[number] - 1]))
        for axes, (title, found) in zip(panels, moments.items()):
            close_up(axes, sample, sample.boxes[number], title if number == chosen[0] else "")
            keypoints(axes, {"keypoints": found[number][None], "labels": sample.labels[number:number + 1]}, 34)
    legend(figure, "labelled box", *FROM_POINTS)
    return figure


def sheet(rows: dict[str, list], classes: list[str]):
    """Objects that `relabel` read, a row a title: {title: [(sample, labelled.Object), …]}. Each is cut out around its
    labelled box, with its mask and its rotated box."""
    figure, grid = plt.subplots(len(rows), max(map(len, rows.values())), squeeze=False, layout="constrained",
                                figsize=(1.5 * max(map(len, rows.values())), 0.3 + 1.7 * len(rows)))
    for axes in grid.flat:
        axes.set_axis_off()
    for panels, (title, objects) in zip(grid, rows.items()):
        for axes, (sample, each) in zip(panels, objects):
            axes.set_axis_on()
            close_up(axes, sample, each.box, f"{legible(classes[each.label - 1])} {each.score:.2f}")
            colour = COLOURS[(each.label - 1) % len(COLOURS)]
            outline(axes, each.outline, colour, 0.8, 0.35)
            outline(axes, each.corners, colour)
        panels[0].set_ylabel(title)
    legend(figure, "labelled box", "rotated box", "hull (mask)")
    return figure
