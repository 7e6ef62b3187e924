"""The grid of experiments/: models with several seeds, and the table that compares them.

`python -m experiments.grid train MODEL SEED` trains one → runs/<profile>/grid/MODEL-SEED/. Where it was interrupted it goes on
from its checkpoint in scratch/.
`python -m experiments.grid evaluate MODEL SEED` → results/<profile>/grid/MODEL-SEED.json.
`python -m experiments.grid table` → results/<profile>/grid.json, and long.json of the models whose names end in -long: over
the seeds, each model's mean figures, and its differences to FCOS, to FCOS on turned copies and to KAOD without keypoint
loss, with 95 % intervals.
"""

import argparse
import math
import platform
import shlex
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
import yaml
from scipy import stats

from kaod import ROOT, model, params, train
from kaod.data import datasets, files
from kaod.data.kinds import KINDS
from kaod.evaluation import compare, evaluate, metrics
from kaod.training import checkpoint

TABLES = {"grid": "", "long": "-long"}  # and how their models' names end
REFERENCES = ("fcos", "no-kpl", "fcos-corners", "fcos-ellipse")


def load() -> tuple[params.Profile, dict[str, params.Variant]]:
    """The selected profile, and the models of experiments/grid.yaml."""
    path = ROOT / "experiments" / "grid.yaml"
    profile, _ = params.load()
    try:
        content = yaml.safe_load(path.read_text())
        return profile, params.variants(content["models"], profile, f"{path}: models")
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected YAML with the key models ({error})") from None


def of_table(models, table: str) -> list[str]:
    """Those of the models' names that belong in a table."""
    return [name for name in models if name.endswith(TABLES["long"]) == (table == "long")]


def hardware(device: str) -> str:
    """What a run ran on, in words."""
    if device != "cpu":
        return torch.cuda.get_device_name(device)
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{torch.get_num_threads()} threads of {names[0] if names else platform.processor()}"


def train_cell(profile: params.Profile, name: str, variant: params.Variant, seed: int, device: str) -> None:
    """Trains one model with one seed; writes its weights, and beside them in run.json how they were made."""
    applied = params.apply(profile, variant)
    applied = replace(applied, train=replace(applied.train, seed=seed))
    dataset = datasets.load(applied, applied.train_sets)
    scratch = ROOT / "scratch" / profile.name / "grid" / f"{name}-{seed}"
    k = train.keypoint_count(applied)
    test = evaluate.test_set(profile, "st")
    on_the_way, aside = scratch / "learning.json", 0.0  # a file, so that a run that is resumed knows its beginning

    def learning():
        return files.read_json(on_the_way) if on_the_way.exists() else {}

    def measure(step, detector):
        """AP50 after so many steps. Each step has random numbers of its own, so nothing is changed by it."""
        nonlocal aside
        started = time.monotonic()
        found = evaluate.detect(detector.eval(), test.samples, profile.evaluate.batch, device)
        detector.train()
        ap50 = metrics.ap50(test, found, profile.layout, profile.evaluate.detections)
        files.write_json(on_the_way, learning() | {str(step): ap50})
        aside += time.monotonic() - started

    resumed, began = bool(checkpoint.steps(scratch)), time.monotonic()
    detector, log = train.train(applied, variant, dataset.samples, dataset.classes, k, scratch, device, measure)
    seconds = time.monotonic() - began - aside
    last = log[-len(log) // 10:]
    target = profile.runs / "grid" / f"{name}-{seed}"
    files.write_bytes(target / "model.pt", model.to_bytes(detector, applied, variant, dataset, k))
    files.write_json(target / "run.json", {
        "model": name, "seed": seed, "variant": asdict(variant), "steps": applied.train.steps,
        "command": shlex.join(["python", "-m", "experiments.grid", "train", name, str(seed)]), "hardware": hardware(device),
        "commit": compare.commit(),
        "seconds_per_step": None if resumed else seconds / applied.train.steps,
        "learning": learning(),
        "losses": {key: float(np.mean([row[key] for row in last])) for key in last[-1] if key not in ("step", "lr")}})
    checkpoint.clear(scratch)
    on_the_way.unlink(missing_ok=True)


def evaluate_cell(profile: params.Profile, name: str, seed: int, device: str) -> dict:
    """How a trained cell was made, and its metrics."""
    folder = profile.runs / "grid" / f"{name}-{seed}"
    detector, _, _ = model.load(folder / "model.pt", device, profile.evaluate)
    with tempfile.TemporaryDirectory() as detections:
        return files.read_json(folder / "run.json") | {
            "metrics": evaluate.evaluate_all(profile, f"{name}, seed {seed}", detector, Path(detections), device)}


def figures(found: dict) -> dict[str, float]:
    """The figures of one cell that the table shows."""
    metrics = found["metrics"]
    row = {f"AP50-{kind}": metrics[kind]["AP50"] for kind in ("st", *KINDS)}
    row |= {f"AP50-turn{angle}": each["AP50"] for angle, each in metrics.get("sweep", {}).items()}
    shape = metrics["st"]["shape"] or {}
    row |= {key: value for key, value in shape.items() if key != "objects"}
    row |= {f"mask-AP50-{kind}": each["AP50"] for kind, each in (metrics["st"].get("masks") or {}).items()}
    row |= {key: metrics["st"][key] for key in ("spread", "overhang") if metrics["st"].get(key) is not None}
    row |= {f"repeatability{angle}": value for angle, value in (metrics["st"]["repeatability"] or {}).items()}
    row |= {f"AP50-after{step}": value for step, value in found.get("learning", {}).items()}
    if found["seconds_per_step"] is not None:
        row["seconds_per_step"] = found["seconds_per_step"]
    return row


def interval(values: list[float]) -> dict[str, float]:
    """Mean, and the half width of its 95 % interval by Student's t; none for a single value."""
    if len(values) < 2:
        return {"mean": values[0], "half": None}
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    return {"mean": float(np.mean(values)), "half": float(half)}


def table(cells: list[dict], end: str = "") -> dict[str, dict]:
    """{model: {"seeds", "by_seed": {name: values}, "figures": {name: interval}, "against": {reference: figures}}}.

    Differences are taken seed by seed: two models with one seed saw the same photos in the same order, unless the
    batch differs. end: that of the models' names, the references' too.
    """
    rows: dict[str, dict[int, dict]] = {}
    for found in cells:
        rows.setdefault(found["model"], {})[found["seed"]] = figures(found)
    result = {}
    for name, seeds in rows.items():
        common = set.intersection(*(set(row) for row in seeds.values()))
        values = {key: [seeds[seed][key] for seed in sorted(seeds)] for key in sorted(common)}
        entry = result[name] = {"seeds": sorted(seeds), "by_seed": values, "against": {},
                                "figures": {key: interval(each) for key, each in values.items()}}
        for reference in (f"{each}{end}" for each in REFERENCES):
            both = sorted(set(seeds) & set(rows.get(reference, {})))
            if reference == name or not both:
                continue
            shared = common & set.intersection(*(set(row) for row in rows[reference].values()))
            entry["against"][reference] = {key: interval([seeds[seed][key] - rows[reference][seed][key]
                                                          for seed in both]) for key in sorted(shared)}
    return result


def main() -> None:
    profile, models = load()
    parser = argparse.ArgumentParser(prog="python -m experiments.grid", description="The grid of experiments/.")
    parser.add_argument("action", choices=("train", "evaluate", "table"))
    parser.add_argument("model", nargs="?", choices=models)
    parser.add_argument("seed", nargs="?", type=int)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()
    folder = profile.results / "grid"
    if given.action == "table":
        cells = [files.read_json(path) for path in sorted(folder.glob("*.json"))]
        for name, end in TABLES.items():
            order = of_table(models, name)
            chosen = sorted((each for each in cells if each["model"] in order),
                            key=lambda each: order.index(each["model"]))
            files.write_json(profile.results / f"{name}.json", table(chosen, end))
    elif given.seed is None:
        parser.error("expected a model and a seed")
    elif given.action == "train":
        train_cell(profile, given.model, models[given.model], given.seed, given.device)
    else:
        files.write_json(folder / f"{given.model}-{given.seed}.json",
                         evaluate_cell(profile, given.model, given.seed, given.device))


if __name__ == "__main__":
    try:
        main()
    except (ValueError, RuntimeError) as error:
        sys.exit(f"experiments.grid: {error}")
