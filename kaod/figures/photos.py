"""Photos, detections and results, drawn for the notebooks and the README."""

import io
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Polygon
from matplotlib_inline.backend_inline import set_matplotlib_formats
from PIL import Image
from scipy.optimize import linear_sum_assignment
from torchvision.ops import nms

from .. import geometry
from ..data import files
from ..data.kinds import NAMES

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442")  # Okabe and Ito
DARK = "#333333"
LINES = COLOURS[:6]  # yellow cannot be seen on white
DASHES = (0, (4, 1.2))  # of upright boxes, so long that their colour is seen

FROM_POINTS = ("rotated box", "hull (mask)", "keypoints")  # what is drawn of them; see `legend`

MODELS = {  # colour, marker and dashes of each model, the same in all figures
    "fcos": ("#0072B2", "o", "-"), "fcos-2x": ("#0072B2", "s", "--"),
    "fcos-corners": ("#56B4E9", "<", "--"), "fcos-ellipse": ("#56B4E9", ">", "-"),
    "no-kpl": ("#E69F00", "^", "-"), "kpl": ("#CC79A7", "v", "--"),
    "kpl-hm": ("#009E73", "D", "-"), "kaod": ("#009E73", "D", "-"),  # the grid's name, and the pipeline's
    "kpl-hm-k8": ("#009E73", "o", ":"), "kpl-hm-k32": ("#009E73", "s", "--"),
    "paper": (DARK, "P", ":"), "all-locations": ("#888888", "X", ":"), "supervised": ("#D55E00", "*", "-.")}


def style(photos: bool = False) -> None:
    """Fonts and lines that read well on GitHub; called first by each notebook.

    photos: keep the figures from here on as JPEG, a quarter of the size where photos are in them.
    """
    if photos:
        set_matplotlib_formats("jpeg", pil_kwargs={"quality": 80, "subsampling": 0})
    else:
        set_matplotlib_formats("png")
    plt.rcParams.update({
        "figure.dpi": 80, "savefig.dpi": 80, "font.size": 11, "axes.spines.top": False, "axes.spines.right": False,
        "axes.titlesize": 12, "axes.grid": False, "figure.constrained_layout.use": True, "legend.frameon": False,
        "axes.prop_cycle": plt.cycler(color=LINES)})


def save(figure, path) -> None:
    """A PNG with the same bytes each time."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None}, dpi=figure.dpi)
    files.write_bytes(path, buffer.getvalue())


def looks(models) -> dict[str, dict]:
    """How each model of a figure is drawn: {model: {"color", "marker", "linestyle"}}, as `plt.plot` takes them.

    A model has the same look everywhere, NAME-long that of NAME. Other names take colours that the figure has left,
    with markers that no known model has.
    """
    found = {}
    for model in models:
        look = MODELS.get(model.removesuffix("-long"))
        if look and look not in found.values():
            found[model] = look
    taken = {colour for colour, *_ in found.values()}
    spare = cycle([(colour, marker, dashes) for marker, dashes in zip("hp8d", ("-", "--", "-.", ":"))
                   for colour in sorted(LINES, key=lambda colour: colour in taken)])
    return {model: dict(zip(("color", "marker", "linestyle"), found.get(model) or next(spare))) for model in models}


def vertex_histogram(counts: dict[str, list[int]], median: float, k: int, title: str):
    """How many vertices the objects have; counts: {class: vertices of each object}."""
    figure, axes = plt.subplots(figsize=(8, 3.2))
    values = np.concatenate([np.asarray(each) for each in counts.values()])
    top = int(np.percentile(values, 92)) + 2
    axes.hist(np.minimum(values, top), np.arange(top + 2) - 0.5, color=COLOURS[5])
    axes.axvline(median, color=DARK, linewidth=2, label=f"median: {median:g} vertices")
    axes.axvline(k, color=COLOURS[3], linewidth=2, linestyle="--", label=f"chosen: K = {k}")
    above = f" ({top} stands for all above)" if values.max() > top else ""
    axes.set(title=title, xlabel=f"vertices of an object's outline{above}", ylabel="objects")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def vertices_by_class(counts: dict[str, list[int]], k: int):
    """Median and middle half of the vertex counts of each class; at most 20 classes, the most frequent ones."""
    names = sorted(counts, key=lambda name: -len(counts[name]))[:20]
    names.sort(key=lambda name: np.median(counts[name]))
    figure, axes = plt.subplots(figsize=(8, 0.8 + 0.27 * len(names)))
    for row, name in enumerate(names):
        low, middle, high = np.percentile(counts[name], (25, 50, 75))
        axes.plot((low, high), (row, row), color=COLOURS[5], linewidth=6, solid_capstyle="butt")
        axes.plot(middle, row, "o", color=DARK)
    axes.axvline(k, color=COLOURS[3], linestyle="--", label=f"K = {k}")
    axes.set(yticks=range(len(names)), yticklabels=names, xlabel="vertices (dot: median; bar: middle half)",
             title="Vertices by class")
    axes.legend(loc="lower right")
    return figure


def tolerance_curve(medians: dict[float, float], marks: dict[str, float], title: str, target: float | None = None):
    """The median vertex count against the tolerance of the simplification (share of the perimeter).

    marks: {words: tolerance} of what is drawn as a line of its own.
    """
    figure, axes = plt.subplots(figsize=(8, 3))
    axes.plot([100 * each for each in medians], list(medians.values()), marker="o", markersize=3)
    if target is not None:
        axes.axhline(target, color=DARK, linewidth=1, label=f"the paper's median: {target:g}")
    for (words, tolerance), colour, dashes in zip(marks.items(), (COLOURS[3], "#888888"), ("--", ":")):
        axes.axvline(100 * tolerance, color=colour, linestyle=dashes, linewidth=2,
                     label=f"{words}: {100 * tolerance:g} %")
    axes.set(xlabel="tolerance, % of the outline's length", ylabel="median vertices", ylim=(0, None), title=title)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def running(axes, rows: list[dict], name: str, look: dict, label: str, window: int = 20) -> None:
    """A column of a training's log, as running means over `window` steps; nothing where the log does not have it."""
    values = [row[name] for row in rows if name in row]
    width = min(window, len(values))
    if values:
        axes.plot(np.arange(width, len(values) + 1), np.convolve(values, np.ones(width) / width, "valid"),
                  **look, markevery=(0.12, 0.25), label=label)


def losses(logs: dict[str, list[dict]]):
    """Each model's losses over the steps."""
    names = ["classification", "bbox_regression", "bbox_ctrness", "keypoints"]
    figure, grid = plt.subplots(1, 4, figsize=(12, 2.8))
    look = looks(logs)
    for axes, name in zip(grid, names):
        for model, rows in logs.items():
            running(axes, rows, name, look[model], model)
        axes.set(title={"bbox_regression": "box", "bbox_ctrness": "centerness"}.get(name, name),
                 xlabel="step", ylim=(0, None))
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(logs))
    return figure


def curves(values: dict[str, dict[int, float]], title: str):
    """AP50 of each model at some steps: {model: {step: AP50}}."""
    figure, axes = plt.subplots(figsize=(8, 3.2))
    for model, look in looks(values).items():
        axes.plot(list(values[model]), list(values[model].values()), **look, label=model)
    axes.set(xlabel="steps", ylabel="AP50", ylim=(0, None), title=title)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def gauge(logs: dict[str, list[dict]], even: float):
    """The spread of the keypoints over the steps; even: that of keypoints evenly on the box's outline."""
    figure, axes = plt.subplots(figsize=(8, 3.2))
    for model, look in looks(logs).items():
        running(axes, logs[model], "spread", look, model)
    axes.axhline(even, color=DARK, linestyle="--", linewidth=1, label=f"evenly on the box's outline: {even:.2f}")
    axes.axhline(0, color=COLOURS[3], linestyle=":", linewidth=3, label="collapsed: 0")
    axes.set(xlabel="step", ylabel="spread / box diagonal", ylim=(-0.02, 1.4 * even),
             title="The collapse gauge: mean distance between two keypoints")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
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
        row_title(panels[0], classes[sample.labels[number] - 1])
        for axes, (title, found) in zip(panels, moments.items()):
            show(axes, sample.image(), title if number == chosen[0] else "")
            axes.set(xlim=(middle[0] - reach, middle[0] + reach), ylim=(middle[1] + reach, middle[1] - reach))
            labelled(axes, sample.boxes[number])
            keypoints(axes, {"keypoints": found[number][None], "labels": sample.labels[number:number + 1]}, 34)
    legend(figure, "labelled box", *FROM_POINTS)
    return figure


def ap_bars(metrics: dict[str, dict], title: str):
    """AP50 of each model on each test set."""
    kinds = [kind for kind in NAMES if all(kind in each for each in metrics.values())]
    figure, axes = plt.subplots(figsize=(8, 3.2))
    width = 0.8 / len(metrics)
    for number, (model, look) in enumerate(looks(metrics).items()):
        places = np.arange(len(kinds)) + (number - (len(metrics) - 1) / 2) * width
        bars = axes.bar(places, [metrics[model][kind]["AP50"] for kind in kinds], width, color=look["color"],
                        hatch="" if look["linestyle"] == "-" else "//", label=model)
        axes.bar_label(bars, fmt="%.2f", fontsize=9)
    axes.set(xticks=range(len(kinds)), xticklabels=[f"-{kind}\n{NAMES[kind]}" for kind in kinds], ylabel="AP50",
             ylim=(0, 1), title=title)
    axes.legend(loc="upper right", ncols=len(metrics))
    return figure


def results_table(metrics: dict[str, dict]) -> str:
    """AP50 in Markdown, one row a model."""
    kinds = list(NAMES)
    lines = ["| AP50 | " + " | ".join(f"-{kind} ({NAMES[kind]})" for kind in kinds) + " |",
             "|---|" + "---|" * len(kinds)]
    for model, each in metrics.items():
        lines.append(f"| {model} | " + " | ".join(
            f"{each[kind]['AP50']:.3f}" if kind in each else "–" for kind in kinds) + " |")
    return "\n".join(lines)


def shape_table(metrics: dict[str, dict], kind: str = "st") -> str:
    """Mean IoU with the true outlines in Markdown, one row a model; empty where no outline is known."""
    columns = {"objects": "objects found", "box": "box filled", "ellipse": "inscribed ellipse",
               "hull": "keypoints' hull", "bound": "bound: the outline's own hull", "spread": "spread (gauge)"}
    rows = {model: {"spread": each[kind]["spread"]} | each[kind]["shape"]
            for model, each in metrics.items() if each[kind]["shape"]}
    return table("IoU with the outline", columns, rows)


def rectangle_table(metrics: dict[str, dict], kind: str = "st") -> str:
    """Mean IoU with the outlines' minimum-area rectangles in Markdown, one row a model; empty as above."""
    columns = {"rectangle_box": "the box itself", "rectangle": "rectangle of the keypoints"}
    rows = {model: each[kind]["shape"] for model, each in metrics.items() if each[kind]["shape"]}
    return table("IoU with the true rectangle", columns, rows)


def mask_table(metrics: dict[str, dict], kind: str = "st") -> str:
    """AP of masks, classes aside, in Markdown, one row a model; empty as above."""
    columns = {"box": "box filled", "ellipse": "inscribed ellipse", "hull": "keypoints' hull",
               "bound": "bound: the true objects' own hulls"}
    rows = {model: {guess: each["AP50"] for guess, each in each[kind]["masks"].items()}
            for model, each in metrics.items() if each[kind]["masks"]}
    return table("AP50 of masks", columns, rows)


def table(corner: str, columns: dict[str, str], rows: dict) -> str:
    """A table in Markdown; what a row does not have is a dash. Empty without rows."""
    lines = [f"| {corner} | " + " | ".join(columns.values()) + " |", "|---|" + "---|" * len(columns)]
    for name, row in rows.items():
        cells = ["–" if row.get(key) is None else f"{row[key]:.0f}" if key == "objects" else f"{row[key]:.3f}"
                 for key in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) if rows else ""


def sweep(metrics: dict[str, dict], title: str):
    """AP50 of each model against the angle by which the photos were turned."""
    figure, axes = plt.subplots(figsize=(8, 3.2))
    for model, look in looks(metrics).items():
        angles = sorted(map(int, metrics[model]["sweep"]))
        axes.plot(angles, [metrics[model]["sweep"][str(angle)]["AP50"] for angle in angles], **look, label=model)
    axes.set(xticks=angles[::2], xlabel="turn in degrees, clockwise", ylabel="AP50", ylim=(0, None), title=title)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def grid_table(grid: dict[str, dict], columns: dict[str, str], reference: str | None = None, digits: int = 3) -> str:
    """`experiments.grid`'s table in Markdown, one row a model: means, or differences to a reference, ± 95 % intervals.

    columns: {figure's name: heading}. A figure that a model does not have is a dash.
    """
    lines = ["| | seeds | " + " | ".join(columns.values()) + " |", "|---|---|" + "---|" * len(columns)]
    for model, entry in grid.items():
        found = entry["figures"] if reference is None else entry["against"].get(reference)
        if not found or not found.keys() & columns.keys():
            continue
        cells = ["–" if key not in found else f"{found[key]['mean']:{'' if reference is None else '+'}.{digits}f}" + (
            "" if found[key]["half"] is None else f" ± {found[key]['half']:.{digits}f}") for key in columns]
        lines.append(f"| {model} | {len(entry['seeds'])} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def paper_table(paper: dict, data_set: str) -> str:
    """One of the paper's tables in Markdown, from data/paper.json. data_set: "VOC" or "COCO"."""
    columns = [f"{backbone} -{kind}" for backbone in paper["backbones"] for kind in ("st", "rt", "tr")]
    lines = [f"| {data_set} mAP, from the paper | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    lines += [f"| {name} | " + " | ".join(f"{value:.3f}" for values in row for value in values) + " |"
              for name, row in paper[data_set].items()]
    return "\n".join(lines)


def class_differences(metrics: dict[str, dict], first: str, second: str, kinds=("st", "rt")):
    """AP of each class: one model's minus the other's, on each test set; at most 20 classes, the most frequent."""
    names = sorted(metrics[first]["st"]["counts"], key=lambda name: -metrics[first]["st"]["counts"][name])[:20]
    figure, axes = plt.subplots(figsize=(8, 1 + 0.32 * len(names)))
    for number, (kind, marker) in enumerate(zip(kinds, "os")):
        values = [[metrics[model][kind]["classes"][name] for name in names] for model in (first, second)]
        found = [np.nan if None in pair else pair[1] - pair[0] for pair in zip(*values)]
        axes.plot(found, np.arange(len(names)) + 0.1 * number, marker, color=COLOURS[number], label=f"-{kind}")
    axes.axvline(0, color=DARK, linewidth=1)
    axes.set(yticks=range(len(names)), yticklabels=names, xlabel=f"AP of {second} minus that of {first}",
             title="Differences by class")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def show(axes, image, title: str = "") -> None:
    """A photo in continuous pixel coordinates: pixel i covers [i, i + 1]."""
    axes.imshow(image, extent=(0, image.width, image.height, 0))
    axes.set(xlim=(0, image.width), ylim=(image.height, 0))
    axes.set_axis_off()
    if title:
        axes.set_title(title)


def outline(axes, points, colour, width: float = 1.8, fill: float = 0.0, dashes="-") -> None:
    """A closed line through points (V, 2), black below, and between its dashes, so that it reads on any ground."""
    if fill and len(points) > 2:
        axes.add_patch(Polygon(points, facecolor=colour, alpha=fill, edgecolor="none"))
    for colour_, width_, dashes_ in (("black", width + 1.2, "-"), (colour, width, dashes)):
        axes.add_patch(Polygon(points, fill=False, edgecolor=colour_, linewidth=width_, linestyle=dashes_,
                               joinstyle="round"))


def legend(figure, *kinds: str, **place) -> None:
    """A line below the photos that says what is drawn on them; colours of classes are grey here.

    kinds: those of the keys below. place: where in the figure, if not where its layout puts it.
    """
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


def truth(axes, sample, classes: list[str] | None = None) -> None:
    """The objects' outlines, where known, and boxes, with their classes if given; ignored objects in grey."""
    for box, label, ignore, parts in zip(sample.boxes, sample.labels, sample.ignore, sample.polygons):
        if classes:
            name(axes, box, classes[label - 1])
        for part in parts:
            outline(axes, part, "#999999" if ignore else COLOURS[(label - 1) % len(COLOURS)], 1.2, 0.25)
        labelled(axes, box, ignore)


def row_title(axes, text: str) -> None:
    """Words at the left of a row of panels without axes."""
    axes.annotate(text, (0, 0.5), (-4, 0), xycoords="axes fraction", textcoords="offset points", rotation=90,
                  ha="right", va="center", fontsize=11)


def contact_sheet(samples, title: str, columns: int = 4):
    """Photos with their boxes and outlines, ignored objects in grey."""
    rows = max(1, -(-len(samples) // columns))
    figure, grid = plt.subplots(rows, columns, figsize=(12, 3 * rows), squeeze=False, layout="constrained")
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, sample in zip(grid.flat, samples):
        show(axes, sample.image())
        truth(axes, sample)
    legend(figure, "labelled box", "true outline", "ignored object")
    figure.suptitle(title)
    return figure


def name(axes, box, text: str) -> None:
    """Words above a box's top left corner, or its right one near the photo's right end, or below it at the photo's top;
    over all else, readable on any ground."""
    (bottom, top), (left, right) = axes.get_ylim(), axes.get_xlim()
    inside, late = box[1] < top + 0.08 * (bottom - top), box[0] > left + 0.65 * (right - left)
    axes.annotate(text, (box[2 if late else 0], box[1]), (-1 if late else 1, -2 if inside else 2),
                  textcoords="offset points", ha="right" if late else "left", va="top" if inside else "bottom",
                  fontsize=8, color="white", annotation_clip=True, zorder=5,
                  bbox={"facecolor": "black", "alpha": 0.6, "pad": 1, "linewidth": 0}).set_in_layout(False)


def boxes(axes, found: dict[str, np.ndarray], classes: list[str]) -> None:
    """Upright boxes, dashed, with class and score."""
    for box, label, score in zip(found["boxes"], found["labels"], found["scores"]):
        colour = COLOURS[(label - 1) % len(COLOURS)]
        outline(axes, geometry.corners(torch.tensor(box)).numpy(), colour, 1.8, dashes=DASHES)
        name(axes, box, f"{classes[label - 1]} {score:.2f}")


def keypoints(axes, found: dict[str, np.ndarray], size: float = 26) -> None:
    """Each detection's keypoints (coloured by their index, `size` square points large), their hull as mask, and the
    rotated box.

    Grey: those that `follow` found no partner for. The colours go round and differ in lightness, too.
    """
    rings, _ = geometry.rotated_boxes(found["keypoints"])
    followed = found.get("followed", np.ones(len(rings), bool))
    for points, hull, ring, label, known in zip(found["keypoints"], geometry.hulls(found["keypoints"]), rings,
                                                found["labels"], followed):
        colour = COLOURS[(label - 1) % len(COLOURS)]
        axes.add_patch(Polygon(hull, facecolor=colour, alpha=0.35, edgecolor="none"))
        outline(axes, ring, colour, 1.6)
        colours = plt.get_cmap("twilight")(np.arange(len(points)) / len(points)) if known else "#999999"
        axes.scatter(*points.T, c=colours, s=size, edgecolors="black", linewidths=0.8, zorder=3)


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
    boxes(axes, found, classes)
    if "rotated_boxes" in found:
        keypoints(axes, found)
    legend(figure, "upright box", *(FROM_POINTS if "rotated_boxes" in found else ()), loc="lower center",
           borderaxespad=0, fontsize=8)
    return figure


def pair(photos: dict, detections: list[dict], classes: list[str]):
    """Two photos of one size, {title: PIL image}, beside each other, each with its detections."""
    ratio = max(image.height / image.width for image in photos.values())
    above, below, high = 0.35, 0.32, 4.5 * ratio + 0.67  # inches: titles, legend, and all
    figure, panels = plt.subplots(1, 2, figsize=(9, high), dpi=90, layout="none")
    figure.subplots_adjust(0.005, below / high, 0.995, 1 - above / high, wspace=0.02)
    for axes, (title, image), found in zip(panels, photos.items(), detections):
        show(axes, image, title)
        boxes(axes, found, classes)
        if "rotated_boxes" in found:
            keypoints(axes, found, 40)
    any_points = any("rotated_boxes" in found for found in detections)
    legend(figure, "upright box", *(FROM_POINTS if any_points else ()), loc="lower center", borderaxespad=0)
    return figure


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
            row_title(panels[0], side)
            for axes, title in zip(panels, ("ground truth", *columns)):
                show(axes, sample.image(), title if number == row == 0 else "")
            truth(panels[0], sample, classes)
            for axes, all_found in zip(panels[1:], columns.values()):
                found = all_found[2 * number + row]
                boxes(axes, found, classes)
                if "keypoints" in found:
                    keypoints(axes, found, 60)
    legend(last, "labelled box", "true outline", "upright box", *FROM_POINTS, loc="center")
    return figure
