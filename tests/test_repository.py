"""What the repository promises: one environment, a pipeline without gaps, a README that tells the truth."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from test_pipeline import Clone

from kaod import ROOT, params
from kaod.data import files
from kaod.figures import plots

README = (ROOT / "README.md").read_text()


def run(*command, cwd):
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_conda_and_make_install_the_same_versions():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["dependencies"][-1] == {"pip": ["--constraint constraints.txt", "--editable .[test]"]}
    assert "--constraint constraints.txt --editable '.[test]'" in (ROOT / "Makefile").read_text()


def test_the_constraints_are_exact_cover_all_and_are_installed():
    from importlib.metadata import PackageNotFoundError, version

    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if line)
    names = {re.sub(r"[-_.]+", "-", name).lower() for name in pins}
    wanted = re.findall(r'^    "([\w-]+)', (ROOT / "pyproject.toml").read_text(), re.M)
    assert len(wanted) > 10 and not {name.lower() for name in wanted} - names
    wrong = {}
    for name, pinned in pins.items():
        try:
            if version(name).split("+")[0] != pinned.split("+")[0]:
                wrong[name] = version(name)
        except PackageNotFoundError:
            pass  # of another platform
    if Path(sys.prefix) == ROOT / ".venv":  # else somebody's own environment, with versions of their own
        assert not wrong


def test_the_lock_is_that_of_the_pipeline(tmp_path):
    """`dvc repro` on a clean clone has nothing to do but to make what is missing."""
    said = Clone(tmp_path)("dvc", "repro", "--dry", "--allow-missing")
    assert "Running stage" not in said and "didn't change" in said


def test_the_results_table_is_the_metrics():
    models = params.load("shapes")[1]
    metrics = {name: files.read_json(ROOT / "results" / "shapes" / "metrics" / f"{name}.json") for name in models}
    assert plots.results_table(metrics) in README
    assert all(each["st"]["AP50"] >= 0.5 for each in metrics.values())


def test_the_grids_table_is_its_metrics():
    grid = files.read_json(ROOT / "results" / "shapes" / "grid.json")
    columns = {f"AP50-{kind}": f"-{kind}" for kind in ("st", "rt", "cr", "tr")} | {
        "hull": "hull's IoU", "spread": "spread", "repeatability30": "repeatability, 30°",
        "seconds_per_step": "seconds a step"}
    assert plots.grid_table(grid, columns) in README


def test_the_table_of_longer_trainings_is_their_metrics():
    long = files.read_json(ROOT / "results" / "shapes" / "long.json")
    columns = {f"AP50-{kind}": f"-{kind}" for kind in ("st", "rt", "cr", "tr")} | {
        "AP50-turn-30": "turned by −30°", "AP50-turn30": "by 30°", "hull": "hull's IoU",
        "rectangle": "rotated box's IoU", "spread": "spread"}
    assert plots.grid_table(long, columns) in README


def test_the_table_of_other_detectors_is_their_metrics():
    metrics = {path.stem: files.read_json(path) for path in (ROOT / "results" / "shapes" / "detectors").glob("*.json")}
    assert set(metrics) == {"retinanet", "faster-rcnn"}
    assert plots.results_table({name: metrics[name] for name in ("retinanet", "faster-rcnn")}) in README


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#:]+)\)", README))
def test_the_readmes_links_lead_somewhere(link):
    assert (ROOT / link).exists()


def test_the_map_of_the_repository_is_complete():
    tracked = run("git", "ls-files", cwd=ROOT).stdout.split()
    for path in {each.split("/")[0] for each in tracked} | {each for each in tracked if each.startswith("kaod/")}:
        name = path.rsplit("/", 1)[-1]
        if not name.startswith(".") and name not in ("__init__.py", "LICENSE"):
            assert name in README, f"{path} is not in the README's map"


def test_the_code_is_clean():
    answer = run(sys.executable, "-m", "ruff", "check", "--no-cache", ".", cwd=ROOT)
    assert answer.returncode == 0, answer.stdout
