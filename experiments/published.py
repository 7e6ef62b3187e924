"""The paper's Tables 1 (VOC) and 2 (COCO), place by place, beside our own figures.

data/paper.csv has the paper's: AP50 as VOC counts it in Table 1, COCO's AP in Table 2.
`python -m experiments.published train TABLE MODEL`, with MODEL one of `models`, trains one → runs/<profile>/grid/.
`python -m experiments.published evaluate TABLE MODEL` → results/<profile>/tableN/MODEL.json.
`python -m experiments.published table TABLE` → results/<profile>/tableN.md, with dashes where nothing was run yet.
`torchrun --nproc-per-node N -m experiments.published …` trains and evaluates with N GPUs.
"""

import argparse

import pandas as pd
import torch

from experiments import grid
from kaod import ROOT, command, params
from kaod.data import files
from kaod.figures.charts import markdown
from kaod.training import processes

PAPER = ROOT / "data" / "paper.csv"
TABLES = {1: "voc", 2: "coco"}  # the layout of their data
KINDS = ("st", "rt", "tr")
VIEWS = {"labels": "first", "kpl": True, "fill": "reflect", "chance": 1}  # of grid.yaml's `kaod-paper`


def models(table: int) -> dict[str, dict]:
    """{name: what it changes in the profile}, in the table's order. A name is FCOS, or KAOD's K, then kpl for the
    keypoint loss and hm for its Hungarian matching, and the backbone: kaod-16-kpl-hm-resnet50."""
    found = {}
    for model, backbone in paper(table).index:
        kind, *words = model.split("-")
        changes = {"vertices": {"k": 16}, "model": {"head": "fcos", "start": "zero"}}  # torchvision's own, without K
        if kind == "kaod":
            views = VIEWS | {"hm": "hm" in words} if "kpl" in words else {"labels": "first"}
            changes = {"vertices": {"k": int(words[0])}, "model": {}, "keypoints": views}
        changes["model"]["backbone"] = backbone
        changes["train"] = {"snapshots": 0}  # no AP on the way: all GPUs would wait for the first one
        found[f"{model}-{backbone}"] = changes
    return found


def paper(table: int) -> pd.DataFrame:
    """The paper's figures: a row a model and backbone, a column a test set."""
    found = pd.read_csv(PAPER).query("table == @table")
    return found.set_index(["model", "backbone"])[list(KINDS)]


def profile_of(table: int) -> params.Profile:
    """The selected profile. Raises ValueError where its data are not in the layout of the table's."""
    profile, _ = params.load()
    if profile.layout != TABLES[table]:
        raise ValueError(f"params.yaml: profile: Table {table} is on a profile with layout: {TABLES[table]}; got "
                         f"{profile.name}, with layout: {profile.layout}")
    return profile


def compared(table: int, profile: params.Profile) -> pd.DataFrame:
    """By model and backbone: the paper's figure, ours and the difference, on each test set; NaN where not run."""
    rows, figures = [], paper(table)
    for model, backbone in figures.index:
        path = profile.results / f"table{table}" / f"{model}-{backbone}.json"
        metrics = files.read_json(path)["metrics"] if path.exists() else {}
        ours = {kind: found["AP50"] if table == 1 else found["coco"]["AP"] for kind, found in metrics.items()
                if kind in KINDS}
        rows.append({kind: ours.get(kind) for kind in KINDS})
    ours = pd.DataFrame(rows, figures.index, dtype="float64")
    return pd.concat({"paper": figures, "ours": ours, "difference": ours - figures}, axis=1).swaplevel(axis=1)[
        [(kind, what) for kind in KINDS for what in ("paper", "ours", "difference")]]


def text(table: int, profile: params.Profile) -> str:
    """The table in Markdown, under a title that says what it is of."""
    found = compared(table, profile).reset_index()
    found.columns = [" ".join(filter(None, names)) for names in found.columns]
    figure = "AP50, as VOC counts it" if table == 1 else "COCO's AP"
    run = int(found["st ours"].notna().sum())
    return (f"# Table {table} of the paper, and ours\n\n{figure}. Ours: profile `{profile.name}`, seed "
            f"{profile.train.seed}; {run} of {len(found)} were run. A dash: not run yet.\n\n"
            f"{markdown(found.set_index('model'))}\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.published", description="The paper's tables.")
    parser.add_argument("action", choices=("train", "evaluate", "table"))
    parser.add_argument("table", type=int, choices=TABLES)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()
    profile, known = profile_of(given.table), models(given.table)
    if given.action == "table":
        files.write_bytes(profile.results / f"table{given.table}.md", text(given.table, profile).encode())
        return
    if given.model not in known:
        parser.error(f"expected one of {', '.join(known)}; got {given.model}")
    params.overrides(known, profile, f"Table {given.table}")
    device = processes.start(given.device)
    if given.action == "train":
        grid.train_run(profile, given.model, known[given.model], profile.train.seed, device)
        return
    found = grid.evaluate_run(profile, given.model, profile.train.seed, device)
    if found["metrics"]:
        files.write_json(profile.results / f"table{given.table}" / f"{given.model}.json", found)


if __name__ == "__main__":
    command(main, RuntimeError)
