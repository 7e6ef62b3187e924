"""Photos, detections and results, drawn for the notebooks and the README."""

import io

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.patches import Polygon, Rectangle
from matplotlib_inline.backend_inline import set_matplotlib_formats
from scipy.optimize import linear_sum_assignment
from torchvision.ops import nms

from . import files, geometry
from .kinds import NAMES

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442")  # Okabe and Ito
DARK = "#333333"


def style(photos: bool = False) -> None:
    """Fonts and lines that read well on GitHub; called once by each notebook.

    photos: keep the notebook's figures as JPEG, a quarter of the size where photos are in them.
    """
    if photos:
        set_matplotlib_formats("jpeg", pil_kwargs={"quality": 80, "subsampling": 0})
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


def tolerance_curve(medians: dict[float, float], tolerance: float, title: str, target: float | None = None):
    """The median vertex count against the tolerance of the simplification (share of the perimeter)."""
    figure, axes = plt.subplots(figsize=(8, 3))
    axes.plot([100 * each for each in medians], list(medians.values()), marker="o", markersize=3)
    if target is not None:
        axes.axhline(target, color=DARK, linewidth=1, label=f"the paper's median: {target:g}")
    axes.axvline(100 * tolerance, color=COLOURS[3], linestyle="--", label=f"default: {100 * tolerance:g} %")
    axes.set(xlabel="tolerance, % of the outline's length", ylabel="median vertices", ylim=(0, None), title=title)
    axes.legend()
    return figure


def running(axes, rows: list[dict], name: str, colour, label: str, window: int = 20) -> None:
    """A column of a training's log, as running means over `window` steps; nothing where the log does not have it."""
    values = [row[name] for row in rows if name in row]
    width = min(window, len(values))
    if values:
        axes.plot(np.arange(width, len(values) + 1), np.convolve(values, np.ones(width) / width, "valid"),
                  color=colour, label=label)


def losses(logs: dict[str, list[dict]]):
    """Each model's losses over the steps."""
    names = ["classification", "bbox_regression", "bbox_ctrness", "keypoints"]
    figure, grid = plt.subplots(1, 4, figsize=(12, 2.8))
    for axes, name in zip(grid, names):
        for colour, (model, rows) in zip(COLOURS, logs.items()):
            running(axes, rows, name, colour, model)
        axes.set(title={"bbox_regression": "box", "bbox_ctrness": "centerness"}.get(name, name),
                 xlabel="step", ylim=(0, None))
        axes.legend()
    return figure


def curves(values: dict[str, dict[int, float]], title: str):
    """AP50 of each model at some steps: {model: {step: AP50}}."""
    figure, axes = plt.subplots(figsize=(8, 3.2))
    for marker, (model, each) in zip("os^Dv<>", values.items()):
        axes.plot(list(each), list(each.values()), marker=marker, label=model)
    axes.set(xlabel="steps", ylabel="AP50", ylim=(0, None), title=title)
    axes.legend()
    return figure


def gauge(logs: dict[str, list[dict]], even: float):
    """The spread of the keypoints over the steps; even: that of keypoints evenly on the box's outline."""
    figure, axes = plt.subplots(figsize=(8, 3.2))
    for colour, (model, rows) in zip(COLOURS, logs.items()):
        running(axes, rows, "spread", colour, model)
    axes.axhline(even, color=DARK, linestyle="--", linewidth=1, label=f"evenly on the box's outline: {even:.2f}")
    axes.axhline(0, color=COLOURS[3], linestyle=":", linewidth=3, label="collapsed: 0")
    axes.set(xlabel="step", ylabel="spread / box diagonal", ylim=(-0.02, 1.4 * even),
             title="The collapse gauge: mean distance between two keypoints")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def strip(sample, moments: dict[str, dict[int, np.ndarray]], classes: list[str], most: int = 4):
    """Keypoints of some objects of a photo over the training: one row an object, one column a moment.

    moments: {title: {object: keypoints (K, 2) in pixels}}, as `predict.at_objects` gives them. The white box is the
    labelled one; the photo is cut to what is around it.
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
            outline(axes, geometry.corners(torch.from_numpy(sample.boxes[number])).numpy(), "white", 1.4, dashes="--")
            keypoints(axes, {"keypoints": found[number][None], "labels": sample.labels[number:number + 1]})
    return figure


def ap_bars(metrics: dict[str, dict], title: str):
    """AP50 of each model on each test set."""
    kinds = [kind for kind in NAMES if all(kind in each for each in metrics.values())]
    figure, axes = plt.subplots(figsize=(8, 3.2))
    width = 0.8 / len(metrics)
    for number, (model, each) in enumerate(metrics.items()):
        places = np.arange(len(kinds)) + (number - (len(metrics) - 1) / 2) * width
        bars = axes.bar(places, [each[kind]["AP50"] for kind in kinds], width, label=model)
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
    return _table("IoU with the outline", columns, rows)


def rectangle_table(metrics: dict[str, dict], kind: str = "st") -> str:
    """Mean IoU with the outlines' minimum-area rectangles in Markdown, one row a model; empty as above."""
    columns = {"rectangle_box": "the box itself", "rectangle": "rectangle of the keypoints"}
    rows = {model: each[kind]["shape"] for model, each in metrics.items() if each[kind]["shape"]}
    return _table("IoU with the true rectangle", columns, rows)


def mask_table(metrics: dict[str, dict], kind: str = "st") -> str:
    """AP of masks, classes aside, in Markdown, one row a model; empty as above."""
    columns = {"box": "box filled", "ellipse": "inscribed ellipse", "hull": "keypoints' hull",
               "bound": "bound: the true objects' own hulls"}
    rows = {model: {guess: each["AP50"] for guess, each in each[kind]["masks"].items()}
            for model, each in metrics.items() if each[kind]["masks"]}
    return _table("AP50 of masks", columns, rows)


def _table(corner: str, columns: dict[str, str], rows: dict[str, dict]) -> str:
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
    for marker, (model, each) in zip("os^Dv<>", metrics.items()):
        angles = sorted(map(int, each["sweep"]))
        axes.plot(angles, [each["sweep"][str(angle)]["AP50"] for angle in angles], marker=marker, label=model)
    axes.set(xticks=angles[::2], xlabel="turn in degrees, clockwise", ylabel="AP50", ylim=(0, None), title=title)
    axes.legend()
    return figure


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


def grid_sweep(grid: dict[str, dict]):
    """AP50 of each model of `kaod.grid`'s table, the mean over its seeds, against the angle of the turn."""
    figure, axes = plt.subplots(figsize=(9, 4))
    for number, (model, entry) in enumerate(grid.items()):
        found = {int(key.removeprefix("AP50-turn")): value["mean"] for key, value in entry["figures"].items()
                 if key.startswith("AP50-turn")}
        if found:
            axes.plot(sorted(found), [found[angle] for angle in sorted(found)], marker="os^Dv<>"[number % 7],
                      linestyle="-" if number < 7 else "--", label=model)
    axes.set(xticks=range(-90, 91, 30), xlabel="turn in degrees, clockwise", ylabel="AP50", ylim=(0, None),
             title="All photos turned by one angle")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def differences(grid: dict[str, dict], reference: str, kinds=("st", "rt", "tr")):
    """Each model's AP50 minus the reference's on each test set; bars are 95 % intervals, none for a single seed.

    What lies far from all others is an arrow at the border, with its value.
    """
    models = [model for model, entry in grid.items() if reference in entry["against"]]
    figure, panels = plt.subplots(1, len(kinds), figsize=(11, 1 + 0.36 * len(models)), sharey=True, squeeze=False)
    all_found = [grid[model]["against"][reference][f"AP50-{kind}"] for model in models for kind in kinds]
    reach = [abs(found["mean"]) + (found["half"] or 0) for found in all_found]
    limit = 1.1 * min(max(reach), 3 * np.median(reach)) if reach else 1
    for axes, kind in zip(panels[0], kinds):
        for row, model in enumerate(reversed(models)):
            found = grid[model]["against"][reference][f"AP50-{kind}"]
            if abs(found["mean"]) > limit:
                axes.annotate(f"{found['mean']:+.2f}", (np.sign(found["mean"]) * limit, row), va="center",
                              xytext=(np.sign(found["mean"]) * limit / 2, row), fontsize=9,
                              arrowprops={"arrowstyle": "->", "color": COLOURS[0]})
                continue
            axes.errorbar(found["mean"], row, xerr=found["half"], fmt="o" if found["half"] else "D", capsize=3,
                          color=COLOURS[0], mfc=COLOURS[0] if found["half"] else "white")
        axes.axvline(0, color=DARK, linewidth=1)
        axes.set(title=f"-{kind} ({NAMES[kind]})", xlabel=f"AP50 minus that of {reference}", xlim=(-limit, limit),
                 ylim=(-0.6, len(models) - 0.4), yticks=range(len(models)), yticklabels=models[::-1])
    return figure


def repeatability(grid: dict[str, dict]):
    """How far keypoints of a turned photo lie from those of the photo, by angle, with 95 % intervals over the seeds;
    less is better."""
    figure, axes = plt.subplots(figsize=(8, 3.4))
    angles = []
    for number, (model, entry) in enumerate(grid.items()):
        found = {int(key.removeprefix("repeatability")): value for key, value in entry["figures"].items()
                 if key.startswith("repeatability")}
        if found:
            angles = sorted(found)
            axes.errorbar([angle + 1.2 * (number % 7 - 3) for angle in angles],  # side by side, for the bars to be seen
                          [found[angle]["mean"] for angle in angles], [found[angle]["half"] or 0 for angle in angles],
                          marker="os^Dv<>"[number % 7], capsize=2, elinewidth=1, label=model)
    axes.set(xticks=angles, xlabel="turn in degrees, clockwise", ylabel="distance / √(box area)", ylim=(0, None),
             title="Keypoints of a turned photo: how far from where they were? (95 % intervals)")
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


def truth(axes, sample, classes: list[str] | None = None) -> None:
    """The objects' outlines, where known, and boxes, with their classes if given; ignored objects in grey."""
    for box, label, ignore, parts in zip(sample.boxes, sample.labels, sample.ignore, sample.polygons):
        if classes:
            name(axes, box, classes[label - 1])
        colour = "#999999" if ignore else COLOURS[(label - 1) % len(COLOURS)]
        axes.add_patch(Rectangle(box[:2], *(box[2:] - box[:2]), fill=False, edgecolor=colour, linewidth=1))
        for part in parts:
            outline(axes, part, colour, 1.2, 0.25)


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
    figure.suptitle(title)
    return figure


def name(axes, box, text: str) -> None:
    """Words at a box's top left corner, readable on any ground."""
    axes.annotate(text, box[:2], (1, 2), textcoords="offset points", fontsize=8, color="white", annotation_clip=True,
                  bbox={"facecolor": "black", "alpha": 0.6, "pad": 1, "linewidth": 0}).set_in_layout(False)


def boxes(axes, found: dict[str, np.ndarray], classes: list[str], width: float = 1.8) -> None:
    """Upright boxes, with class and score."""
    for box, label, score in zip(found["boxes"], found["labels"], found["scores"]):
        colour = COLOURS[(label - 1) % len(COLOURS)]
        outline(axes, geometry.corners(torch.tensor(box)).numpy(), colour, width)
        name(axes, box, f"{classes[label - 1]} {score:.2f}")


def keypoints(axes, found: dict[str, np.ndarray]) -> None:
    """Each detection's keypoints (coloured by their index), their hull as mask, and the rotated box.

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
        axes.scatter(*points.T, c=colours, s=26, edgecolors="black", linewidths=0.8, zorder=3)


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


def pair(photos: dict, detections: list[dict], classes: list[str]):
    """Two photos of one size, {title: PIL image}, beside each other, each with its detections."""
    ratio = max(image.height / image.width for image in photos.values())
    figure, panels = plt.subplots(1, 2, figsize=(9, 4.5 * ratio + 0.35), dpi=90, layout="none")
    figure.subplots_adjust(0.005, 0.005, 0.995, 1 - 0.35 / (4.5 * ratio + 0.35), wspace=0.02)
    for axes, (title, image), found in zip(panels, photos.items(), detections):
        show(axes, image, title)
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

    T (2, 3) maps the first photo to the second. Partners: the nearest centre, whatever the class, no farther than half
    of √(box area); points: the matching that moves them least. Adds `followed` (n,): False where there is no partner.
    """
    T = torch.as_tensor(T, dtype=torch.float64)
    points, followed = second["keypoints"].copy(), np.zeros(len(second["keypoints"]), bool)
    moved = [geometry.transform(T, torch.from_numpy(each.astype(float))).numpy() for each in first["keypoints"]]
    for number, (mine, box) in enumerate(zip(points, second["boxes"])):
        off = [np.linalg.norm(each.mean(0) - mine.mean(0)) for each in moved]
        if off and min(off) <= 0.5 * np.sqrt(np.prod(box[2:] - box[:2])):
            nearest = moved[int(np.argmin(off))]
            points[number] = mine[linear_sum_assignment(np.linalg.norm(nearest[:, None] - mine, axis=-1))[1]]
            followed[number] = True
    return {**second, "keypoints": points, "followed": followed}


def before_and_after(pairs, columns: dict[str, list[dict]], maps: list, classes: list[str]):
    """Photos as they are and turned, two rows each: the ground truth, and what each model finds.

    pairs: [(sample, turned sample)]. columns: {title: detections of the photos, two for each pair, in order}; where
    there are keypoints, they are drawn with rotated box and mask. maps: of each pair, first photo to second.
    """
    figure = plt.figure(figsize=(11, 5.7 * len(pairs)))
    for number, (part, samples) in enumerate(zip(np.ravel(figure.subfigures(len(pairs), 1, hspace=0.04)), pairs)):
        grid = part.subplots(2, 1 + len(columns), gridspec_kw={"wspace": 0.01, "hspace": 0.01})
        turn = np.degrees(np.arctan2(maps[number][1][0], maps[number][0][0]))
        for row, (panels, sample, side) in enumerate(zip(grid, samples, ("as it is", f"turned by {turn:.0f}°"))):
            row_title(panels[0], side)
            for axes, title in zip(panels, ("ground truth", *columns)):
                show(axes, sample.image(), title if number == row == 0 else "")
            truth(panels[0], sample, classes)
            for axes, all_found in zip(panels[1:], columns.values()):
                found = all_found[2 * number + row]
                boxes(axes, found, classes, 1)
                if "keypoints" in found:
                    keypoints(axes, found)
    return figure
