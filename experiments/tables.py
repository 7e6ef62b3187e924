"""The grid's figures as data frames and as tables in Markdown.

A *frame* has one row a figure of a run: model, seed, figure, value. Names of figures:
AP-st, AP50-st, AP75-st     on a test set (st, rt, cr, tr); AP is COCO's, AP50 is AP at IoU .5
AP50-turn+30, AP50-turn-15  with all photos turned by one angle, in degrees
AP-after300, AP50-after300  on -st, measured on the way, after so many steps; AP75-after300, too, in newer runs
box, ellipse, hull, bound   mean IoU with the true outline; bound is the best that a convex hull could reach
mask-AP50-hull, mask-AP-hull, …     the same four as masks, classes aside
rectangle, rectangle_box    mean IoU with the outline's smallest rectangle: the keypoints' own, and the upright box
rectangle-tilted, rectangle_box-tilted      the same of objects that are long and tilted: `kaod.evaluation.oriented`
oriented-AP50, oriented-AP50_box, …         AP of rotated boxes, as the DOTA devkit counts it: the same two
turn30, turn-distance30, turn-hull30, turn-hull_unturned30    with photos turned by 30°: `kaod.evaluation.turning`
spread, overhang, seconds_per_step
"""

import numpy as np
import pandas as pd
from scipy import stats

from kaod import params
from kaod.data.warp import KINDS, turned
from kaod.figures.charts import markdown

COLUMNS = {"model": "str", "seed": "int64", "figure": "str", "value": "float64"}
LESS_IS_BETTER = ("turn-distance", "overhang", "seconds_per_step")  # how the names of such figures begin

TURNING = {"turn": "turn", **{f"turn-{key}": key for key in ("distance", "hull", "hull_unturned")}}


def figures(run: dict) -> dict[str, float | None]:
    """{name: value} of one of `grid.runs`; None where it is not known."""
    metrics = run["metrics"]
    st, found = metrics["st"], {"seconds_per_step": run.get("seconds_per_step")}
    for kind in ("st", *KINDS):
        of_coco = metrics[kind]["coco"]
        found |= {f"AP-{kind}": of_coco["AP"], f"AP50-{kind}": metrics[kind]["AP50"], f"AP75-{kind}": of_coco["AP75"]}
    found |= {f"AP50-{turned(int(angle))}": each["AP50"] for angle, each in metrics.get("sweep", {}).items()}
    found |= {f"{name}-after{step}": value for step, each in run.get("learning", {}).items()
              for name, value in each.items()}
    found |= {name: value for name, value in (st["shape"] or {}).items() if name != "objects"}
    for end, guess in (("", "rotated"), ("_box", "box")):
        oriented = (st.get("oriented") or {}).get(guess) or {}
        found[f"rectangle{end}-tilted"] = oriented.get("IoU", {}).get("tilted")
        found |= {f"oriented-{name}{end}": oriented.get(name) for name in ("AP", "AP50")}
    for outline, each in (st["masks"] or {}).items():
        found |= {f"mask-AP-{outline}": each["AP"], f"mask-AP50-{outline}": each["AP50"]}
    turned30 = ((st.get("turning") or {}).get("30") or {}).get("model", {})
    found |= {f"{name}30": turned30.get(key) for name, key in TURNING.items()}
    return found | {"spread": st["spread"], "overhang": st["overhang"]}


def frame(runs: list[dict], models) -> pd.DataFrame:
    """The frame of these runs, sorted by the order of `models`, seed and figure; runs of other models are left out."""
    order = {model: number for number, model in enumerate(models)}
    rows = [(run["model"], run["seed"], name, value) for run in runs if run["model"] in order
            for name, value in figures(run).items() if value is not None]
    rows.sort(key=lambda row: (order[row[0]], *row[1:3]))
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def load(profile: params.Profile) -> pd.DataFrame:
    """The frame of results/<profile>/grid.csv; an empty one where no run was tabled yet."""
    path = profile.results / "grid.csv"
    if not path.exists():
        return frame([], [])
    return pd.read_csv(path, dtype="str").astype(COLUMNS)  # read_csv's own floats may be off by the last bit


def split(frame: pd.DataFrame, profile: params.Profile, models: dict[str, dict]) -> list[pd.DataFrame]:
    """The frame in three: models as small and as briefly trained as the profile's, those trained for up to twice as
    many steps, and those of another network or more steps."""
    applied = {name: params.apply(profile, changes) for name, changes in models.items()}
    network, steps = (profile.model.backbone, profile.model.fpn_channels), profile.train.steps
    part = {name: 2 if (each.model.backbone, each.model.fpn_channels) != network or each.train.steps > 2 * steps
            else int(each.train.steps > steps) for name, each in applied.items()}
    return [frame[frame["model"].map(part) == number] for number in range(3)]


def not_run(frame: pd.DataFrame, profile: params.Profile, models: dict[str, dict]) -> list[str]:
    """The models without a run here. One with the very settings of a model that has run counts as run."""
    applied, ran = {name: params.apply(profile, changes) for name, changes in models.items()}, {*frame["model"]}
    return [name for name, each in applied.items() if each not in [applied[other] for other in ran & applied.keys()]]


def means(frame: pd.DataFrame) -> pd.DataFrame:
    """By model and figure: mean, half (of its 95 % interval by Student's t, NaN for one seed) and seeds.

    A figure that a model does not have for each of its seeds is left out.
    """
    found = frame.groupby(["model", "figure"], sort=False)["value"].agg(["mean", "sem", "count"])
    found["half"] = found["sem"] * stats.t.ppf(0.975, found["count"] - 1)
    whole = found["count"] == frame.groupby("model")["seed"].nunique().reindex(found.index.get_level_values(0)).values
    return found[whole].rename(columns={"count": "seeds"})[["mean", "half", "seeds"]]


def differences(frame: pd.DataFrame, reference: str) -> pd.DataFrame:
    """The frame of the other models' figures minus the reference's with the same seed.

    Two models with one seed saw the same photos in the same order, unless their batches differ in size.
    """
    of_reference = frame["model"] == reference
    return _minus(frame[~of_reference], frame[of_reference], ["seed", "figure"])


def turning(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame of what a turn costs beyond its crop: AP50-rt minus AP50-cr, and AP-rt minus AP-cr, of each run."""
    rotated = {"AP50-cr": "AP50-rt", "AP-cr": "AP-rt"}
    cropped = frame[frame["figure"].isin(rotated)].replace({"figure": rotated})
    return _minus(frame, cropped, ["model", "seed", "figure"])


def _minus(frame, other, on: list[str]) -> pd.DataFrame:
    both = frame.merge(other, on=on, suffixes=("", "_other"))
    return both.assign(value=both["value"] - both["value_other"])[list(COLUMNS)]


def table(frame: pd.DataFrame, columns: dict[str, str], reference: str | None = None,
          rows: dict[str, str] | None = None) -> str:
    """Means, or differences to a reference, ± their 95 % intervals in Markdown; one row a model that has any.

    columns: {figure: heading}. rows: {model: its name in the table}, if not all models in their order. A figure that
    a model does not have is a dash.
    """
    found = means(frame if reference is None else differences(frame, reference)).reset_index()
    found = found[found["figure"].isin(columns)]
    rows = rows or {model: model for model in found["model"].unique()}
    sign = "" if reference is None else "+"
    found["text"] = [_text(mean, half, sign) for mean, half in found[["mean", "half"]].values]
    cells = found.pivot(index="model", columns="figure", values="text").reindex(columns=list(columns))
    cells.insert(0, "seeds", found.groupby("model")["seeds"].max())
    cells = cells.reindex([model for model in rows if model in cells.index])
    return markdown(cells.rename(index=rows, columns=columns)) or "Not run yet."


def word(mean: float, half: float, figure: str) -> str:
    """What a difference says: better, worse, open (its 95 % interval contains 0) or one seed (it has none)."""
    if np.isnan(half):
        return "one seed"
    if abs(mean) <= half:
        return "open"
    return "better" if (mean < 0) == figure.startswith(LESS_IS_BETTER) else "worse"


def verdicts(frame: pd.DataFrame, claims: dict[str, tuple[str, str, str]]) -> str:
    """A table in Markdown, one row a claim. claims: {words: (figure, model, reference)}."""
    rows = {}
    for claim, (figure, model, reference) in claims.items():
        found, key = means(differences(frame, reference)), (model, figure)
        mean, half = found.loc[key, ["mean", "half"]] if key in found.index else (np.nan, np.nan)
        said = ("–", "not run") if np.isnan(mean) else (_text(mean, half, "+"), word(mean, half, figure))
        rows[claim] = model, reference, *said
    return markdown(pd.DataFrame.from_dict(rows, orient="index", columns=["model", "against", "difference", "is"]))


def _text(mean: float, half: float, sign: str) -> str:
    return f"{mean:{sign}.3f}" + ("" if np.isnan(half) else f" ± {half:.3f}")
