"""Imports point one way: what lies below knows nothing of what lies above, and only figures draws.

The order, from the bottom. Modules of one layer may import each other where no cycle comes of it. experiments/,
notebooks/, benchmarks/ and tests/ stand above all of them, so nothing in kaod/ imports those.
"""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from kaod import ROOT

LAYERS = [("params", "geometry"), ("data",), ("losses", "model"), ("training", "train"), ("evaluation",),
          ("figures", "predict", "relabel", "export")]
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
ABOVE = ("experiments", "notebooks", "benchmarks", "tests")
UNKNOWN_TO_THE_MODEL = ("data", "training")


def imported(path: Path, name: str, known: set[str]) -> set[str]:
    """The modules, by their full names, that the module `name` imports anywhere in its file, in functions too.

    known: the package's modules. `from .data import files` is the module kaod.data.files where that is known, and
    kaod.data where it is not.
    """
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[:len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *filter(None, [node.module])])
            found |= {full if (full := f"{base}.{each.name}") in known else base for each in node.names}
    return found


def faults(folder: Path) -> list[str]:
    """What is wrong with the imports of the package in `folder`, a line each. Its own __init__.py is left aside."""
    paths = {".".join((folder.name, *path.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__"): path
             for path in sorted(folder.rglob("*.py")) if path != folder / "__init__.py"}
    wrong, graph = [], {}
    for name, path in paths.items():
        part = name.split(".")[1]
        if part not in LEVEL:
            wrong.append(f"{name} has no place among the layers")
            continue
        every = imported(path, name, set(paths))
        graph[name] = every & set(paths) - {name}
        for other in sorted(every):
            top, *rest = other.split(".")
            if top in ABOVE or top == folder.name and rest and LEVEL.get(rest[0], -1) > LEVEL[part]:
                wrong.append(f"{name} imports {other}, which stands above it")
            if part == "model" and top == folder.name and rest and rest[0] in UNKNOWN_TO_THE_MODEL:
                wrong.append(f"{name} imports {other}; it is to know neither data nor training")
            if top == "matplotlib" and part != "figures":
                wrong.append(f"{name} imports {other}; only figures draws")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        wrong.append(f"a cycle: {' ← '.join(error.args[1])}")
    return wrong


GOOD = {
    "__init__.py": "def load(path):\n    from .predict import Predictor\n    return Predictor(path)",
    "params.py": "import yaml\nfrom . import ROOT",
    "geometry.py": "import torch",
    "losses.py": "from .geometry import inverse\nfrom .params import Keypoints",
    "model.py": "from . import losses, params",
    "train.py": "from . import model\nfrom .data import datasets\nfrom .training import progress",
    "predict.py": "import kaod.figures.photos\nfrom .training import checkpoints",
    "export.py": "from .training.checkpoints import load",
    "data/__init__.py": "",
    "data/files.py": "import json",
    "data/datasets.py": "from . import files\nfrom .. import geometry\nfrom ..params import Profile",
    "training/checkpoints.py": "from kaod import ROOT, model\nfrom ..data.files import digest",
    "training/progress.py": "",
    "evaluation/evaluate.py": "from ..training import checkpoints\nfrom ..data import datasets",
    "figures/photos.py": "import matplotlib.pyplot as plt\nfrom ..evaluation import evaluate",
    "figures/sliders.py": "from .. import predict\nfrom . import photos",
}


def tree(folder: Path, changes: dict[str, str]) -> Path:
    """GOOD with some lines more, as a package on disk."""
    for name, text in (GOOD | {name: f"{GOOD.get(name, '')}\n{text}" for name, text in changes.items()}).items():
        path = folder / "kaod" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "kaod"


def test_imports_point_one_way():
    assert faults(ROOT / "kaod") == []


def test_a_tree_in_order_has_no_faults(tmp_path):
    assert faults(tree(tmp_path, {})) == []


@pytest.mark.parametrize("name, line, expected", [
    ("data/datasets.py", "from ..evaluation import evaluate", "imports kaod.evaluation.evaluate, which stands above"),
    ("data/datasets.py", "from kaod.figures import photos", "imports kaod.figures.photos, which stands above"),
    ("data/files.py", "import kaod.model as m", "imports kaod.model, which stands above"),
    ("data/files.py", "def write():\n    from ..model import build", "imports kaod.model, which stands above"),
    ("data/__init__.py", "from ..training import progress", "kaod.data imports kaod.training.progress, which stands"),
    ("params.py", "from .data import files", "imports kaod.data.files, which stands above"),
    ("geometry.py", "from . import losses", "imports kaod.losses, which stands above"),
    ("losses.py", "from . import train", "imports kaod.train, which stands above"),
    ("training/progress.py", "from ..evaluation.evaluate import detect", "imports kaod.evaluation.evaluate, which"),
    ("train.py", "from .evaluation import *", "imports kaod.evaluation, which stands above"),
    ("evaluation/evaluate.py", "from .. import predict", "imports kaod.predict, which stands above"),
    ("figures/photos.py", "from experiments import grid", "imports experiments, which stands above"),
    ("export.py", "import benchmarks.train_step", "imports benchmarks.train_step, which stands above"),
    ("model.py", "from .data import datasets", "imports kaod.data.datasets; it is to know neither data nor training"),
    ("model.py", "from .training import progress", "it is to know neither data nor training"),
    ("data/files.py", "import matplotlib.pyplot as plt", "only figures draws"),
    ("evaluation/evaluate.py", "from matplotlib import cm", "only figures draws"),
    ("predict.py", "from matplotlib.figure import Figure", "only figures draws"),
    ("data/files.py", "from . import datasets", "a cycle"),
    ("figures/photos.py", "def draw():\n    from .. import predict", "a cycle"),
    ("utils.py", "", "kaod.utils has no place among the layers"),
    ("helpers/tables.py", "", "kaod.helpers.tables has no place among the layers"),
])
def test_a_forbidden_import_is_found(tmp_path, name, line, expected):
    assert any(expected in fault for fault in faults(tree(tmp_path, {name: line})))
