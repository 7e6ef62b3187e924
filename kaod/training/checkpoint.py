"""Checkpoints to resume a training from: the last few, each whole, and none of another run.

A training's folder has step-0000100.pt and so on.
"""

import hashlib
import io
import json
import pickle
from dataclasses import asdict, replace
from pathlib import Path

import torch

from .. import ROOT, params
from ..data import files

CODE = ("files", "params", "geometry", "datasets", "distributed", "losses", "model", "augment", "checkpoint",
        "train")  # what a trained model depends on


def fingerprint(profile: params.Profile, variant: params.Variant, k: int) -> str:
    """A hash of all that a run depends on: settings, data and code. A checkpoint of another run is not resumed.

    The number of processes is not in it: a run goes on with more or fewer of them, to rounding. Nor are the workers
    that read photos, and how often and how many checkpoints are kept.
    """
    settings = replace(profile.train, workers=0, save_every=1, keep=1)
    used = {"model": asdict(profile.model), "keypoints": asdict(profile.keypoints), "train": asdict(settings),
            "torch": torch.__version__, "variant": asdict(variant), "k": k,
            "data": files.read_json(profile.folder / "manifest.json"),
            "code": [files.digest(ROOT / "kaod" / f"{name}.py") for name in CODE]}
    return hashlib.md5(json.dumps(used, sort_keys=True).encode()).hexdigest()


def steps(folder: Path) -> list[Path]:
    """The checkpoints of a folder, newest first."""
    return sorted(folder.glob("step-*.pt"), reverse=True)


def save(folder: Path, print_of_run: str, step: int, state: dict, keep: int) -> None:
    """Writes one checkpoint, then removes all but the last `keep`.

    Raises OSError where the disk is full; the checkpoints that are there stay whole.
    """
    buffer = io.BytesIO()
    torch.save({"fingerprint": print_of_run, "step": step, **state}, buffer)
    path = folder / f"step-{step:07}.pt"
    try:
        files.write_bytes(path, buffer.getvalue())
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}: {path} is not written; a training that is started again goes "
                      "on from the checkpoint before it") from None
    for path in steps(folder)[keep:]:
        path.unlink()


def resume(folder: Path, print_of_run: str) -> dict | None:
    """The newest checkpoint that can be read, or None. Says which, and what it moves aside: a broken file, or
    the whole folder where its run had other settings, data or code."""
    for path in steps(folder):
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            same = saved["fingerprint"] == print_of_run
        except (RuntimeError, KeyError, EOFError, pickle.UnpicklingError) as error:
            print(f"{path} is broken ({' '.join(str(error).split())[:100]}): moved aside", flush=True)
            path.replace(path.with_suffix(".broken"))
            continue
        if same:
            print(f"going on from step {saved['step']} ({path})", flush=True)
            return saved
        number = 1
        while (aside := folder.with_name(f"{folder.name}.old-{number}")).exists():
            number += 1  # none is overwritten: its settings may come back
        print(f"{path} is of a run with other settings, data or code: {folder} is moved aside to {aside.name}, "
              "starting over", flush=True)
        folder.replace(aside)
        return None
    return None


def clear(folder: Path) -> None:
    """Removes the checkpoints of a run that has ended well."""
    for path in steps(folder):
        path.unlink()
