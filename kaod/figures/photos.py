"""Photos, and what is true of them or was found on them, drawn for the notebooks, the README and `predict`."""

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Polygon
from PIL import Image
from scipy.optimize import linear_sum_assignment
from torchvision.ops import nms

from .. import geometry
from ..data.warp import NAMES
from .charts import COLOURS, DARK

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
    outline(axes, geometry.corners(torch.as_tensor(box)).numpy(), "#999999" if ignored else "white", 1.4,
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
    axes.annotate(text, (box[2 if late else 0], box[1]), (-1 if late else 1, -2 if inside else 2),
                  textcoords="offset points", ha="right" if late else "left", va="top" if inside else "bottom",
                  fontsize=8, color="white", annotation_clip=True, zorder=5,
                  bbox={"facecolor": "black", "alpha": 0.6, "pad": 1, "linewidth": 0}).set_in_layout(False)


def detections(axes, found: dict[str, np.ndarray], classes: list[str], size: float = 26) -> None:
    """Upright boxes, dashed, with class and score, and what else `keypoints` draws where there are any."""
    for box, label, score in zip(found["boxes"], found["labels"], found["scores"]):
        outline(axes, geometry.corners(torch.tensor(box)).numpy(), COLOURS[(label - 1) % len(COLOURS)], dashes=DASHES)
        name(axes, box, f"{classes[label - 1]} {score:.2f}")
    if "keypoints" in found:
        keypoints(axes, found, size)


def keypoints(axes, found: dict[str, np.ndarray], size: float = 26) -> None:
    """Each detection's keypoints (coloured by their index, `size` square points large), their hull as mask, and the
    rotated box. Grey: those that `follow` found no partner for. The colours go round and differ in lightness, too."""
    rings, _ = geometry.rotated_boxes(found["keypoints"])
    followed = found.get("followed", np.ones(len(rings), bool))
    for points, hull, ring, label, known in zip(found["keypoints"], geometry.hulls(found["keypoints"]), rings,
                                                found["labels"], followed):
        colour = COLOURS[(label - 1) % len(COLOURS)]
        axes.add_patch(Polygon(hull, facecolor=colour, alpha=0.35, edgecolor="none"))
        outline(axes, ring, colour, 1.6)
        colours = plt.get_cmap("twilight")(np.arange(len(points)) / len(points)) if known else "#999999"
        axes.scatter(*points.T, c=colours, s=size, edgecolors="black", linewidths=0.8, zorder=3)


def best(found: dict[str, np.ndarray], least: float, most: int = 8) -> dict[str, np.ndarray]:
    """What is worth drawing: scores of at least `least`, at most `most`, and of detections in one place (IoU over
    one half, whatever their class) the best one."""
    kept = nms(torch.from_numpy(found["boxes"]), torch.from_numpy(found["scores"]), 0.5).numpy()
    kept = kept[found["scores"][kept] >= least][:most]
    return {key: value[kept] for key, value in found.items()}


def follow(first: dict, second: dict, T) -> dict:
    """`second`, with each detection's keypoints in the order of those of the same object in `first`.

    T (2, 3) maps the first photo to the second. Partners, one to one: the centres that lie nearest in all, whatever the
    class, no farther apart than half of √(box area); points: the matching that moves them least. Adds `followed` (n,):
    False where there is no partner.
    """
    T = torch.as_tensor(T, dtype=torch.float64)
    points, followed = second["keypoints"].copy(), np.zeros(len(second["keypoints"]), bool)
    moved = geometry.transform(T, torch.from_numpy(first["keypoints"].astype(float))).numpy()
    off = np.linalg.norm(moved.mean(1)[:, None] - points.mean(1), axis=-1)
    far = off > 0.5 * np.sqrt(np.prod(second["boxes"][:, 2:] - second["boxes"][:, :2], 1))
    for theirs, mine in zip(*linear_sum_assignment(np.where(far, 1e6, off))):  # pixels: more than any photo has
        if not far[theirs, mine]:
            costs = np.linalg.norm(moved[theirs][:, None] - points[mine], axis=-1)
            points[mine] = points[mine][linear_sum_assignment(costs)[1]]
            followed[mine] = True
    return {**second, "keypoints": points, "followed": followed}


def picture(image: Image.Image, found: dict[str, np.ndarray], classes: list[str], largest: int = 1280):
    """One photo with its detections, and a legend of 26 pixels below, at 100 dpi.

    Pixel for pixel, but at least 480 pixels wide, and at most `largest` pixels a side: letters and lines keep their
    size, and on a larger picture nobody could read them.
    """
    width, height = image.size
    scale = min(max(1, 480 / width), largest / max(width, height))
    wide, high, below = max(1, round(width * scale)), max(1, round(height * scale)), 26
    figure = plt.figure(figsize=(wide / 100, (high + below) / 100), dpi=100, layout="none")
    axes = figure.add_axes((0, below / (high + below), 1, high / (high + below)))
    axes.imshow(image.resize((wide, high)) if scale < 1 else image, extent=(0, width, height, 0), aspect="auto")
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    detections(axes, found, classes)
    legend(figure, "upright box", *(FROM_POINTS if "keypoints" in found else ()), loc="lower center", borderaxespad=0,
           fontsize=8)
    return figure


def pair(photos: dict, both: list[dict], classes: list[str]):
    """Two photos of one size, {title: PIL image}, beside each other, each with its detections."""
    ratio = max(image.height / image.width for image in photos.values())
    above, below, high = 0.35, 0.32, 4.5 * ratio + 0.67  # inches: titles, legend, and all
    figure, panels = plt.subplots(1, 2, figsize=(9, high), dpi=90, layout="none")
    figure.subplots_adjust(0.005, below / high, 0.995, 1 - above / high, wspace=0.02)
    for axes, (title, image), found in zip(panels, photos.items(), both):
        show(axes, image, title)
        detections(axes, found, classes, 40)
    any_points = any("keypoints" in found for found in both)
    legend(figure, "upright box", *(FROM_POINTS if any_points else ()), loc="lower center", borderaxespad=0)
    return figure


def before_and_after(pairs, columns: dict[str, list[dict]], maps: list, classes: list[str]):
    """Photos as they are and turned, two rows each: the ground truth, and what each model finds.

    pairs: [(sample, turned sample)]. columns: {title: detections of the photos, two for each pair, in order}; where
    there are keypoints, they are drawn with rotated box and mask. maps: of each pair, first photo to second.
    """
    figure = plt.figure(figsize=(11, 5.7 * len(pairs) + 0.4))
    *parts, last = figure.subfigures(len(pairs) + 1, 1, hspace=0.04, height_ratios=[5.7] * len(pairs) + [0.4])
    for number, (part, samples) in enumerate(zip(parts, pairs)):
        grid = part.subplots(2, 1 + len(columns), gridspec_kw={"wspace": 0.01, "hspace": 0.01})
        turn = np.degrees(np.arctan2(maps[number][1][0], maps[number][0][0]))
        for row, (panels, sample, side) in enumerate(zip(grid, samples, ("as it is", f"turned by {turn:.0f}°"))):
            panels[0].set_ylabel(side)
            for axes, title in zip(panels, ("ground truth", *columns)):
                show(axes, sample.image(), title if number == row == 0 else "")
            truth(panels[0], sample, classes)
            for axes, all_found in zip(panels[1:], columns.values()):
                detections(axes, all_found[2 * number + row], classes, 60)
    legend(last, "labelled box", "true outline", "upright box", *FROM_POINTS, loc="center")
    return figure


def strip(sample, moments: dict[str, dict[int, np.ndarray]], classes: list[str], most: int = 4):
    """Keypoints of some objects of a photo over the training: one row an object, one column a moment.

    moments: {title: {object: keypoints (K, 2) in pixels}}, as `predict.at_objects` gives them. The photo is cut to what
    is around the labelled box.
    """
    chosen = list(next(iter(moments.values())))[:most]
    figure, grid = plt.subplots(len(chosen), len(moments), figsize=(2.1 * len(moments), 0.3 + 2.1 * len(chosen)),
                                squeeze=False)
    for number, panels in zip(chosen, grid):
        box = sample.boxes[number]
        middle, reach = (box[:2] + box[2:]) / 2, 0.75 * (box[2:] - box[:2]).max()
        panels[0].set_ylabel(classes[sample.labels[number] - 1])
        for axes, (title, found) in zip(panels, moments.items()):
            show(axes, sample.image(), title if number == chosen[0] else "")
            axes.set(xlim=(middle[0] - reach, middle[0] + reach), ylim=(middle[1] + reach, middle[1] - reach))
            labelled(axes, sample.boxes[number])
            keypoints(axes, {"keypoints": found[number][None], "labels": sample.labels[number:number + 1]}, 34)
    legend(figure, "labelled box", *FROM_POINTS)
    return figure


def versions(sets: dict[str, list], classes: list[str]):
    """The same photos in several versions of the test set, with what is true of them: one row a version. sets:
    {version, a key of `warp.NAMES`: samples}, equally many each."""
    columns = max(map(len, sets.values()))
    figure, grid = plt.subplots(len(sets), columns, figsize=(11, 0.4 + 10.6 / columns * len(sets)), squeeze=False)
    for row, (kind, samples) in zip(grid, sets.items()):
        for axes, sample in zip(row, samples):
            show(axes, sample.image())
            truth(axes, sample, classes)
        row[0].set_title(f"-{kind}: {NAMES[kind]}", loc="left", fontweight="bold")
    legend(figure, "labelled box", "true outline", "ignored object")
    return figure
