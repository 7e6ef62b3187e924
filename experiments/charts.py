"""Charts of the grid for notebooks 04 and 08. Each gives None where no run has what it shows.

A frame is that of `tables`. Bars are 95 % intervals over the seeds.
"""

import matplotlib.pyplot as plt
import pandas as pd

from experiments import tables
from kaod.figures.charts import COLOURS, DARK, finish, looks


def dots(frame: pd.DataFrame, figures: dict[str, str], zero: bool = False, **labels):
    """Means with their intervals, one row a model, one colour a figure; strokes are the seeds, hollow is one seed.

    figures: {figure: its words}. zero: whether a line marks 0. labels: as `axes.set` takes them.
    """
    frame = frame[frame["figure"].isin(figures)]
    if frame.empty:
        return None
    rows = {model: row for row, model in enumerate(frame["model"].unique())}
    _, axes = plt.subplots(figsize=(9, 1.2 + (0.15 + 0.1 * len(figures)) * len(rows)))
    for number, ((name, words), marker, colour) in enumerate(zip(figures.items(), "os^D", COLOURS)):
        off = 0.18 * (number - (len(figures) - 1) / 2)
        seeds = frame[frame["figure"] == name]
        found = tables.means(seeds).droplevel("figure")
        single = found[found["seeds"] == 1]
        axes.plot(seeds["value"], seeds["model"].map(rows) + off, "|", color=colour, markersize=7)
        axes.errorbar(found["mean"], found.index.map(rows) + off, xerr=found["half"], fmt=marker, capsize=2,
                      markersize=6, color=colour, label=words)
        axes.plot(single["mean"], single.index.map(rows) + off, marker, markersize=6, color=colour, mfc="white",
                  zorder=3)
    if zero:
        axes.axvline(0, color=DARK, linewidth=1)
    return finish(axes, yticks=range(len(rows)), yticklabels=list(rows), ylim=(len(rows) - 0.4, -0.6), **labels)


def curves(frame: pd.DataFrame, start: str, bars: bool = False, **labels):
    """Means against the number in the figures' names; start: what stands before it, such as "AP50-turn".

    bars: whether intervals are drawn, the models side by side. labels: as `axes.set` takes them.
    """
    found = tables.means(frame[frame["figure"].str.startswith(start)]).reset_index()
    if found.empty:
        return None
    found["number"] = found["figure"].str.removeprefix(start).astype(int)
    found, look = found.sort_values("number"), looks(list(found["model"].unique()))
    aside = 0.012 * (found["number"].max() - found["number"].min()) if bars else 0
    _, axes = plt.subplots(figsize=(9, 4))
    for number, model in enumerate(look):
        each = found[found["model"] == model]
        axes.errorbar(each["number"] + aside * (number - (len(look) - 1) / 2), each["mean"],
                      each["half"] if bars else None, **look[model], capsize=3, elinewidth=1.2, label=model)
    if bars:
        axes.axhline(0, color=DARK, linewidth=1)
    return finish(axes, xticks=sorted(found["number"].unique())[::1 if bars else 2], **labels)


def by_angle(frame: pd.DataFrame, model: str, rivals: list[str]):
    """The model's AP50 minus that of each rival, by the angle of a turn; each curve has its rival's name and look."""
    against = [tables.differences(frame[frame["model"].isin([model, rival])], rival).assign(model=rival)
               for rival in rivals]
    return curves(pd.concat(against), "AP50-turn", bars=True, xlabel="turn in degrees, clockwise",
                  ylabel="difference in AP50", title=f"AP50 of {model} minus that of …")


def spreads(frame: pd.DataFrame, even: float):
    """The spread of each training's keypoints, one mark a seed; even: that of points evenly on the box's outline."""
    frame = frame[frame["figure"] == "spread"]
    if frame.empty:
        return None
    models = list(frame["model"].unique())
    _, axes = plt.subplots(figsize=(9, 1.5 + 0.45 * len(models)))
    for row, model in enumerate(models):
        seeds = frame[frame["model"] == model]
        for number, (value, seed) in enumerate(zip(seeds["value"], seeds["seed"])):
            place = row + 0.26 * (number - (len(seeds) - 1) / 2)
            axes.plot(value, place, "o", markersize=7, color=COLOURS[0])
            axes.annotate(f"seed {seed}", (value, place), (8, 0), textcoords="offset points", va="center", fontsize=9)
    axes.axvline(0, color=COLOURS[3], linestyle=":", linewidth=3, label="all in one place: 0")
    axes.axvline(even, color=DARK, linestyle="--", linewidth=1, label=f"even on the outline: {even:.2f}")
    axes.axvline(even / 2, color="#888888", linewidth=1, label=f"half of that: {even / 2:.2f}")
    return finish(axes, yticks=range(len(models)), yticklabels=models, ylim=(len(models) - 0.4, -0.6),
                  xlim=(-0.02, 1.1 * even), title="How far apart keypoints stand, by seed",
                  xlabel="spread: mean distance between two keypoints / box diagonal")
