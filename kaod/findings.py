"""What the grid of experiments/ says of the paper's findings, as charts and sentences; cells may be missing."""

import matplotlib.pyplot as plt

from .kinds import NAMES
from .plots import COLOURS, DARK

MARKERS = "os^Dv<>Ph*"


def missing(grid: dict[str, dict], models) -> str:
    """A sentence in Markdown on what of the grid's models has not run; empty if all have."""
    names = [name for name in models if name not in grid]
    return f"Not run yet, so that nothing is said of them: {', '.join(names)}." if names else ""


def ratio(grid: dict[str, dict], figure: str, first: str, second: str, words: str) -> str:
    """An item in Markdown: the mean of a figure for one model over that for another."""
    values = [grid.get(name, {}).get("figures", {}).get(figure) for name in (first, second)]
    said = "not run yet" if None in values else f"**{values[0]['mean'] / values[1]['mean']:.2f}**"
    return f"- {words} ({first} / {second}): {said}"


def cost_of_k(benchmark: dict):
    """A step's time by K over that with 16, from benchmarks/train_step.py; the paper gives K = 32 only."""
    ours = [1.0] + [benchmark["ratios"][f"K = {k} / K = 16"]["median"] for k in (32, 48)]
    figure, axes = plt.subplots(figsize=(7, 3))
    here = axes.bar([16, 32, 48], ours, 5, color=COLOURS[0], label=f"here ({benchmark['hardware']})")
    paper = axes.bar([37.5], [2.0], 5, color=COLOURS[1], label="the paper")
    axes.bar_label(here, fmt="%.2f")
    axes.bar_label(paper, fmt="%.1f")
    axes.set(xticks=[16, 32, 48], xlabel="K, keypoints an object", ylabel="time of a step / K = 16", ylim=(0, 2.3),
             title="What more keypoints cost")
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2)
    return figure


def verdict(grid: dict[str, dict], figure: str, model: str, reference: str, words: str, less: bool = False) -> str:
    """An item in Markdown: a model's difference to a reference, and whether it can be told from chance.

    less: whether less of the figure is better.
    """
    found = grid.get(model, {}).get("against", {}).get(reference, {}).get(figure)
    start = f"- {words} ({model} minus {reference}): "
    if found is None:
        return start + "not run yet"
    if found["half"] is None:
        return start + f"{found['mean']:+.3f}, one seed: no more than a hint"
    told = abs(found["mean"]) > found["half"]
    return start + f"{found['mean']:+.3f} ± {found['half']:.3f}: " + (
        "**better**" if told and (found["mean"] < 0) == less else "**worse**" if told else "cannot be told from chance")


def turning(grid: dict[str, dict], kinds=("st", "cr", "rt")):
    """AP50 as it is, cropped, and cropped and turned: what a turn costs is the step between the last two."""
    figure, axes = plt.subplots(figsize=(9, 3.8))
    for number, (model, entry) in enumerate(grid.items()):
        places = [place + 0.05 * (number - (len(grid) - 1) / 2) for place in range(len(kinds))]
        found = [entry["figures"][f"AP50-{kind}"] for kind in kinds]
        axes.errorbar(places, [each["mean"] for each in found], yerr=[each["half"] or 0 for each in found], capsize=3,
                      linewidth=1, marker=MARKERS[number % 10], markersize=7, color=COLOURS[number % 7],
                      label=f"{model} ({len(entry['seeds'])} seed{'s' * (len(entry['seeds']) > 1)})")
    axes.set(xticks=range(len(kinds)), xticklabels=[f"-{kind}\n{NAMES[kind]}" for kind in kinds], ylabel="AP50",
             title="AP50 and turning; bars: 95 % intervals over the seeds")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def spreads(grid: dict[str, dict], even: float):
    """The collapse gauge of each training, one dot a seed; even: that of keypoints evenly on the box's outline."""
    rows = {model: list(zip(entry["by_seed"]["spread"], entry["seeds"])) for model, entry in grid.items()
            if "spread" in entry["by_seed"]}
    figure, axes = plt.subplots(figsize=(9, 1.5 + 0.6 * len(rows)))
    for row, found in enumerate(rows.values()):
        for number, (value, seed) in enumerate(found):
            place = row + 0.24 * (number - (len(found) - 1) / 2)
            axes.plot(value, place, "o", markersize=8, color=COLOURS[0])
            axes.annotate(f"seed {seed}", (value, place), (8, 0), textcoords="offset points", va="center", fontsize=9)
    axes.axvline(0, color=COLOURS[3], linestyle=":", linewidth=3, label="collapsed: 0")
    axes.axvline(even, color=DARK, linestyle="--", linewidth=1, label=f"evenly on the box's outline: {even:.2f}")
    axes.set(yticks=range(len(rows)), yticklabels=list(rows), ylim=(max(1, len(rows)) - 0.5, -0.5),
             xlim=(-0.02, 1.1 * even), title="The collapse gauge, by seed",
             xlabel="spread: mean distance between two keypoints / box diagonal")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def outlines(grid: dict[str, dict]):
    """How well a box, an ellipse and the keypoints' hull cover the true outline, beside what a hull could reach."""
    kinds = {"box": "the box, filled", "ellipse": "the ellipse in the box", "hull": "the keypoints' hull",
             "bound": "bound: the outline's own hull"}
    models = [model for model, entry in grid.items() if "hull" in entry["figures"]]
    figure, axes = plt.subplots(figsize=(9, 1.5 + 0.5 * len(models)))
    for number, (kind, words) in enumerate(kinds.items()):
        found = [grid[model]["figures"][kind] for model in models]
        rows = [row + 0.12 * (number - 1.5) for row in range(len(models))]
        axes.errorbar([each["mean"] for each in found], rows, xerr=[each["half"] or 0 for each in found],
                      fmt=MARKERS[number], capsize=3, markersize=8, color=COLOURS[number], label=words)
    axes.set(yticks=range(len(models)), yticklabels=models, ylim=(len(models) - 0.5, -0.5),
             xlabel="mean IoU with the true outline, over the objects that were found",
             title="Masks that nobody labelled")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
