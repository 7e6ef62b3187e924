"""The grid of experiments/: models with several seeds.

`python -m experiments.grid train MODEL SEED` trains one → runs/<profile>/grid/MODEL-SEED/. Where it was interrupted,
it goes on from its checkpoint in scratch/.
`python -m experiments.grid evaluate MODEL SEED` → results/<profile>/grid/MODEL-SEED.json.
`python -m experiments.grid table` → results/<profile>/grid.csv, the figures of all runs as one table (see `tables`).
Each on the selected profile, or with `--profile NAME` on another.
The pipeline's models are in it with the pipeline's seed: nothing is trained twice.
"""

import argparse
import platform
import shlex
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import yaml

from experiments import tables
from kaod import ROOT, command, model, params, train
from kaod.data import datasets, files
from kaod.evaluation import ap, compare, evaluate
from kaod.training import checkpoints, processes


def load(name: str | None = None) -> tuple[params.Profile, dict[str, dict]]:
    """The profile `name` (None: the selected one), and the models of experiments/grid.yaml: {name: what it changes}.

    Raises ValueError that names the file and the key.
    """
    path = ROOT / "experiments" / "grid.yaml"
    profile, _ = params.load(name)
    try:
        return profile, params.overrides(yaml.safe_load(path.read_text())["models"], profile, f"{path}: models")
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected YAML with the key models ({error})") from None


def hardware(device: str) -> str:
    """What a run ran on, in words."""
    if device != "cpu":
        return f"{processes.world()} × {torch.cuda.get_device_name(device)}"
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{torch.get_num_threads()} threads of {names[0] if names else platform.processor()}"


def train_run(profile: params.Profile, name: str, changes: dict, seed: int, device: str) -> None:
    """Trains one model with one seed, unless that is done; writes its weights, and beside them in run.json how they
    were made."""
    applied = params.apply(profile, changes)
    applied = replace(applied, train=replace(applied.train, seed=seed))
    dataset = datasets.load(applied, applied.train_sets)
    scratch, target = (ROOT / each / profile.name / "grid" / f"{name}-{seed}" for each in ("scratch", "runs"))
    k = train.keypoint_count(applied)
    test = evaluate.test_set(profile, "st")
    on_the_way, aside = scratch / "learning.json", 0.0  # a file, so that a run that is resumed knows its beginning

    def learning():
        return files.read_json(on_the_way) if on_the_way.exists() else {}

    def measure(step, detector):
        """AP, AP50, AP75 after so many steps. Each step has random numbers of its own, so nothing is changed by it."""
        nonlocal aside
        started = time.monotonic()
        found = evaluate.detect(detector.eval(), test.samples, profile.evaluate.batch, device)
        detector.train()
        limit = profile.evaluate.detections
        found = ap.headline(test, ap.strongest(found, limit), profile.evaluate.ap, limit)
        files.write_json(on_the_way, learning() | {str(step): {
            "AP": found["AP"], "AP50": found["AP50"], "AP75": found["coco"]["AP75"]}})
        aside += time.monotonic() - started

    torch.manual_seed(seed)
    detector = model.build(applied.model, applied.keypoints, len(dataset.classes), k).to(device)
    run = checkpoints.Run(scratch, checkpoints.fingerprint(applied, k))
    made = target / "run.json"  # the first process' disk may be no other's
    if processes.from_first(made.exists() and files.read_json(made).get("fingerprint") == run.fingerprint):
        print(f"{name}, seed {seed}: trained already, with these settings, data and code")
        return processes.end()
    resumed, began = bool(run.steps()), time.monotonic()
    log = train.train(detector, applied, train.taught(dataset.samples, applied.train), device, run, measure)
    seconds = time.monotonic() - began - aside
    last = log[-len(log) // 10:]
    if processes.rank():
        return processes.end()
    files.write_bytes(target / "model.pt", checkpoints.to_bytes(detector, applied, dataset, k))
    files.write_json(made, {
        "model": name, "seed": seed, "fingerprint": run.fingerprint, "overrides": changes, "steps": applied.train.steps,
        "command": shlex.join(["python", "-m", f"experiments.{Path(sys.argv[0]).stem}", *sys.argv[1:]]),
        "hardware": hardware(device), "commit": compare.commit(),
        "seconds_per_step": None if resumed else seconds / applied.train.steps,
        "learning": learning(),
        "losses": {key: float(np.mean([row[key] for row in last])) for key in last[-1] if key not in ("step", "lr")}})
    run.clear()
    on_the_way.unlink(missing_ok=True)
    processes.end()


def evaluate_run(profile: params.Profile, name: str, seed: int, device: str) -> dict:
    """How a trained model was made, and its metrics."""
    folder = profile.runs / "grid" / f"{name}-{seed}"
    detector, _, _ = checkpoints.load(folder / "model.pt", device, profile.evaluate)
    with tempfile.TemporaryDirectory() as detections:
        return files.read_json(folder / "run.json") | {
            "metrics": evaluate.evaluate_all(profile, f"{name}, seed {seed}", detector, Path(detections), device)}


def runs(profile: params.Profile) -> list[dict]:
    """All that was evaluated: the grid's files, and the pipeline's models as runs with its seed."""
    paths = {name: profile.results / "details" / f"{name}.json" for name in params.load()[1]}
    return [files.read_json(path) for path in (profile.results / "grid").glob("*.json")] + [
        {"model": name, "seed": profile.train.seed, "metrics": files.read_json(path)}
        for name, path in paths.items() if path.exists()]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.grid", description="The grid of experiments/.")
    parser.add_argument("action", choices=("train", "evaluate", "table"))
    parser.add_argument("model", nargs="?")
    parser.add_argument("seed", nargs="?", type=int)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--profile", help="of params.yaml; else the selected one")
    given = parser.parse_args()
    profile, models = load(given.profile)
    if given.action == "table":
        found = tables.frame(runs(profile), models)
        files.write_bytes(profile.results / "grid.csv", found.to_csv(index=False, lineterminator="\n").encode())
    elif given.model not in models or given.seed is None:
        parser.error(f"expected a model, one of {', '.join(models)}, and a seed")
    elif given.action == "train":
        train_run(profile, given.model, models[given.model], given.seed, given.device)
    else:
        files.write_json(profile.results / "grid" / f"{given.model}-{given.seed}.json",
                         evaluate_run(profile, given.model, given.seed, given.device))


if __name__ == "__main__":
    command(main, RuntimeError)
