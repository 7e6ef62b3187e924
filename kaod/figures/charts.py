"""Charts and tables of results and data sets, for the notebooks and the README.

metrics: {model: what `evaluate` writes to results/<profile>/details/MODEL.json}. Its "AP50" is average precision at IoU
.5, and ["coco"]["AP"] is COCO's AP, the mean over IoU .5 to .95.
"""

import io
import warnings
from functools import cache
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import font_manager
from matplotlib_inline.backend_inline import set_matplotlib_formats

from ..data import files
from ..data.warp import NAMES

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442")  # Okabe and Ito
DARK = "#333333"
LINES = COLOURS[:6]  # yellow cannot be seen on white

MODELS = {  # colour, marker and dashes of each model, the same in all figures
    "fcos": ("#0072B2", "o", "-"), "fcos-2x": ("#0072B2", "s", "--"), "fcos-zero": ("#0072B2", "X", ":"),
    "fcos-corners": ("#56B4E9", "<", "--"), "fcos-turned": ("#56B4E9", ">", "-"),
    "fcos-outlines": ("#56B4E9", "s", ":"),
    "head": ("#E69F00", "^", "--"), "kaod-paper": ("#E69F00", "D", "-"), "kaod-paper-by-index": ("#E69F00", "v", ":"),
    "paper": (DARK, "P", ":"), "all-locations": ("#888888", "X", ":"),
    "kaod": ("#009E73", "D", "-"), "kaod-both": ("#CC79A7", "D", "-"), "kaod-attached": ("#CC79A7", "v", "--"),
    "kaod-k8": ("#009E73", "o", ":"), "kaod-k32": ("#009E73", "s", "--"), "kaod-k48": ("#009E73", "P", "-."),
    "kaod-15": ("#D55E00", "o", ":"), "kaod-45": ("#D55E00", "s", "-"), "kaod-90": ("#D55E00", "^", "--"),
    "kaod-180": ("#D55E00", "v", "-.")}

SHAPES = {  # the columns of each table of shapes
    "IoU with the outline": {
        "objects": "objects found", "box": "box filled", "ellipse": "inscribed ellipse", "hull": "keypoints' hull",
        "bound": "bound: the outline's own hull", "spread": "spread (gauge)"},
    "IoU with the true rectangle": {"rectangle_box": "the box itself", "rectangle": "rectangle of the keypoints"},
    "AP50 of masks": {"mask-box": "box filled", "mask-ellipse": "inscribed ellipse", "mask-hull": "keypoints' hull",
                      "mask-bound": "bound: the true objects' own hulls"}}

TURNING = {  # the columns of the table of turns, and its rows beside a model
    "turn": "turn found, °", "distance": "distance after turning back", "hull": "hulls' IoU, turned back",
    "hull_unturned": "hulls' IoU, not turned back"}
BESIDE = {"model": "{}", "ring": "{}: its keypoints, not turned", "ellipse": "ellipses in the boxes",
          "perfect": "perfect: turned with the object"}


def style(photos: bool = False) -> None:
    """Fonts and lines that read well on GitHub; called first by each notebook. photos: keep the figures from here on
    as JPEG, a quarter of the size where photos are in them."""
    jpeg = {"pil_kwargs": {"quality": 80, "subsampling": 0}}
    set_matplotlib_formats("jpeg" if photos else "png", **(jpeg if photos else {}))
    plt.rcParams.update({
        "figure.figsize": (8, 3.2), "figure.dpi": 80, "savefig.dpi": 80, "font.size": 11, "axes.titlesize": 12,
        "axes.spines.top": False, "axes.spines.right": False, "figure.constrained_layout.use": True,
        "legend.frameon": False, "axes.prop_cycle": plt.cycler(color=LINES)})


@cache
def font_of(letter: str) -> str | None:
    """The family of an installed font that has a letter, matplotlib's own if it does; None where none has."""
    fonts = sorted(font_manager.fontManager.ttflist, key=lambda font: font.name != "DejaVu Sans")
    return next((font.name for font in fonts if ord(letter) in font_manager.get_font(font.fname).get_charmap()), None)


def legible(name: str) -> str:
    """A class's name as figures can show it, in any script. Its letters are drawn in fonts that have them; a letter
    that no installed font has is written as its code, like \\u732b. A dollar sign begins no formula."""
    fonts = {letter: font_of(letter) for letter in name}
    others = [font for font in fonts.values() if font not in (None, "DejaVu Sans")]
    plt.rcParams["font.family"] = list(dict.fromkeys([*plt.rcParams["font.family"], *others]))
    absent = "".join(letter for letter, font in fonts.items() if font is None)
    if absent:
        warnings.warn(f"no installed font has {absent!r}: written as codes; Noto Sans CJK, for one, has most scripts' "
                      "letters", stacklevel=2)
    name = "".join(letter if fonts[letter] else letter.encode("ascii", "backslashreplace").decode() for letter in name)
    return name.replace("$", r"\$")


def save(figure, path) -> None:
    """A PNG with the same bytes each time."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None}, dpi=figure.dpi)
    files.write_bytes(path, buffer.getvalue())


def markdown(frame: pd.DataFrame, digits: int = 3) -> str:
    """A table in Markdown: floats with `digits` decimals, a dash for what is missing; empty without rows."""
    def cell(value) -> str:
        if isinstance(value, str):
            return value
        return "–" if pd.isna(value) else f"{value:.{digits}f}" if isinstance(value, float) else f"{value:,}"

    rows = [[frame.index.name or "", *frame], ["---"] * (1 + frame.shape[1]), *frame.map(cell).reset_index().to_numpy()]
    return "" if frame.empty else "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def looks(models) -> dict[str, dict]:
    """How each model of a figure is drawn: {model: {"color", "marker", "linestyle"}}, as `plt.plot` takes them. A model
    looks the same everywhere, trained for longer or not. Other names take colours that the figure has left, with
    markers that no known model has.
    """
    found = {model: MODELS[model.removesuffix("-long")] for model in models if model.removesuffix("-long") in MODELS}
    taken = {colour for colour, *_ in found.values()}
    spare = cycle([(colour, marker, dashes) for marker, dashes in zip("hp8d", ("-", "--", "-.", ":"))
                   for colour in sorted(LINES, key=lambda colour: colour in taken)])
    return {model: dict(zip(("color", "marker", "linestyle"), found.get(model) or next(spare))) for model in models}


def finish(axes, **settings):
    """Title and labels, the legend at the right; returns the figure."""
    axes.set(**settings)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return axes.figure


def vertex_histogram(counts: dict[str, list[int]], median: float, k: int, title: str):
    """How many vertices the objects have; counts: {class: vertices of each object}."""
    values = np.concatenate(list(counts.values()))
    top = int(np.percentile(values, 92)) + 2
    _, axes = plt.subplots()
    axes.hist(values.clip(max=top), np.arange(top + 2) - 0.5, color=COLOURS[5])
    axes.axvline(median, color=DARK, linewidth=2, label=f"median: {median:g} vertices")
    axes.axvline(k, color=COLOURS[3], linewidth=2, linestyle="--", label=f"chosen: K = {k}")
    above = f" ({top} stands for all above)" if values.max() > top else ""
    return finish(axes, title=title, xlabel=f"vertices of an object's outline{above}", ylabel="objects")


def vertices_by_class(counts: dict[str, list[int]], k: int):
    """Median and middle half of the vertex counts of each class; at most 20 classes, the most frequent ones."""
    frame = pd.DataFrame({legible(name): pd.Series(values) for name, values in counts.items()})
    names = frame[frame.count().nlargest(20).index].median().sort_values().index
    axes = frame[names].plot.box(vert=False, whis=0, showfliers=False, showcaps=False,
                                 figsize=(8, 0.8 + 0.27 * len(names)), medianprops={"color": DARK, "linewidth": 3})
    axes.axvline(k, color=COLOURS[3], linestyle="--", label=f"K = {k}")
    return finish(axes, xlabel="vertices (thick: median; box: middle half)", title="Vertices by class")


def tolerance_curve(medians: dict, chosen: float, title: str):
    """The median vertex count against the tolerance of the simplification, a share of the perimeter. medians:
    {tolerance: median}."""
    _, axes = plt.subplots()
    axes.plot(pd.Series(medians).rename(lambda tolerance: 100 * float(tolerance)).sort_index(), "o-", markersize=3)
    axes.axvline(100 * chosen, color=COLOURS[3], linestyle="--", label=f"default: {100 * chosen:g} %")
    return finish(axes, xlabel="tolerance, % of the outline's length", ylabel="median vertices", ylim=(0, None),
                  title=title)


def running(axes, logs: dict[str, pd.DataFrame], name: str) -> None:
    """A column of each training's log, as running means over 20 steps; nothing for a log that lacks it."""
    for model, look in looks(logs).items():
        if name in logs[model]:
            means = logs[model].set_index("step")[name].rolling(min(20, len(logs[model]))).mean().dropna()
            axes.plot(means.index, means, **look, markevery=(0.12, 0.25), label=model)


def losses(logs: dict[str, pd.DataFrame]):
    """Each model's losses over the steps."""
    names = ["classification", "bbox_regression", "bbox_ctrness", "keypoints"]
    figure, panels = plt.subplots(1, 4, figsize=(12, 2.8))
    for axes, name, title in zip(panels, names, ("classification", "box", "centerness", "keypoints")):
        running(axes, logs, name)
        axes.set(title=title, xlabel="step", ylim=(0, None))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(logs))
    return figure


def gauge(logs: dict[str, pd.DataFrame], even: float):
    """The spread of the keypoints over the steps; even: that of keypoints evenly on the box's outline."""
    _, axes = plt.subplots()
    running(axes, logs, "spread")
    axes.axhline(even, color=DARK, linestyle="--", linewidth=1, label=f"evenly on the box's outline: {even:.2f}")
    axes.axhline(0, color=COLOURS[3], linestyle=":", linewidth=3, label="collapsed: 0")
    return finish(axes, xlabel="step", ylabel="spread / box diagonal", ylim=(-0.02, 1.4 * even),
                  title="The collapse gauge: mean distance between two keypoints")


def curves(values: dict[str, dict[int, float]], title: str, xlabel: str = "steps", ylabel: str = "AP50"):
    """AP50, or another figure, of each model at some steps, or angles: {model: {step: AP50}}."""
    _, axes = plt.subplots()
    for model, look in looks(values).items():
        axes.plot(pd.Series(values[model], dtype=float).sort_index(), **look, label=model)
    return finish(axes, xlabel=xlabel, ylabel=ylabel, ylim=(0, None), title=title)


def ap_bars(metrics: dict[str, dict], title: str):
    """COCO's AP of each model on each test set that all have; a dash where there is no object."""
    kinds = [kind for kind in NAMES if all(kind in each for each in metrics.values())]
    frame = pd.DataFrame({model: {f"-{kind}\n{NAMES[kind]}": each[kind]["coco"]["AP"] for kind in kinds}
                          for model, each in metrics.items()}, dtype=float)
    axes = frame.plot.bar(width=0.8, rot=0, ylabel="AP", ylim=(0, 1), title=title)
    for bars, (model, look) in zip(axes.containers, looks(metrics).items()):
        plt.setp(bars.patches, color=look["color"], hatch="" if look["linestyle"] == "-" else "//", edgecolor="white")
        axes.bar_label(bars, ["–" if pd.isna(value) else f"{value:.2f}" for value in frame[model]], fontsize=9)
    axes.legend(loc="upper right", ncols=len(metrics))
    return axes.figure


def results_table(metrics: dict[str, dict]) -> str:
    """COCO's AP and AP50 on each version of the test set, in Markdown, one row a model."""
    frame = pd.DataFrame(index=pd.Index(metrics, name="AP: COCO's, IoU .5 to .95; AP50: IoU .5"))
    for kind, name in NAMES.items():
        found = [each.get(kind) for each in metrics.values()]
        frame[f"-{kind} ({name}): AP"] = [each and each["coco"]["AP"] for each in found]
        frame[f"-{kind}: AP50"] = [each and each["AP50"] for each in found]
    return markdown(frame)


def shape_table(metrics: dict[str, dict], title: str) -> str:
    """How well hulls and rotated boxes tell shapes on -st, in Markdown, one row a model; empty where no outline is
    known. title: one of `SHAPES`."""
    rows = {model: {"spread": found["spread"], **found["shape"],
                    **{f"mask-{guess}": each["AP50"] for guess, each in (found["masks"] or {}).items()}}
            for model, found in ((model, each["st"]) for model, each in metrics.items()) if found["shape"]}
    frame = pd.DataFrame.from_dict(rows, orient="index").reindex(columns=list(SHAPES[title]))
    return markdown(frame.rename(columns=SHAPES[title]).rename_axis(title))


def turning_table(metrics: dict[str, dict], angle: int = 30) -> str:
    """`kaod.evaluation.turning` at one angle, by index, in Markdown: each model, and beside it what does not turn and
    what does; empty where it was not measured."""
    of_models = {model: ((each["st"].get("turning") or {}).get(str(angle)) or {}) for model, each in metrics.items()}
    rows = {words.format(model): found[kind] for kind, words in BESIDE.items()
            for model, found in of_models.items() if found}
    frame = pd.DataFrame.from_dict(rows, orient="index").reindex(columns=list(TURNING)).rename(columns=TURNING)
    return markdown(frame.rename_axis(f"photos turned by {angle}°"))


def paper_table(paper: pd.DataFrame, table: int) -> str:
    """One of the paper's two tables in Markdown. paper: data/paper.csv."""
    figures = paper[paper["table"] == table].set_index(["model", "backbone"])[["st", "rt", "tr"]]
    frame = figures.stack().unstack([1, 2]).reindex(figures.index.unique(0))
    frame.columns = [f"{backbone} -{kind}" for backbone, kind in frame]
    return markdown(frame.rename_axis("mAP, from the paper"))


def data_table(sets: dict[str, list]) -> str:
    """Photos, objects, and what of them is ignored, in Markdown, one row a set of samples."""
    frame = pd.DataFrame({"photos": {key: len(samples) for key, samples in sets.items()}})
    frame["objects"] = [sum(len(each.labels) for each in samples) for samples in sets.values()]
    frame["ignored"] = [sum(int(each.ignore.sum()) for each in samples) for samples in sets.values()]
    frame["objects a photo"] = frame["objects"] / frame["photos"].clip(1)
    return markdown(frame.rename_axis("set"), 2)


def class_counts(sets: dict[str, list], classes: list[str], most: int = 20):
    """Objects of each class in each set of samples, as shares of the set; the `most` frequent classes."""
    counts = pd.DataFrame({key: np.bincount(np.concatenate([each.labels for each in samples]),
                                            minlength=len(classes) + 1)[1:] for key, samples in sets.items()},
                          list(map(legible, classes)))
    names = counts.sum(axis=1).nlargest(most).index
    axes = (100 * counts / counts.sum()).loc[names].plot.barh(figsize=(8, 1.2 + 0.36 * len(names)), width=0.8)
    for bars, key in zip(axes.containers, counts):
        axes.bar_label(bars, [f"{count:,}" for count in counts.loc[names, key]], fontsize=9, padding=2)
    axes.invert_yaxis()
    return finish(axes, xlabel="% of the set's objects (at the bar: how many)", title="Classes")


def object_sizes(sets: dict[str, list]):
    """How large the objects of each set are: √(box area) in pixels of the photo, as shares of the set."""
    _, axes = plt.subplots()
    sizes = {key: np.sqrt(np.concatenate([(each.boxes[:, 2:] - each.boxes[:, :2]).prod(1) for each in samples]))
             for key, samples in sets.items()}
    bins = np.linspace(0, np.concatenate(list(sizes.values())).max(initial=1), 31)
    for (key, each), dashes in zip(sizes.items(), ("-", "--", ":", "-.")):
        said = f"median {np.median(each):.0f} px" if len(each) else "no objects"
        axes.hist(each, bins, weights=np.full(len(each), 100 / max(1, len(each))), histtype="step", linewidth=2,
                  linestyle=dashes, label=f"{key}: {said}")
    return finish(axes, xlabel="√(box area), pixels", ylabel="% of the set's objects", title="Sizes")
