"""What is in a data set, as pictures, charts and a table."""

import matplotlib.pyplot as plt
import numpy as np

from ..data.kinds import NAMES
from .plots import legend, name, show, truth


def versions(sets: dict[str, list], classes: list[str]):
    """The same photos in several versions of the test set, with what is true of them: one row a version.

    sets: {version, a key of `kinds.NAMES`: samples}, equally many each.
    """
    columns = max(map(len, sets.values()))
    figure, grid = plt.subplots(len(sets), columns, figsize=(11, 0.4 + 10.6 / columns * len(sets)), squeeze=False)
    for row, (kind, samples) in zip(grid, sets.items()):
        for axes, sample in zip(row, samples):
            show(axes, sample.image())
            truth(axes, sample)
            for box, label, ignore in zip(sample.boxes, sample.labels, sample.ignore):
                name(axes, box, classes[label - 1] + (" (ignored)" if ignore else ""))
        row[0].set_title(f"-{kind}: {NAMES[kind]}", loc="left", fontweight="bold")
    legend(figure, "labelled box", "true outline", "ignored object")
    return figure


def class_counts(sets: dict[str, list], classes: list[str], most: int = 20):
    """Objects of each class in each set of samples, as shares of the set; the `most` frequent classes."""
    counts = {key: np.bincount(np.concatenate([each.labels for each in samples]), minlength=len(classes) + 1)[1:]
              for key, samples in sets.items()}
    chosen = np.argsort(-sum(counts.values()), kind="stable")[:most]
    figure, axes = plt.subplots(figsize=(8, 1.2 + 0.36 * len(chosen)))
    height = 0.8 / len(counts)
    for number, (key, each) in enumerate(counts.items()):
        places = np.arange(len(chosen)) + (number - (len(counts) - 1) / 2) * height
        bars = axes.barh(places, 100 * each[chosen] / each.sum(), height, label=f"{key}: {each.sum():,} objects")
        axes.bar_label(bars, [f"{count:,}" for count in each[chosen]], fontsize=9, padding=2)
    axes.set(yticks=range(len(chosen)), yticklabels=[classes[i] for i in chosen], xlabel="% of the set's objects "
             "(at the bar: how many)", title="Classes")
    axes.invert_yaxis()
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def object_sizes(sets: dict[str, list]):
    """How large the objects of each set are: √(box area) in pixels of the photo, as shares of the set."""
    sizes = {key: np.sqrt(np.concatenate([(each.boxes[:, 2:] - each.boxes[:, :2]).prod(1) for each in samples]))
             for key, samples in sets.items()}
    bins = np.linspace(0, max(each.max() for each in sizes.values()), 31)
    figure, axes = plt.subplots(figsize=(8, 3.2))
    for number, (key, each) in enumerate(sizes.items()):
        axes.hist(each, bins, weights=np.full(len(each), 100 / len(each)), histtype="step", linewidth=2,
                  linestyle=("-", "--", ":", "-.")[number % 4], label=f"{key}: median {np.median(each):.0f} px")
    axes.set(xlabel="√(box area), pixels", ylabel="% of the set's objects", title="Sizes")
    axes.legend()
    return figure


def data_table(sets: dict[str, list]) -> str:
    """Photos, objects, and what of them is ignored, in Markdown, one row a set."""
    lines = ["| set | photos | objects | ignored | objects a photo |", "|---|---|---|---|---|"]
    for key, samples in sets.items():
        ignored, objects = sum(int(each.ignore.sum()) for each in samples), sum(len(each.labels) for each in samples)
        lines.append(f"| {key} | {len(samples):,} | {objects:,} | {ignored:,} | {objects / max(1, len(samples)):.2f} |")
    return "\n".join(lines)
