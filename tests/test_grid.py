import math
from dataclasses import replace

import pytest
from scipy import stats

from experiments import grid
from kaod import ROOT, params
from kaod.data import download, files
from kaod.training import checkpoint


def cell(model, seed, ap, **shape):
    kinds = ("st", "rt", "cr", "tr")
    sets = {kind: {"AP50": ap + number / 10, "shape": shape or None, "repeatability": None, "masks": None,
                   "spread": None, "overhang": None}
            for number, kind in enumerate(kinds)}
    return {"model": model, "seed": seed, "seconds_per_step": 0.5, "metrics": sets}


def test_means_and_differences_by_seed():
    table = grid.table([cell("fcos", 0, 0.5), cell("fcos", 1, 0.6), cell("fcos", 2, 0.7),
                        cell("kpl-hm", 0, 0.51, hull=0.6), cell("kpl-hm", 1, 0.62, hull=0.5),
                        cell("kpl-hm", 2, 0.73, hull=0.4), cell("paper", 0, 0.4)])
    assert table["fcos"]["figures"]["AP50-rt"]["mean"] == pytest.approx(0.7)
    assert table["fcos"]["against"] == {} and table["kpl-hm"]["seeds"] == [0, 1, 2]
    found = table["kpl-hm"]["against"]["fcos"]["AP50-st"]
    expected = stats.ttest_1samp([0.01, 0.02, 0.03], 0).confidence_interval(0.95)
    assert found["mean"] == pytest.approx(0.02) and found["half"] == pytest.approx(0.02 - expected.low)
    assert "hull" in table["kpl-hm"]["figures"] and "hull" not in table["kpl-hm"]["against"]["fcos"]
    assert table["paper"]["figures"]["AP50-st"] == {"mean": 0.4, "half": None}
    assert table["paper"]["against"]["fcos"]["AP50-st"]["mean"] == pytest.approx(-0.1)
    assert math.isfinite(found["half"])


def test_longer_trainings_have_references_of_their_own():
    names = ["fcos", "kpl-hm-long", "fcos-long"]
    assert grid.of_table(names, "grid") == ["fcos"] and grid.of_table(names, "long") == names[1:]
    table = grid.table([cell("fcos-long", 0, 0.5) | {"learning": {"0": 0.0, "150": 0.3}},
                        cell("kpl-hm-long", 0, 0.6) | {"learning": {"0": 0.0, "150": 0.2}}], "-long")
    against = table["kpl-hm-long"]["against"]
    assert against.keys() == {"fcos-long"} and against["fcos-long"]["AP50-st"]["mean"] == pytest.approx(0.1)
    assert against["fcos-long"]["AP50-after150"]["mean"] == pytest.approx(-0.1)


def test_a_cell_is_the_same_measured_on_the_way_or_not(repository, tiny, monkeypatch):
    monkeypatch.setattr(grid, "ROOT", repository)
    monkeypatch.setattr(checkpoint, "ROOT", ROOT)  # the code that is in the fingerprint
    profile, variant = params.load("tiny")[0], tiny[1]["kaod"]
    profile = replace(profile, vertices=replace(profile.vertices, k=8))
    download.draw(profile)
    files.write_json(profile.folder / "manifest.json", download.check(profile))
    made = []
    for snapshots in (0, 3):
        grid.train_cell(replace(profile, train=replace(profile.train, snapshots=snapshots)), "kaod", variant, 5, "cpu")
        made.append((profile.runs / "grid" / "kaod-5" / "model.pt").read_bytes())
    found = files.read_json(profile.runs / "grid" / "kaod-5" / "run.json")
    assert made[0] == made[1] and list(found["learning"]) == ["0", "2", "4"]
    assert not list((repository / "scratch").rglob("*.json"))


def test_the_models_of_the_grid_are_valid_and_the_paper_is_to_the_letter():
    profile, models = grid.load()
    assert {"fcos", "fcos-2x", "fcos-corners", "fcos-ellipse", "no-kpl", "kpl", "kpl-hm", "kpl-hm-k8",
            "kpl-hm-k32", "paper", "all-locations", "supervised",
            *(f"{name}-long" for name in ("fcos", "fcos-2x", "no-kpl", "kpl-hm"))} == models.keys()
    paper = params.apply(profile, models["paper"])
    keypoints = paper.keypoints
    assert (keypoints.locations, keypoints.reduction, keypoints.normalize) == ("all", "sum", False)
    assert not keypoints.supervise_view and paper.model.box_loss == "iou" and models["paper"].hm


def test_a_broken_grid_is_named(repository, monkeypatch):
    monkeypatch.setattr(grid, "ROOT", repository)
    wrong = "models: {a: {model: fcos, kpl: false, hm: false, set: {train: {step: 1}}}}"
    for text in ("models: 3", "other: {}", wrong):
        files.write_bytes(repository / "experiments" / "grid.yaml", text.encode())
        with pytest.raises(ValueError, match="grid.yaml"):
            grid.load()


def test_every_cell_of_the_pipeline_is_a_model_of_the_grid():
    import yaml

    cells = yaml.safe_load((ROOT / "experiments" / "dvc.yaml").read_text())["stages"]["train"]["foreach"]
    _, models = grid.load()
    assert {each["model"] for each in cells.values()} == models.keys()
    assert all(name == f"{each['model']}-{each['seed']}" for name, each in cells.items())
