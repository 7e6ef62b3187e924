"""What the grid of experiments/ says, as charts and sentences; cells may be missing.

A table is `experiments.grid`'s: {model: {"seeds", "by_seed", "figures", "against"}}. AP50 is AP at IoU .5.
"""

import matplotlib.pyplot as plt
import numpy as np

from experiments import grid
from kaod import params
from kaod.data import files
from kaod.data.kinds import NAMES
from kaod.figures import plots
from kaod.figures.plots import COLOURS, DARK, looks

MARKERS = "os^D"


def load(profile: params.Profile, name: str) -> dict[str, dict]:
    """One of the grid's tables, "grid" or "long", its models as experiments/grid.yaml lists them; empty if none ran."""
    path = profile.results / f"{name}.json"
    found = files.read_json(path) if path.exists() else {}
    return {model: found[model] for model in grid.of_table(grid.load()[1], name) if model in found}


def missing(table: dict[str, dict], models) -> str:
    """A sentence in Markdown on what of the grid's models has not run; empty if all have."""
    names = [name for name in models if name not in table]
    return ("Not run yet (`dvc repro experiments/dvc.yaml` does it), so that nothing is said of them: "
            f"{', '.join(names)}." if names else "")


def ratios(benchmark: dict, words: dict[str, str]) -> str:
    """Items in Markdown: ratios of a training step's times from benchmarks/train_step.py, {its name of one: words}."""
    return "\n".join(f"- {said}: **{benchmark['ratios'][name]['median']:.2f}**" for name, said in words.items())


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


def by_k(table: dict[str, dict], models: dict[int, str]) -> str:
    """A table in Markdown: figures by the number of keypoints, over the seeds that all models have.

    models: {K: its model}; those that have not run are left out.
    """
    models = {k: model for k, model in models.items() if model in table}
    shared = sorted(set.intersection(*(set(table[model]["seeds"]) for model in models.values()))) if models else []
    if not shared:
        return "Not run yet."
    columns = {"AP50-st": "AP50 -st", "AP50-rt": "-rt", "hull": "hull's IoU", "rectangle": "rotated box's IoU",
               "spread": "spread", "repeatability30": "repeatability, 30°"}
    rows = {}
    for k, model in models.items():
        chosen = [table[model]["seeds"].index(seed) for seed in shared]
        rows[k] = {name: np.mean([table[model]["by_seed"][name][index] for index in chosen]) for name in columns}
    seeds = f"Seed {shared[0]}" if len(shared) == 1 else "Means over the seeds " + ", ".join(map(str, shared))
    return f"{plots.table('K', columns, rows)}\n\n{seeds}."


def verdict(table: dict[str, dict], figure: str, model: str, reference: str, words: str, less: bool = False) -> str:
    """An item in Markdown: a model's difference to a reference, and whether it can be told from chance.

    less: whether less of the figure is better.
    """
    found = table.get(model, {}).get("against", {}).get(reference, {}).get(figure)
    start = f"- {words} ({model} minus {reference}): "
    if found is None:
        return start + "not run yet"
    if found["half"] is None:
        return start + f"{found['mean']:+.3f}, one seed: no more than a hint"
    told = abs(found["mean"]) > found["half"]
    return start + f"{found['mean']:+.3f} ± {found['half']:.3f}: " + (
        "**better**" if told and (found["mean"] < 0) == less else "**worse**" if told else "cannot be told from chance")


def turning(table: dict[str, dict]):
    """What turning costs beyond the crop: AP50 on -rt minus that on -cr, taken seed by seed, with 95 % intervals."""
    models = [model for model, entry in table.items() if {"AP50-rt", "AP50-cr"} <= entry["by_seed"].keys()]
    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.34 * len(models)))
    look = looks(table)
    for row, model in enumerate(models):
        values = [rt - cr for rt, cr in zip(*(table[model]["by_seed"][f"AP50-{kind}"] for kind in ("rt", "cr")))]
        found, colour = grid.interval(values), look[model]["color"]
        axes.plot(values, [row + 0.25] * len(values), "|", color=colour, markersize=7)
        axes.errorbar(found["mean"], row, xerr=found["half"], marker=look[model]["marker"], markersize=8, capsize=3,
                      color=colour, mfc=colour if found["half"] else "white")
    axes.axvline(0, color=DARK, linewidth=1)
    axes.set(yticks=range(len(models)), yticklabels=models, ylim=(len(models) - 0.4, -0.6),
             xlabel="AP50 -rt minus AP50 -cr (hollow: one seed; strokes: the seeds; bars: 95 % intervals)",
             title="What turning costs, beyond the crop")
    return figure


def by_angle(table: dict[str, dict], model: str, references):
    """A model's AP50 minus that of each reference against the angle of the turn, with 95 % intervals over the seeds."""
    figure, axes = plt.subplots(figsize=(9, 4))
    for number, (reference, look) in enumerate(looks(references).items()):
        found = numbered(table[model]["against"].get(reference, {}), "AP50-turn")
        if found:
            axes.errorbar([angle + 2.2 * (number - (len(references) - 1) / 2) for angle in found],  # side by side
                          [each["mean"] for each in found.values()], [each["half"] or 0 for each in found.values()],
                          **look, capsize=3, elinewidth=1.2, label=f"minus {reference}")
    axes.axhline(0, color=DARK, linewidth=1)
    axes.set(xticks=range(-90, 91, 15), xlabel="turn in degrees, clockwise", ylabel="difference in AP50",
             title=f"{model}, all photos turned by one angle; bars: 95 % intervals over the seeds")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def angles_told(table: dict[str, dict], model: str, references) -> str:
    """Items in Markdown: the angles at which a model can be told from each reference, that is, where the 95 % interval
    of their difference does not contain 0."""
    lines = []
    for reference in references:
        found = numbered(table.get(model, {}).get("against", {}).get(reference, {}), "AP50-turn")
        known = {angle: each for angle, each in found.items() if each["half"] is not None}
        said = [f"{word} at {', '.join(f'{angle}°' for angle in chosen)}" for word, chosen in (
            ("**ahead**", [angle for angle, each in known.items() if each["mean"] > each["half"]]),
            ("**behind**", [angle for angle, each in known.items() if each["mean"] < -each["half"]])) if chosen]
        lines.append(f"- {model} against {reference}: " + (
            f"{'; '.join(said) or 'cannot be told apart at any angle'} (of {len(known)} angles)" if known else
            "not run yet, or with one seed"))
    return "\n".join(lines)


def learning(table: dict[str, dict], steps: dict[str, int]) -> dict[str, dict[int, float]]:
    """{model: {step: AP50 on -st}}, means over the seeds, of the models that were measured on the way; the last is the
    trained model's. steps: how many each model has in all."""
    found = {model: numbered(entry["figures"], "AP50-after") for model, entry in table.items()}
    return {model: {step: value["mean"] for step, value in each.items()} | {
        steps[model]: table[model]["figures"]["AP50-st"]["mean"]} for model, each in found.items() if each}


def reached(curves: dict[str, dict[int, float]], reference: str, share: float = 0.9) -> str:
    """Items in Markdown: the first measured step at which each model has a share of the reference's last AP50, and of
    its own last one. curves: as `learning` gives them."""
    lines = []
    for model, curve in curves.items():
        goals = {"its own": model} if model == reference else {f"{reference}'s": reference, "its own": model}
        said = []
        for words, other in goals.items():
            if other in curves:
                goal = share * curves[other][max(curves[other])]
                first = next((step for step in sorted(curve) if curve[step] >= goal), None)
                said.append(f"{100 * share:.0f} % of {words} final AP50, {goal:.3f}, " + (
                    "**never**" if first is None else f"after **{first:,}** steps"))
        lines.append(f"- {model}: {'; '.join(said)}")
    return "\n".join(lines)


def collapsed(table: dict[str, dict], even: float) -> str:
    """A sentence in Markdown: in which trainings the keypoints collapsed, that is, have less than half of the even
    spread."""
    spread = {model: dict(zip(entry["seeds"], entry["by_seed"]["spread"])) for model, entry in table.items()
              if "spread" in entry["by_seed"]}
    low = [f"{model}, seed {seed} ({value:.2f})" for model, each in spread.items() for seed, value in each.items()
           if value < even / 2]
    count = sum(map(len, spread.values()))
    ranges = ", ".join(f"{model} {min(each.values()):.2f}" + (
        f" to {max(each.values()):.2f}" if len(each) > 1 else "") for model, each in spread.items())
    return (f"Taking less than half of the even spread ({even / 2:.2f}) for collapsed, the keypoints collapsed in "
            f"**{len(low)} of {count} trainings**{': ' if low else ''}{'; '.join(low)}. The spreads: {ranges}."
            ) if spread else "No keypoints were trained yet."


def numbered(figures: dict, start: str) -> dict[int, dict]:
    """Those of a model's figures whose names are `start` and a number, in the order of that number."""
    found = {int(key.removeprefix(start)): value for key, value in figures.items() if key.startswith(start)}
    return {number: found[number] for number in sorted(found)}


def grid_sweep(table: dict[str, dict]):
    """AP50 of each model of `experiments.grid`'s table, the mean over its seeds, against the angle of the turn."""
    figure, axes = plt.subplots(figsize=(9, 4))
    for model, look in looks(table).items():
        found = numbered(table[model]["figures"], "AP50-turn")
        if found:
            axes.plot(list(found), [each["mean"] for each in found.values()], **look, label=model)
    axes.set(xticks=range(-90, 91, 30), xlabel="turn in degrees, clockwise", ylabel="AP50", ylim=(0, None),
             title="All photos turned by one angle")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def differences(table: dict[str, dict], reference: str, kinds=("st", "rt", "tr")):
    """Each model's AP50 minus the reference's on each test set; bars are 95 % intervals; a hollow mark is a
    single seed, which has none.

    What lies far from all others is an arrow at the border, with its value.
    """
    models = [model for model, entry in table.items() if reference in entry["against"]]
    figure, panels = plt.subplots(1, len(kinds), figsize=(11, 1 + 0.36 * len(models)), sharey=True, squeeze=False)
    all_found = [table[model]["against"][reference][f"AP50-{kind}"] for model in models for kind in kinds]
    reach = [abs(found["mean"]) + (found["half"] or 0) for found in all_found]
    limit = 1.1 * min(max(reach), 3 * np.median(reach)) if reach else 1
    look = {model: {**each, "linestyle": ""} for model, each in looks(table).items()}
    for axes, kind in zip(panels[0], kinds):
        for row, model in enumerate(reversed(models)):
            found = table[model]["against"][reference][f"AP50-{kind}"]
            if abs(found["mean"]) > limit:
                axes.annotate(f"{found['mean']:+.2f}", (np.sign(found["mean"]) * limit, row), va="center",
                              xytext=(np.sign(found["mean"]) * limit / 2, row), fontsize=9,
                              arrowprops={"arrowstyle": "->", "color": look[model]["color"]})
                continue
            axes.errorbar(found["mean"], row, xerr=found["half"], capsize=3, markersize=7, **look[model],
                          mfc=look[model]["color"] if found["half"] else "white")
        axes.axvline(0, color=DARK, linewidth=1)
        axes.set(title=f"-{kind} ({NAMES[kind]})", xlabel=f"AP50 minus that of {reference}", xlim=(-limit, limit),
                 ylim=(-0.6, len(models) - 0.4), yticks=range(len(models)), yticklabels=models[::-1])
    return figure


def repeatability(table: dict[str, dict]):
    """How far keypoints of a turned photo lie from those of the photo, by angle, with 95 % intervals over the seeds;
    less is better."""
    figure, axes = plt.subplots(figsize=(8, 3.4))
    look = looks(table)
    models = {model: numbered(entry["figures"], "repeatability") for model, entry in table.items()
              if "repeatability30" in entry["figures"]}
    for number, (model, found) in enumerate(models.items()):
        axes.errorbar([angle + 1.2 * (number - (len(models) - 1) / 2) for angle in found],  # side by side
                      [each["mean"] for each in found.values()], [each["half"] or 0 for each in found.values()],
                      **look[model], capsize=2, elinewidth=1, label=model)
    axes.set(xticks=sorted({angle for found in models.values() for angle in found}),
             xlabel="turn in degrees, clockwise", ylabel="distance / √(box area)", ylim=(0, None),
             title="Keypoints of a turned photo: how far from where they were? (95 % intervals)")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def spreads(table: dict[str, dict], even: float):
    """The collapse gauge of each training, one dot a seed; even: that of keypoints evenly on the box's outline."""
    rows = {model: list(zip(entry["by_seed"]["spread"], entry["seeds"])) for model, entry in table.items()
            if "spread" in entry["by_seed"]}
    figure, axes = plt.subplots(figsize=(9, 1.5 + 0.6 * len(rows)))
    look = looks(table)
    for row, (model, found) in enumerate(rows.items()):
        for number, (value, seed) in enumerate(found):
            place = row + 0.24 * (number - (len(found) - 1) / 2)
            axes.plot(value, place, look[model]["marker"], markersize=8, color=look[model]["color"])
            axes.annotate(f"seed {seed}", (value, place), (8, 0), textcoords="offset points", va="center", fontsize=9)
    axes.axvline(0, color=COLOURS[3], linestyle=":", linewidth=3, label="all in one place: 0")
    axes.axvline(even, color=DARK, linestyle="--", linewidth=1, label=f"evenly on the box's outline: {even:.2f}")
    axes.axvline(even / 2, color="#888888", linewidth=1, label=f"half of that: {even / 2:.2f}")
    axes.set(yticks=range(len(rows)), yticklabels=list(rows), ylim=(max(1, len(rows)) - 0.5, -0.5),
             xlim=(-0.02, 1.1 * even), title="The collapse gauge, by seed",
             xlabel="spread: mean distance between two keypoints / box diagonal")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def outlines(table: dict[str, dict]):
    """How well a box, an ellipse and the keypoints' hull cover the true outline, beside what a hull could reach."""
    kinds = {"box": "the box, filled", "ellipse": "the ellipse in the box", "hull": "the keypoints' hull",
             "bound": "bound: the outline's own hull"}
    models = [model for model, entry in table.items() if "hull" in entry["figures"]]
    figure, axes = plt.subplots(figsize=(9, 1.5 + 0.5 * len(models)))
    for number, (kind, words) in enumerate(kinds.items()):
        found = [table[model]["figures"][kind] for model in models]
        rows = [row + 0.12 * (number - 1.5) for row in range(len(models))]
        axes.errorbar([each["mean"] for each in found], rows, xerr=[each["half"] or 0 for each in found],
                      fmt=MARKERS[number], capsize=3, markersize=8, color=COLOURS[number], label=words)
    axes.set(yticks=range(len(models)), yticklabels=models, ylim=(max(1, len(models)) - 0.5, -0.5),
             xlabel="mean IoU with the true outline, over the objects that were found",
             title="Masks that nobody labelled")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
