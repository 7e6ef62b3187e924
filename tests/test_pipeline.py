"""The pipeline as a user runs it, in a temporary clone: by `dvc repro`, on drawn shapes and on real photos."""

import os
import re
import shlex
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kaod import ROOT, params, train
from kaod.data import datasets, files, kinds, shapes, voc
from kaod.evaluation import ap, evaluate
from kaod.figures import notebooks


class Clone:
    """A clone of the working tree (what Git tracks or would track), committed."""

    def __init__(self, folder: Path):
        self.folder = folder
        listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], cwd=ROOT,
                                check=True, capture_output=True, text=True).stdout.split("\0")
        for name in filter(None, listed):
            if (ROOT / name).is_file():
                files.write_bytes(folder / name, (ROOT / name).read_bytes())
        self("git", "init", "--quiet")
        self.commit()

    def commit(self):
        self("git", "add", "--all")
        self("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "--message", "clone")

    def __call__(self, *command, fails: bool = False) -> str:
        """The command's output; fails the test, showing it, where the command fails (or does not, as it should)."""
        environment = {**{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
                       "PYTHONPATH": str(self.folder),
                       "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        answer = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)
        said = f"{answer.stdout[-20000:]}\n{answer.stderr[-20000:]}"
        assert (answer.returncode != 0) == fails, f"{command}\n{said}"
        return said

    def select(self, profile: str):
        path = self.folder / "params.yaml"
        path.write_text(re.sub(r"(?m)^profile: \w+", f"profile: {profile}", path.read_text()))


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    return Clone(tmp_path_factory.mktemp("clone"))


def check_results(folder: Path, profile: str):
    for model in ("fcos", "no-kpl", "kaod"):
        found = files.read_json(folder / "results" / profile / "metrics" / f"{model}.json")
        sweep = found.pop("sweep")
        assert found.keys() - {"rt-ellipse"} == {"st", *kinds.KINDS} and len(sweep) == len(kinds.ANGLES)
        assert all(0 <= each["AP50"] <= 1 and each["objects"] > 0 for each in found.values())
    for name in ("idea.png", "ap50.png", "what-it-sees.png"):
        with Image.open(folder / "results" / profile / name) as picture:
            assert min(picture.size) > 200 and np.asarray(picture.convert("L")).std() > 5
    for path in (folder / "notebooks").glob("*.ipynb"):
        executed = notebooks.read(folder / "runs" / profile / "notebooks" / path.name)
        assert all(cell.execution_count for cell in executed.cells if cell.cell_type == "code")
        assert (folder / "runs" / profile / "report" / f"{path.stem}.html").stat().st_size > 5000
    assert "What is the idea?" in (folder / "runs" / profile / "report" / "index.html").read_text()


OUTPUTS = "[cell.update(outputs=[]) for cell in notebook.cells if cell.cell_type == 'code']"


def save(clone: Clone, name: str, edit: str):
    """Opens a notebook, edits it, and saves it, as a Jupyter server in the clone's notebooks/ does it."""
    clone("python", "-c", textwrap.dedent(f"""
        from jupyter_server.services.contents.largefilemanager import LargeFileManager
        from jupytext.sync_contentsmanager import build_sync_jupytext_contents_manager_class
        manager = build_sync_jupytext_contents_manager_class(LargeFileManager)(root_dir="notebooks")
        model = manager.get("{name}")
        notebook = model["content"]
        {edit}
        manager.save(model, "{name}")
    """))


def test_the_tiny_pipeline_from_data_to_figures_and_its_notebooks(clone):
    """One profile, whole: run, nothing to do, a notebook's outputs edited, and all notebooks through nbval."""
    clone("git", "checkout", "--quiet", "--force", "HEAD")
    clone.select("tiny")
    clone("dvc", "repro")
    check_results(clone.folder, "tiny")
    assert "Data and pipelines are up to date." in clone("dvc", "repro")

    # outputs edited, in JupyterLab as its server saves them, and by an editor that knows the .ipynb alone
    before = clone("git", "status", "--short")
    save(clone, "02-results.ipynb", OUTPUTS)
    assert clone("git", "status", "--short") != before
    assert "Data and pipelines are up to date." in clone("dvc", "status", "dvc.yaml")
    notebook = clone.folder / "notebooks" / "03-what-it-sees.ipynb"
    edited = notebooks.normalise(notebooks.read(notebook), outputs=False)
    notebook.write_bytes(notebooks.to_bytes(edited))
    clone("jupytext", "--sync", str(notebook))
    assert "Data and pipelines are up to date." in clone("dvc", "status", "dvc.yaml")

    executed = sorted((clone.folder / "runs/tiny/notebooks").glob("*.ipynb"))
    before = [files.digest(path) for path in executed]
    stages = re.findall(r"(?m)^  (figures-\w+):", (ROOT / "dvc.yaml").read_text())
    said = clone("dvc", "repro", "--force", "--single-item", *stages)
    assert said.count("Running stage 'figures-") == len(stages) == len(executed) == 9
    assert [files.digest(path) for path in executed] == before  # run again, the same bytes

    save(clone, "02-results.ipynb", "notebook.cells[0].source += '\\n\\nMore words.'")
    assert re.findall(r"Running stage '(.+)'", clone("dvc", "repro")) == ["figures-results", "report", "compare"]
    edited.cells[-1].source += "\n1 + 1"
    notebook.write_bytes(notebooks.to_bytes(edited))
    clone("jupytext", "--sync", str(notebook))
    assert re.findall(r"Running stage '(.+)'", clone("dvc", "repro")) == ["figures-photos", "report", "compare"]

    # another detector's results: here our own, under another name
    readme = (ROOT / "README.md").read_text()
    (command,) = re.findall(r"(?m)^    (python -m kaod\.evaluate .* --results .*)$", readme)
    clone(*shlex.split(command.replace("my-detector-results", "runs/tiny/kaod/detections")))
    ours = files.read_json(clone.folder / "results/tiny/metrics/kaod.json")
    del ours["st"]["repeatability"]
    assert files.read_json(clone.folder / "results/tiny/detectors/my-detector.json") == ours
    assert "expected one or more of st.json" in clone(*shlex.split(command), fails=True)

    commands = re.findall(r"(?m)^    ((?:papermill|pytest) .*)$", readme)
    assert [command.split()[0] for command in commands] == ["papermill", "papermill", "papermill", "pytest"]
    for command in commands:
        said = clone(*shlex.split(command.replace("profile shapes", "profile tiny")))
    assert re.search(r"\d+ passed", said) and "failed" not in said
    injected = notebooks.read(clone.folder / "runs/idea.ipynb").cells[2]
    assert injected.metadata.tags == ["injected-parameters"] and "shift = [30, 0]" in injected.source

    (command,) = re.findall(r"(?m)^    (python -m kaod\.predict .*)$", readme)
    clone(*shlex.split(command.replace("shapes/kaod", "tiny/kaod").replace("datasets/shapes", "datasets/tiny")))
    assert len(list((clone.folder / "predictions").glob("*.png"))) == 10
    (command,) = re.findall(r"(?m)^    (python -m kaod\.export .*)$", readme)
    clone(*shlex.split(command.replace("shapes/kaod", "tiny/kaod")))
    script = re.search(r"(?m)^    import kaod\n(?:    .*\n)+", readme)[0].replace("    ", "")
    clone("python", "-c", script.replace("shapes/kaod", "tiny/kaod").replace("datasets/shapes", "datasets/tiny")
          + "assert len(found['boxes']) == len(found['masks'])")


def test_two_cells_of_the_grid_their_table_and_its_notebook(clone):
    clone("git", "checkout", "--quiet", "--force", "HEAD")
    clone.select("tiny")
    clone("dvc", "repro", *(f"experiments/dvc.yaml:evaluate@{name}-0" for name in ("fcos", "paper")))
    clone("dvc", "repro", "--single-item", "experiments/dvc.yaml:table")
    found = files.read_json(clone.folder / "results" / "tiny" / "grid.json")
    assert found.keys() == {"fcos", "paper"} and "AP50-rt" in found["paper"]["against"]["fcos"]
    cell = files.read_json(clone.folder / "results" / "tiny" / "grid" / "paper-0.json")
    assert cell["command"] == "python -m experiments.grid train paper 0" and cell["steps"] == 6
    assert cell["hardware"] and cell["commit"] != "none" and cell["seconds_per_step"] > 0
    for name in ("04-does-it-help", "08-what-do-we-find"):  # most cells are missing
        clone("papermill", f"notebooks/{name}.ipynb", "runs/grid.ipynb", "-p", "profile", "tiny", "--cwd", "notebooks")


def test_dvc_sees_when_a_users_annotations_change(clone, tmp_path):
    own = tmp_path / "own"
    profile = params.load("tiny")[0]
    shapes.write(own, replace(profile.draw, train=20, test=5), profile.train_sets + profile.test_sets)
    clone("git", "checkout", "--quiet", "--force", "HEAD")
    clone.select("tiny")
    path = clone.folder / "params.yaml"
    before, tiny, after = re.split(r"(?m)^(tiny:)", path.read_text())
    path.write_text(before + tiny + after.replace("root: null", f"root: {own}", 1))
    clone("dvc", "repro", "download")
    assert "up to date" in clone("dvc", "status", "download")
    annotation = next((own / "shapes" / "Annotations").iterdir())
    annotation.write_text(annotation.read_text().replace("<difficult>0", "<difficult>1"))
    assert "Running stage 'download'" in clone("dvc", "repro", "download")
    path.write_text(before + tiny + after.replace("root: null", "root: nowhere", 1))
    wrong = clone("dvc", "repro", "download", fails=True)
    assert "tiny.root: no such folder" in wrong


def readme_commands() -> list[str]:
    """The README's `dvc exp run` commands, as they stand."""
    text = (ROOT / "README.md").read_text().replace("\\\n", " ")
    return re.findall(r"(?m)^    (dvc exp run .*)$", text)


@pytest.mark.slow
@pytest.mark.parametrize("number, folder, expected", [(0, "coco", 16), (1, "VOCdevkit", 16), (2, "nuclei", 24)])
def test_real_photos_from_their_own_folder_to_the_last_figure(clone, shared, number, folder, expected):
    command = readme_commands()[number]
    assert len(readme_commands()) == 3
    profile = re.search(r"profile=(\w+)", command)[1]
    before = {path: path.stat().st_mtime_ns for path in (shared / folder).rglob("*")}
    clone("git", "checkout", "--quiet", "--force", "HEAD")
    if folder == "nuclei":  # the section that the README has users write
        section = re.search(r"(?m)^    nuclei:\n(?:      .+\n)+", (ROOT / "README.md").read_text())[0]
        with open(clone.folder / "params.yaml", "a") as file:
            file.write("\n" + textwrap.dedent(section).replace("~/data", str(shared)))
        clone.commit()
    clone(*shlex.split(command.replace("~/data", str(shared))))
    check_results(clone.folder, profile)
    assert {path: path.stat().st_mtime_ns for path in (shared / folder).rglob("*")} == before
    k = files.read_json(clone.folder / "runs" / profile / "k.json")
    assert k["k"] == expected and k["objects"] > 300
    metrics = files.read_json(clone.folder / "results" / profile / "metrics" / "kaod.json")
    assert metrics["rt"]["truth"] == ("corners" if folder == "VOCdevkit" else "outlines")
    assert ("rt-ellipse" in metrics) == (folder == "VOCdevkit")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["fcos", "kaod"])
def test_eight_real_photos_are_learned_by_heart(shared, model):
    """Data, targets, losses and metrics are right together: AP50 ≥ .9 on the photos trained on."""
    profile, models = params.load("voc")
    samples = voc.read(shared / "VOCdevkit", "VOC2007/trainval", classes := voc.classes(
        shared / "VOCdevkit", ["VOC2007/trainval"]))
    chosen = [each for each in samples if 1 <= len(each.labels) <= 3 and not each.ignore.any() and
              (each.boxes[:, 2:] - each.boxes[:, :2]).min() > 60][:8]
    assert len(chosen) == 8
    settings = replace(profile.model, backbone="resnet18", weights="none", fpn_channels=128, head_convs=2,
                       min_size=128, max_size=192, anchor_scale=0.5)
    for steps in (80, 160, 320):  # a longer schedule where a shorter one did not do
        run = replace(profile, model=settings, train=replace(
            profile.train, steps=steps, batch=8, optimizer="adamw", lr=1e-3, warmup=20, workers=0, flip=0.0))
        detector, _ = train.train(run, models[model], chosen, classes, 16)
        detections = evaluate.detect(detector.eval(), chosen, 8)
        reached = ap.voc_metrics(datasets.DataSet(classes, [], chosen), detections)["AP50"]
        print(f"{model}: AP50 {reached:.3f} after {steps} steps")
        if reached >= 0.9:
            return
    raise AssertionError(f"AP50 {reached:.3f}")
