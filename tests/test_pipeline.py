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
import pandas
import pytest
import readme
import torch
import yaml
from conftest import built, sample
from layouts import write_coco, write_voc
from PIL import Image

from kaod import ROOT, params, train
from kaod.data import coco, datasets, files, shapes, voc, warp
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
        self("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "--allow-empty",
             "--message", "clone")

    def __call__(self, *command, fails: bool = False) -> str:
        """The command's output; fails the test, showing it, where the command fails (or does not, as it should)."""
        environment = {**{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
                       "PYTHONPATH": str(self.folder),
                       "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        answer = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)
        assert (answer.returncode != 0) == fails, f"{command}\n{answer.stdout[-20000:]}\n{answer.stderr[-20000:]}"
        return f"{answer.stdout}\n{answer.stderr}"

    def select(self, profile: str):
        path = self.folder / "params.yaml"
        path.write_text(re.sub(r"(?m)^profile: \w+", f"profile: {profile}", path.read_text()))


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    return Clone(tmp_path_factory.mktemp("clone"))


SUMMARY = {"AP-st", "AP-rt", "AP-cr", "AP-tr", "AP50-st", "AP50-rt", "AP50-cr", "AP50-tr", "AP-oriented",
           "AP50-oriented", "AP-oriented-box", "AP50-oriented-box", "hull", "rectangle", "spread", "turn30"}


PICTURES = {"00-what-is-the-idea": "idea", "02-results": "ap", "03-what-it-sees": "what-it-sees"}


def check_results(folder: Path, profile: str, models=(), some=()):
    """Of these models, or all; of some notebooks, or of all and the report."""
    for model in models or params.load(profile)[1]:
        found = files.read_json(folder / "results" / profile / "details" / f"{model}.json")
        sweep = found.pop("sweep")
        assert found.keys() - {"rt-ellipse"} == {"st", *warp.KINDS} and len(sweep) == len(warp.ANGLES)
        assert all(0 <= each["AP50"] <= 1 and each["objects"] > 0 for each in found.values())
        summary = files.read_json(folder / "results" / profile / "metrics" / f"{model}.json")
        assert summary.keys() == SUMMARY and summary["AP50-rt"] == found["rt"]["AP50"]
    names = some or [path.stem for path in (folder / "notebooks").glob("*.ipynb")]
    for name in names:
        executed = notebooks.read(folder / "runs" / profile / "notebooks" / f"{name}.ipynb")
        assert all(cell.execution_count for cell in executed.cells if cell.cell_type == "code")
        assert some or (folder / "runs" / profile / "report" / f"{name}.html").stat().st_size > 5000
        if name in PICTURES:
            with Image.open(folder / "results" / profile / f"{PICTURES[name]}.png") as picture:
                assert min(picture.size) > 200 and np.asarray(picture.convert("L")).std() > 5
    if some:
        return
    assert PICTURES.keys() < set(names)
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


def outputs(path: Path) -> list:
    """What the code cells of an executed notebook gave."""
    return [cell.outputs for cell in notebooks.read(path).cells if cell.cell_type == "code"]


def test_the_tiny_pipeline_from_data_to_figures_and_its_notebooks(clone):
    """One profile, whole: run, nothing to do, notebooks edited, and the pages' commands. No notebook runs three times:
    02 and 03 again as they are edited, 07 by force, 00 by papermill, 01 and 05 by nbval."""
    clone("git", "checkout", "--quiet", "--force", "HEAD")
    clone.select("tiny")
    said = clone("make", "--old-file", ".venv/made", "repro")  # as the README says, with the environment that is there
    check_results(clone.folder, "tiny")
    for noise in ("IPKernelApp", "KeyboardInterrupt", "Warning", "WARNING", "git add"):
        assert noise not in said, said  # a user can do nothing about it
    assert "runs/tiny/report/index.html" in said and "06-explore.ipynb" in said and "python -m kaod.predict" in said
    assert SUMMARY <= set(re.findall(r"[\w-]+", clone("dvc", "metrics", "show")))
    cache = clone.folder / "kaod" / "training" / "__pycache__"
    cache.mkdir(exist_ok=True)
    (cache / "new.pyc").touch()
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
    stages = re.findall(r"(?m)^((?:pictures|notebooks|grid)@\S+)", clone("dvc", "stage", "list", "--names-only"))
    assert len(stages) == len(executed) == 10
    clone("dvc", "repro", "--force", "--single-item", "notebooks@07-how-does-it-learn")
    assert [files.digest(path) for path in executed] == before  # run again, the same bytes
    shown = [outputs(path) for path in executed]

    save(clone, "02-results.ipynb", "notebook.cells[0].source += '\\n\\nMore words.'")
    edited.cells[-1].source += "\n1 + 1"
    notebook.write_bytes(notebooks.to_bytes(edited))
    clone("jupytext", "--sync", str(notebook))
    ran = re.findall(r"Running stage '(.+)'", clone("dvc", "repro"))
    assert sorted(ran) == ["pictures@02-results", "pictures@03-what-it-sees", "report"]
    assert [outputs(path) for path in executed] == shown

    # another detector's results: here our own, under another name
    (command,) = readme.commands("python -m kaod.evaluation.evaluate my-detector")
    clone(*shlex.split(command.replace("my-detector-results", "runs/tiny/kaod/detections")))
    ours = files.read_json(clone.folder / "results/tiny/details/kaod.json")
    del ours["st"]["turning"]
    assert files.read_json(clone.folder / "results/tiny/detectors/my-detector.json") == ours
    assert "expected one or more of st.json" in clone(*shlex.split(command), fails=True)

    other, idea = readme.commands("papermill")
    said = clone(*shlex.split(other.replace("profile shapes", "profile tiny")), "--prepare-only")
    said += clone(*shlex.split(idea))
    assert "unknown parameter" not in said
    for name, source in (("other", 'profile = "tiny"'), ("idea", "shift = [30, 0]")):
        injected = notebooks.read(clone.folder / "runs" / f"{name}.ipynb").cells[2]
        assert injected.metadata.tags == ["injected-parameters"] and source in injected.source
    (command,) = readme.commands("pytest --nbval")
    *command, folder = shlex.split(command)
    said = clone(*command, *(f"{folder}/{name}.ipynb" for name in ("01-how-many-keypoints", "05-what-is-in-the-data")))
    assert re.search(r"\d+ passed", said) and "failed" not in said

    (command,) = readme.commands("python -m kaod.predict")
    clone(*shlex.split(in_tiny(command)))
    assert len(list((clone.folder / "predictions").glob("*.png"))) == 10
    (command,) = readme.commands("python -m kaod.relabel")
    clone(*shlex.split(in_tiny(command)), fails=True)  # the frame cuts some
    assert (clone.folder / "relabelled" / "sheet.png").stat().st_size > 5000
    (command,) = readme.commands("python -m kaod.export")
    clone(*shlex.split(in_tiny(command)))
    script = readme.fenced("python")[0]
    clone("python", "-c", f"{in_tiny(script)}\nassert len(found['boxes']) == len(found['masks'])")


def in_tiny(text: str) -> str:
    """The pages' commands name the profile shapes."""
    return text.replace("runs/shapes/", "runs/tiny/").replace("datasets/shapes", "datasets/tiny")


def test_a_run_of_the_grid_and_its_table(clone):
    clone("git", "checkout", "--quiet", "--force", "HEAD")
    clone.select("tiny")
    clone("dvc", "repro", "experiments/dvc.yaml:cell@kaod-both-0")
    found = pandas.read_csv(clone.folder / "results" / "tiny" / "grid.csv")
    own = {path.stem for path in (clone.folder / "results" / "tiny" / "details").glob("*.json")}  # of another test
    assert list(found) == ["model", "seed", "figure", "value"] and set(found["model"]) == {"kaod-both"} | own
    assert {"AP-rt", "AP50-rt", "AP50-turn+30", "hull", "seconds_per_step"} <= set(found["figure"])
    run = files.read_json(clone.folder / "results" / "tiny" / "grid" / "kaod-both-0.json")
    assert run["command"] == "python -m experiments.grid train kaod-both 0" and run["steps"] == 6
    said = clone("python", "-m", "experiments.grid", "train", "kaod-both", "0")
    assert "kaod-both, seed 0: trained already" in said
    assert run["hardware"] and run["commit"] != "none" and run["seconds_per_step"] > 0


EVERYTHING = """
import os, runpy, sys, warnings
from pathlib import Path
import matplotlib
matplotlib.use("agg")
warnings.filterwarnings("ignore", ".*found in sys.modules")
from kaod import params
stages = [["data.download"], ["data.vertices"], ["data.warp"], *(
    [stage, name] for name in params.load()[1] for stage in ("train", "evaluation.evaluate"))]
for name, *given in stages:
    sys.argv = [name, *given]
    runpy.run_module(f"kaod.{name}", run_name="__main__")
os.chdir("notebooks")
for path in sorted(Path().glob("[0-9]*.py")):
    exec(compile(path.read_text(), path, "exec"), {})
    matplotlib.pyplot.close("all")
"""  # in one process, since most of a stage's time is importing torch

FORMS = {  # boxes of the training photos and of the test photos, classes, with outlines?, vertices.k, K
    # the one test object leaves the frame where the photo turns or is cropped
    "boxes of one class, one a photo, one test photo": (
        [[(20 + i, 20, 50, 40)] for i in range(5)], [[(1, 1, 13, 10)]], ["nut"], False, "auto", 16),
    "outlines, objects in few photos, two keypoints": (
        [*([] for _ in range(7)), [(10, 10, 50, 40), (55, 40, 75, 60)]], [[], [(20, 20, 70, 50)], []],
        ["nut", "bolt"], True, 2, 2)}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_any_valid_data_set_goes_through_every_stage_and_every_notebook(clone, tmp_path, form):
    *parts, classes, outlined, given, k = FORMS[form]
    names = ["annotations/instances_train.json", "annotations/instances_test.json"]
    for name, part in zip(names, parts):
        samples = [sample(boxes, [1 + i % len(classes) for i in range(len(boxes))], size=(96, 72), path=f"{number}.jpg",
                          polygons=[[np.array([(x1, y1), (x2, y1), (x2, y2)])] if outlined else []
                                    for x1, y1, x2, y2 in boxes]) for number, boxes in enumerate(part, 1)]
        write_coco(tmp_path, name, datasets.DataSet(classes, [*range(1, len(classes) + 1)], samples),
                   [Image.effect_noise((96, 72), 90).convert("RGB") for _ in samples])
    clone("git", "checkout", "--quiet", "--force", "HEAD")
    with open(clone.folder / "params.yaml", "a") as file:
        file.write(f"any:\n  <<: *shapes\n  root: {tmp_path}\n  train_sets: [{names[0]}]\n  test_sets: [{names[1]}]\n"
                   f"  draw: null\n  vertices: {{k: {given}}}\n  warp: {{<<: *warp, sweep: 2}}\n"
                   "  model: {<<: *model, min_size: 64, max_size: 96}\n"
                   "  train: {<<: *train, steps: 2, batch: 2, warmup: 1, save_every: 2, snapshots: 2}\n")
    clone.select("any")
    said = clone("python", "-c", EVERYTHING)
    assert ("boxes only, no outlines: K = 16" in said) != outlined
    assert files.read_json(clone.folder / "runs" / "any" / "k.json")["k"] == k
    for name in params.load()[1]:
        assert len(files.read_json(clone.folder / "results" / "any" / "details" / f"{name}.json")["sweep"]) == 13


@pytest.mark.slow
def test_dvc_sees_when_a_users_annotations_change(clone, tmp_path):
    """In VOC's layout, which is read once, at the door."""
    own, settings, sets = tmp_path / "own", params.load("tiny")[0].draw, ["annotations/instances_a.json",
                                                                          "annotations/instances_b.json"]
    shapes.write(tmp_path / "drawn", replace(settings, train=20, test=5), sets)
    for number, name in enumerate(sets):
        drawn = coco.load(tmp_path / "drawn" / name, coco.photo_folder(tmp_path / "drawn", name))
        write_voc(own, f"own/{number}", drawn.samples, [each.image() for each in drawn.samples], drawn.classes)
    clone("git", "checkout", "--quiet", "--force", "HEAD")
    clone.select("tiny")
    path = clone.folder / "params.yaml"
    text, voc = path.read_text(), "  <<: *shapes\n  layout: voc\n  train_sets: [own/0]\n  test_sets: [own/1]\n"
    named = text.replace("  <<: *shapes\n  draw: {", f"{voc}  root: {own}\n  draw: {{", 1)
    assert named != text
    path.write_text(named)
    clone("dvc", "repro", "download")
    assert "up to date" in clone("dvc", "status", "download")
    annotation = next((own / "own" / "Annotations").iterdir())
    annotation.write_text(annotation.read_text().replace("<difficult>0", "<difficult>1"))
    assert "Running stage 'download'" in clone("dvc", "repro", "download")
    path.write_text(named.replace(f"root: {own}", "root: nowhere"))
    wrong = clone("dvc", "repro", "download", fails=True)
    assert "tiny.root: no such folder" in wrong


@pytest.mark.slow
@pytest.mark.parametrize("profile, folder, expected", [("coco_try", "coco", 16), ("voc_try", "VOCdevkit", 16),
                                                       ("nuclei_try", "nuclei", 24)])
def test_real_photos_from_their_own_folder_to_the_last_figure(clone, shared, profile, folder, expected):
    (command,) = readme.commands("dvc repro")
    before = {path: path.stat().st_mtime_ns for path in (shared / folder).rglob("*")}
    clone("git", "checkout", "--quiet", "--force", "HEAD")
    path = clone.folder / "params.yaml"
    with open(path, "a") as file:  # the sections that the pages have users write
        file.write("\n" + "\n".join(readme.fenced("yaml")).replace("~/data", str(shared)))
    clone.select(profile)
    # the two models that differ most; of the notebooks with outlines, which the tiny pipeline runs, those with photos
    path.write_text(re.sub(r"(?ms)^  (fcos-turned|kaod-paper):.*?(?=^  [a-z]|^\n)", "", path.read_text()))
    assert list(yaml.safe_load(path.read_text())["models"]) == ["fcos", "kaod"]
    some = {} if folder == "VOCdevkit" else {"pictures": "03-what-it-sees", "notebooks": "05-what-is-in-the-data"}
    said = clone(*shlex.split(command), *(f"{stage}@{name}" for stage, name in some.items()))
    assert "WARNING" not in said, said  # a user can do nothing about it
    check_results(clone.folder, profile, ("fcos", "kaod"), [*some.values()])
    assert {path: path.stat().st_mtime_ns for path in (shared / folder).rglob("*")} == before
    k = files.read_json(clone.folder / "runs" / profile / "k.json")
    assert k["k"] == expected and k["objects"] > 300
    details = files.read_json(clone.folder / "results" / profile / "details" / "kaod.json")
    assert details["rt"]["truth"] == ("corners" if folder == "VOCdevkit" else "outlines")
    assert ("rt-ellipse" in details) == (folder == "VOCdevkit")
    if folder == "VOCdevkit":  # one place of the paper's Table 1, of which the data are there already
        said = clone("dvc", "repro", "experiments/tables/dvc.yaml:run1@fcos-resnet50")
        assert "Running stage 'experiments/tables/dvc.yaml:run1@fcos-resnet50'" in said
        assert "1 of 20 were run" in (clone.folder / "results" / profile / "table1.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fcos", "kaod"])
def test_eight_real_photos_are_learned_by_heart(shared, name):
    """Data, targets, losses and metrics are right together: AP50 ≥ .9 on the photos trained on."""
    profile, models = params.load("voc")
    samples = voc.read(shared / "VOCdevkit", "VOC2007/trainval", classes := voc.classes(
        shared / "VOCdevkit", ["VOC2007/trainval"]))
    chosen = [each for each in samples if 1 <= len(each.labels) <= 3 and not each.ignore.any() and
              (each.boxes[:, 2:] - each.boxes[:, :2]).min() > 60][:8]
    assert len(chosen) == 8
    settings = replace(profile.model, backbone="resnet10", weights="none", fpn_channels=64, head_convs=2,
                       min_size=128, max_size=192, anchor_scale=0.5)
    for steps in (80, 160, 320):  # a longer schedule where a shorter one did not do
        run = replace(profile, model=settings, train=replace(
            profile.train, steps=steps, batch=8, optimizer="adamw", lr=1e-3, warmup=20, workers=0, flip=0.0))
        torch.manual_seed(0)
        detector, run = built(run, models, name, len(classes), 16)
        train.train(detector, run, chosen)
        detections = evaluate.detect(detector.eval(), chosen, 8)
        reached = ap.voc_metrics(datasets.DataSet(classes, [], chosen), detections)["AP50"]
        print(f"{name}: AP50 {reached:.3f} after {steps} steps")
        if reached >= 0.9:
            return
    raise AssertionError(f"AP50 {reached:.3f}")
