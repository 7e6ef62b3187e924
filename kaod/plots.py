"""Everything that is drawn: for the notebooks, the README and the results."""

import io

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.patches import Polygon, Rectangle
from scipy.optimize import linear_sum_assignment
from torchvision.ops import nms

from . import files, geometry, warp

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442")  # Okabe and Ito
DARK = "#333333"


def style() -> None:
    """Fonts and lines that read well on GitHub; called once by each notebook."""
    plt.rcParams.update({
        "figure.dpi": 80, "savefig.dpi": 80, "font.size": 11, "axes.spines.top": False, "axes.spines.right": False,
        "axes.titlesize": 12, "axes.grid": False, "figure.constrained_layout.use": True, "legend.frameon": False,
        "axes.prop_cycle": plt.cycler(color=COLOURS)})


def save(figure, path) -> None:
    """A PNG with the same bytes each time."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None}, dpi=figure.dpi)
    files.write_bytes(path, buffer.getvalue())


def vertex_histogram(counts: dict[str, list[int]], median: float, k: int, title: str):
    """How many vertices the objects have; counts: {class: vertices of each object}."""
    figure, axes = plt.subplots(figsize=(8, 3.2))
    values = np.concatenate([np.asarray(each) for each in counts.values()])
    top = int(np.percentile(values, 92)) + 2
    axes.hist(np.minimum(values, top), np.arange(top + 2) - 0.5, color=COLOURS[5])
    axes.axvline(median, color=DARK, linewidth=2, label=f"median: {median:g} vertices")
    axes.axvline(k, color=COLOURS[3], linewidth=2, linestyle="--", label=f"chosen: K = {k}")
    axes.set(title=title, xlabel=f"vertices of an object's outline ({top} stands for all above)", ylabel="objects")
    axes.legend()
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


def tolerance_curve(medians: dict[float, float], tolerance: float, target: float):
    """The median vertex count against the tolerance of the simplification (share of the perimeter)."""
    figure, axes = plt.subplots(figsize=(8, 3))
    axes.plot([100 * each for each in medians], list(medians.values()), marker="o", markersize=3)
    axes.axhline(target, color=DARK, linewidth=1, label=f"the paper's median: {target:g}")
    axes.axvline(100 * tolerance, color=COLOURS[3], linestyle="--", label=f"default: {100 * tolerance:g} %")
    axes.set(xlabel="tolerance, % of the outline's length", ylabel="median vertices", title="VOC 2007's masks: the "
             "median depends on how closely outlines are followed")
    axes.legend()
    return figure


def losses(logs: dict[str, list[dict]], window: int = 20):
    """Each model's losses over the steps, as running means over `window` steps."""
    names = ["classification", "bbox_regression", "bbox_ctrness", "keypoints"]
    figure, grid = plt.subplots(1, 4, figsize=(12, 2.8))
    for axes, name in zip(grid, names):
        for colour, (model, rows) in zip(COLOURS, logs.items()):
            values = [row[name] for row in rows if name in row]
            width = min(window, len(values))
            if values:
                axes.plot(np.arange(width, len(values) + 1),
                          np.convolve(values, np.ones(width) / width, "valid"), color=colour, label=model)
        axes.set(title={"bbox_regression": "box", "bbox_ctrness": "centerness"}.get(name, name),
                 xlabel="step", ylim=(0, None))
        axes.legend()
    return figure


def ap_bars(metrics: dict[str, dict], title: str):
    """AP50 of each model on each test set."""
    kinds = [kind for kind in warp.NAMES if all(kind in each for each in metrics.values())]
    figure, axes = plt.subplots(figsize=(8, 3.2))
    width = 0.8 / len(metrics)
    for number, (model, each) in enumerate(metrics.items()):
        places = np.arange(len(kinds)) + (number - (len(metrics) - 1) / 2) * width
        bars = axes.bar(places, [each[kind]["AP50"] for kind in kinds], width, label=model)
        axes.bar_label(bars, fmt="%.2f", fontsize=9)
    axes.set(xticks=range(len(kinds)), xticklabels=[f"-{kind}\n{warp.NAMES[kind]}" for kind in kinds], ylabel="AP50",
             ylim=(0, 1), title=title)
    axes.legend(loc="upper right", ncols=len(metrics))
    return figure


def results_table(metrics: dict[str, dict]) -> str:
    """AP50 in Markdown, one row a model."""
    kinds = list(warp.NAMES)
    lines = ["| AP50 | " + " | ".join(f"-{kind} ({warp.NAMES[kind]})" for kind in kinds) + " |",
             "|---|" + "---|" * len(kinds)]
    for model, each in metrics.items():
        lines.append(f"| {model} | " + " | ".join(f"{each[kind]['AP50']:.3f}" for kind in kinds) + " |")
    return "\n".join(lines)


def shape_table(metrics: dict[str, dict], kind: str = "st") -> str:
    """Mean IoU with the true outlines in Markdown, one row a model; empty where no outline is known."""
    columns = {"objects": "objects found", "box": "box filled", "ellipse": "inscribed ellipse",
               "hull": "keypoints' hull", "bound": "bound: the outline's own hull", "spread": "spread (gauge)"}
    lines = ["| IoU with the outline | " + " | ".join(columns.values()) + " |", "|---|" + "---|" * len(columns)]
    for model, each in metrics.items():
        shape = each[kind]["shape"]
        if shape:
            cells = [f"{shape[key]:.0f}" if key == "objects" else f"{shape[key]:.3f}" if key in shape else "–"
                     for key in columns]
            lines.append(f"| {model} | " + " | ".join(cells) + " |")
    return "\n".join(lines) if len(lines) > 2 else ""


def grid_table(grid: dict[str, dict], columns: dict[str, str], reference: str | None = None, digits: int = 3) -> str:
    """`kaod.grid`'s table in Markdown, one row a model: means, or differences to a reference, ± 95 % intervals.

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


def differences(grid: dict[str, dict], reference: str, kinds=("st", "rt", "tr")):
    """Each model's AP50 minus the reference's on each test set; bars are 95 % intervals, none for a single seed."""
    models = [model for model, entry in grid.items() if reference in entry["against"]]
    figure, panels = plt.subplots(1, len(kinds), figsize=(11, 1 + 0.36 * len(models)), sharey=True, squeeze=False)
    for axes, kind in zip(panels[0], kinds):
        for row, model in enumerate(reversed(models)):
            found = grid[model]["against"][reference][f"AP50-{kind}"]
            axes.errorbar(found["mean"], row, xerr=found["half"], fmt="o" if found["half"] else "D", capsize=3,
                          color=COLOURS[0], mfc=COLOURS[0] if found["half"] else "white")
        axes.axvline(0, color=DARK, linewidth=1)
        axes.set(title=f"-{kind} ({warp.NAMES[kind]})", xlabel=f"AP50 minus that of {reference}",
                 yticks=range(len(models)), yticklabels=models[::-1])
    return figure


def repeatability(grid: dict[str, dict]):
    """How far keypoints of a turned photo lie from those of the photo, by angle; less is better."""
    figure, axes = plt.subplots(figsize=(8, 3.4))
    for number, (model, entry) in enumerate(grid.items()):
        found = {int(key.removeprefix("repeatability")): value["mean"] for key, value in entry["figures"].items()
                 if key.startswith("repeatability")}
        if found:
            angles = sorted(found)
            axes.plot(angles, [found[angle] for angle in angles], marker="os^Dv<>"[number % 7], label=model)
    axes.set(xlabel="turn in degrees, clockwise", ylabel="distance / √(box area)", ylim=(0, None),
             title="Keypoints of a turned photo: how far from where they were?")
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
    """A closed line through points (V, 2), dark below so that it reads on any ground."""
    if fill and len(points) > 2:
        axes.add_patch(Polygon(points, facecolor=colour, alpha=fill, edgecolor="none"))
    for colour_, width_ in (("black", width + 1.2), (colour, width)):
        axes.add_patch(Polygon(points, fill=False, edgecolor=colour_, linewidth=width_, linestyle=dashes,
                               joinstyle="round"))


def truth(axes, sample) -> None:
    """The objects' outlines, where known, and boxes; ignored objects in grey."""
    for box, label, ignore, parts in zip(sample.boxes, sample.labels, sample.ignore, sample.polygons):
        colour = "#999999" if ignore else COLOURS[(label - 1) % len(COLOURS)]
        axes.add_patch(Rectangle(box[:2], *(box[2:] - box[:2]), fill=False, edgecolor=colour, linewidth=1))
        for part in parts:
            outline(axes, part, colour, 1.2, 0.25)


def boxes(axes, found: dict[str, np.ndarray], classes: list[str], width: float = 1.8) -> None:
    """Upright boxes, with class and score."""
    for box, label, score in zip(found["boxes"], found["labels"], found["scores"]):
        colour = COLOURS[(label - 1) % len(COLOURS)]
        outline(axes, geometry.corners(torch.tensor(box)).numpy(), colour, width)
        axes.annotate(f"{classes[label - 1]} {score:.2f}", box[:2], (1, 2), textcoords="offset points", fontsize=8,
                      color="white", annotation_clip=True,
                      bbox={"facecolor": "black", "alpha": 0.6, "pad": 1, "linewidth": 0})


def keypoints(axes, found: dict[str, np.ndarray]) -> None:
    """Each detection's keypoints (coloured by their index), their hull as mask, and the rotated box."""
    rings, _ = geometry.rotated_boxes(found["keypoints"])
    for points, hull, ring, label in zip(found["keypoints"], geometry.hulls(found["keypoints"]), rings,
                                         found["labels"]):
        colour = COLOURS[(label - 1) % len(COLOURS)]
        axes.add_patch(Polygon(hull, facecolor=colour, alpha=0.35, edgecolor="none"))
        outline(axes, ring, colour, 1.6)
        axes.scatter(*points.T, c=np.arange(len(points)), cmap="hsv", s=22, edgecolors="black", linewidths=0.8,
                     zorder=3, vmin=0, vmax=len(points))


def picture(image: np.ndarray, found: dict[str, np.ndarray], classes: list[str]):
    """One photo (height, width, 3) with its detections, pixel for pixel at 100 dpi, at least 480 pixels wide."""
    height, width = image.shape[:2]
    scale = max(1.0, 480 / width) / 100
    figure = plt.figure(figsize=(width * scale, height * scale), dpi=100, layout="none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(image, extent=(0, width, height, 0))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    boxes(axes, found, classes)
    if "rotated_boxes" in found:
        keypoints(axes, found)
    return figure


def best(found: dict[str, np.ndarray], least: float, most: int = 8) -> dict[str, np.ndarray]:
    """What is worth drawing: scores of at least `least`, at most `most`, and of detections in one place (IoU over
    one half, whatever their class) the best one."""
    kept = nms(torch.from_numpy(found["boxes"]), torch.from_numpy(found["scores"]), 0.5).numpy()
    kept = kept[found["scores"][kept] >= least][:most]
    return {key: value[kept] for key, value in found.items()}


def follow(first: dict, second: dict, T) -> dict:
    """`second`, with each detection's keypoints in the order of those of the same object in `first`.

    T (2, 3) maps the first photo to the second. Partners: the same class and the nearest centre; points: the
    matching that moves them least.
    """
    T = torch.as_tensor(T, dtype=torch.float64)
    points = second["keypoints"].copy()
    moved = [geometry.transform(T, torch.from_numpy(each.astype(float))).numpy() for each in first["keypoints"]]
    for number, mine in enumerate(points):
        partners = [each for each, label in zip(moved, first["labels"]) if label == second["labels"][number]]
        if partners:
            nearest = min(partners, key=lambda each: np.linalg.norm(each.mean(0) - mine.mean(0)))
            points[number] = mine[linear_sum_assignment(np.linalg.norm(nearest[:, None] - mine, axis=-1))[1]]
    return {**second, "keypoints": points}
