"""Weights in files: a trained detector, and the checkpoints that a training resumes from.

A training's folder has step-0000100.pt and so on: the last few, each whole, and none of another run.
"""

import hashlib
import io
import json
from dataclasses import asdict, replace
from pathlib import Path

import torch

from .. import ROOT, model, params
from ..data import files
from ..data.datasets import DataSet
from . import processes

KEPT = 2  # checkpoints of a training: should the newest be broken, there is another
CODE = ("params.py", "geometry.py", "losses.py", "model.py", "train.py", "data", "training")
"""What a trained model depends on."""


def to_bytes(detector, profile: params.Profile, dataset: DataSet, k: int, half: bool = False) -> bytes:
    """The weights, and all that is needed to build the detector again, as a file's content. half: 16 bits a weight."""
    weights = {key: value.half() if half else value for key, value in detector.state_dict().items()}
    buffer = io.BytesIO()
    torch.save({"weights": weights, "classes": dataset.classes, "category_ids": dataset.category_ids, "k": k,
                "model": asdict(profile.model), "keypoints": asdict(profile.keypoints)}, buffer)
    return buffer.getvalue()


def read(path, device="cpu") -> dict:
    """A checkpoint's content. Raises ValueError, in words of our own, for what is none: torch advises to load it with
    `weights_only=False`, which would run whatever code is in the file."""
    try:
        saved = torch.load(path, map_location=device, weights_only=True)
    except OSError:
        raise
    except Exception:  # anything may come of a file that is broken or none of torch's
        raise ValueError("a broken file, or none that holds weights alone") from None
    if not isinstance(saved, dict):
        raise ValueError(f"it holds a {type(saved).__name__}")
    return saved


def load(path, device="cpu", detection: params.Evaluate = model.DETECTION):
    """A trained detector, ready to predict, its classes' names, and their ids in the data set's files.

    Raises ValueError that names the file.
    """
    try:
        saved = read(path, device)
        detector = model.build(params.Model(**saved["model"]), params.Keypoints(**saved["keypoints"]),
                               len(saved["classes"]), saved["k"], detection, fetch=False)
        detector.load_state_dict(saved["weights"])
        names = saved["classes"], saved["category_ids"]
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; `dvc repro` trains the pipeline's models") from None
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        said = f"it lacks {error}" if isinstance(error, KeyError) else str(error).split("\n")[0]
        raise ValueError(f"{path}: not a checkpoint of this version of kaod ({said})") from None
    return detector.to(device).eval(), *names


def fingerprint(profile: params.Profile, k: int) -> str:
    """A hash of all that a run depends on: settings, data and code. A checkpoint of another run is not resumed.

    The number of processes is not in it: a run goes on with more or fewer of them, to rounding. Nor are the workers
    that read photos, and how often checkpoints are saved.
    """
    settings = replace(profile.train, workers=0, save_every=1)
    sources = [path for name in CODE for path in sorted((ROOT / "kaod").glob(name if name.endswith(".py") else
                                                                             f"{name}/*.py"))]
    used = {"model": asdict(profile.model), "keypoints": asdict(profile.keypoints), "train": asdict(settings),
            "torch": torch.__version__, "k": k, "data": files.read_json(profile.folder / "manifest.json"),
            "code": [files.digest(path) for path in sources]}
    return hashlib.md5(json.dumps(used, sort_keys=True).encode()).hexdigest()


class Run:
    """The checkpoints of one training. Rank 0 reads and writes them."""

    def __init__(self, folder: Path, fingerprint: str):
        self.folder, self.fingerprint = folder, fingerprint

    def steps(self) -> list[Path]:
        """The checkpoints, newest first."""
        return sorted(self.folder.glob("step-*.pt"), reverse=True)

    def resume(self, detector, optimizer) -> list[dict]:
        """Fills both from the newest checkpoint that can be read, and returns its log; empty if there is none.

        Says which, and what it moves aside: a broken file, or the whole folder where its run had other settings, data
        or code.
        """
        saved = processes.from_first(self._newest() if processes.rank() == 0 else None)
        if saved is None:
            return []
        detector.load_state_dict(saved["weights"])
        optimizer.load_state_dict(saved["optimizer"])
        return [dict(zip(saved["keys"], row)) | {"step": int(row[0])} for row in saved["log"].tolist()]

    def _newest(self) -> dict | None:
        for path in self.steps():
            try:
                saved = read(path)
                same = saved["fingerprint"] == self.fingerprint
            except (KeyError, ValueError):
                print(f"{path} is broken: moved aside", flush=True)
                path.replace(path.with_suffix(".broken"))
                continue
            if same:
                print(f"going on from step {saved['step']} ({path})", flush=True)
                return saved
            number = 1
            while (aside := self.folder.with_name(f"{self.folder.name}.old-{number}")).exists():
                number += 1  # none is overwritten: its settings may come back
            print(f"{path} is of a run with other settings, data or code: {self.folder} is moved aside to "
                  f"{aside.name}, starting over", flush=True)
            self.folder.replace(aside)
            return None
        return None

    def save(self, detector, optimizer, log: list[dict]) -> None:
        """Writes one checkpoint, then removes all but the last `KEPT`.

        Raises OSError where the disk is full; the checkpoints that are there stay whole.
        """
        if processes.rank():
            return
        step, buffer = log[-1]["step"], io.BytesIO()
        torch.save({"fingerprint": self.fingerprint, "step": step, "weights": detector.state_dict(),
                    "optimizer": optimizer.state_dict(), "keys": list(log[0]),  # the log: compact, and exact
                    "log": torch.tensor([list(row.values()) for row in log], dtype=torch.float64)}, buffer)
        path = self.folder / f"step-{step:07}.pt"
        try:
            files.write_bytes(path, buffer.getvalue())
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}: {path} is not written; a training that is started again "
                          "goes on from the checkpoint before it") from None
        for path in self.steps()[KEPT:]:
            path.unlink()

    def clear(self) -> None:
        """Removes the checkpoints of a run that has ended well."""
        for path in self.steps():
            path.unlink()
