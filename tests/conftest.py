"""Shared by the tests: small settings, and where the real photos are."""

import runpy
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch

from kaod import ROOT, model, params
from kaod.data import coco, shapes

# how long an example takes says nothing of the code: other work on the machine, the first call
hypothesis.settings.register_profile("kaod", deadline=None)
hypothesis.settings.load_profile("kaod")

SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared():
    """The folder of real photos that lies beside the repository."""
    if not SHARED.is_dir():
        pytest.skip("needs the real photos in ../shared/data, which are not here")
    return SHARED


def pytest_collection_modifyitems(items):
    """The longest file first: at the end of the others, one core would wait for it."""
    items.sort(key=lambda item: item.path.name != "test_pipeline.py")


@pytest.fixture(autouse=True)
def gpu(request):
    if request.node.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("needs a GPU")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    torch.set_num_threads(1)  # two tests run side by side


@pytest.fixture
def tiny():
    """The profile `tiny` and the models of params.yaml."""
    return params.load("tiny")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """An empty folder as the repository's root, with its params.yaml; for the stages' own main functions."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    for module in ("", ".params", ".train", ".training.checkpoints", ".data.download", ".figures.notebooks",
                   ".evaluation.compare"):
        __import__(f"kaod{module}")
        monkeypatch.setattr(f"kaod{module}.ROOT", tmp_path)
    return tmp_path


@pytest.fixture
def drawn(tmp_path, tiny):
    """Eight drawn photos as samples, and their classes."""
    profile = tiny[0]
    shapes.write(tmp_path / "drawn", replace(profile.draw, train=8, test=1), profile.train_sets + profile.test_sets)
    name = profile.train_sets[0]
    dataset = coco.load(tmp_path / "drawn" / name, coco.photo_folder(tmp_path / "drawn", name))
    return dataset.samples, dataset.classes


def built(profile, models, name: str, classes: int, k: int):
    """The untrained detector of one of params.yaml's models, and the profile with what that model changes."""
    profile = params.apply(profile, models[name])
    return model.build(profile.model, profile.keypoints, classes, k), profile


def as_command(monkeypatch, module: str, *arguments) -> str:
    """`python -m module arguments` in this process, which has torch at hand. "" after a success; else what it says when
    it ends with exit code 1, or the code, where that was all."""
    monkeypatch.setattr("sys.argv", [module, *map(str, arguments)])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*found in sys.modules")
        try:
            runpy.run_module(module, run_name="__main__")
        except SystemExit as stop:
            return str(stop.code)  # a text is what Python prints, to exit with 1
    return ""


def ring(center, radius: float, count: int = 16) -> np.ndarray:
    turn = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.asarray(center) + radius * np.stack((np.cos(turn), np.sin(turn)), 1)


def found(boxes, labels, scores) -> dict[str, np.ndarray]:
    """Detections as evaluate.detect returns them."""
    return {"boxes": np.array(boxes, np.float32).reshape(-1, 4), "labels": np.array(labels, np.int64),
            "scores": np.array(scores, np.float32)}


def sample(boxes, labels, ignore=None, size=(100, 100), polygons=None, path="photo.jpg"):
    from kaod.data.datasets import Sample

    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Sample(Path(path), size, boxes, np.array(labels, np.int64),
                  np.zeros(len(boxes), bool) if ignore is None else np.array(ignore, bool),
                  polygons or [[] for _ in boxes])
