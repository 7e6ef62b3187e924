import csv
from dataclasses import replace

import pytest
import yaml

from experiments import grid
from kaod import ROOT, params
from kaod.data import download, files


def test_a_run_is_the_same_measured_on_the_way_or_not(repository, monkeypatch):
    monkeypatch.setattr(grid, "ROOT", repository)
    profile = params.load("tiny")[0]
    profile = replace(profile, vertices=replace(profile.vertices, k=8))
    download.draw(profile)
    files.write_json(profile.folder / "manifest.json", download.check(profile))
    made = []
    for snapshots in (0, 3):
        training = replace(profile.train, snapshots=snapshots)
        grid.train_run(replace(profile, train=training), "kaod", {}, 5, "cpu")
        made.append((profile.runs / "grid" / "kaod-5" / "model.pt").read_bytes())
    found = files.read_json(profile.runs / "grid" / "kaod-5" / "run.json")
    assert made[0] == made[1] and list(found["learning"]) == ["0", "2", "4"]
    assert all(each.keys() == {"AP", "AP50", "AP75"} for each in found["learning"].values())
    assert not list((repository / "scratch").rglob("*.json"))


def test_the_models_of_the_grid_are_valid_and_the_paper_is_to_the_letter():
    profile, models = grid.load()
    paper = params.apply(profile, models["paper-long"])
    keypoints = paper.keypoints
    assert (keypoints.locations, keypoints.reduction, keypoints.normalize) == ("all", "sum", False)
    assert (keypoints.fill, keypoints.visible, keypoints.smooth_l1) == ("constant", 0, 1)
    assert keypoints.labels == "first" and paper.model.box_loss == "iou" and keypoints.kpl and keypoints.hm


def test_each_model_has_the_switches_that_its_name_says():
    profile, models = grid.load()
    network = {"fpn128": {"fpn_channels": 128}, "resnet18": {"backbone": "resnet18"}}  # as its name ends
    both, of_paper = models["kaod-both-45"]["keypoints"], models["kaod-paper"]["keypoints"]
    turned = models["fcos-turned"]
    unrun = {"fcos-turned-45": {"keypoints": {"angle": 45}, **turned},  # as they would be, not long
             "fcos-corners": turned | {"train": {"rotate": 0.5, "rotated_boxes": "corners"}},
             "fcos-outlines": turned | {"train": {"rotate": 0.5, "rotated_boxes": "outline"}},
             "kaod-paper-by-index": {"keypoints": of_paper | {"hm": False}},
             "all-locations": {"keypoints": of_paper | {"locations": "all"}},
             "paper": {key: each for key, each in models["paper-long"].items() if key != "train"},
             "kaod-attached-45": {"keypoints": both | {"hm": False, "separation": 1}},
             "kaod-no-kpl-45": {"keypoints": both | {"kpl": False}},
             **{f"kaod-k{k}": {"vertices": {"k": k}} for k in (8, 32, 48)},
             **{f"kaod-{angle}": {"keypoints": {"angle": angle}} for angle in (15, 45, 90, 180)}}
    longer = {"long": 2, "6000": 4, "12000": 8, **dict.fromkeys(network, 2)}
    for full, overrides in models.items():
        applied, end = params.apply(profile, overrides), full.rsplit("-", 1)[-1]
        name = full.removesuffix(f"-{end}") if end in longer else full
        assert replace(applied.model, **network.get(end, {})) == applied.model
        short = params.apply(profile, (unrun | models)[name])
        if name.startswith("fcos"):
            assert applied.model.head == "fcos"
            assert applied.model.start == ("zero" if name == "fcos-zero" else "ring")
            rotated = {"fcos-corners": "corners", "fcos-turned": "ellipse", "fcos-turned-45": "ellipse",
                       "fcos-outlines": "outline"}.get(name)
            assert applied.train.rotate == (0.5 if rotated else 0)
            assert not rotated or applied.train.rotated_boxes == rotated
        else:
            assert applied.model.head == "keypoints" and applied.train.rotate == 0
            of_the_paper = name in ("head", "kaod-paper", "kaod-paper-by-index", "all-locations", "paper")
            half_the_photos = name in ("kaod-both", "kaod-attached")
            attached = name.startswith("kaod-attached")
            two_views = half_the_photos or attached or name.startswith(("kaod-both-45", "kaod-no-kpl"))
            assert applied.keypoints.labels == ("first" if of_the_paper else "both" if two_views else "turned")
            without_loss = name.startswith(("head", "kaod-no-kpl"))
            assert applied.keypoints.kpl == ((two_views or of_the_paper) and not without_loss)
            assert applied.keypoints.hm == (name != "kaod-paper-by-index" and not attached)
            assert applied.keypoints.chance == (1 if two_views or applied.keypoints.kpl else 0.5)
            assert applied.train.batch == (4 if half_the_photos else 8)
        # all that are compared start with boxes of one size
        assert applied.model.spread == profile.model.spread
        assert applied.train.steps == profile.train.steps * longer.get(end, 1)
        # and a long one is the short one, trained for longer, with its network
        assert replace(applied, train=replace(applied.train, steps=profile.train.steps), model=replace(
            applied.model, fpn_channels=profile.model.fpn_channels, backbone=profile.model.backbone)) == short


def test_the_pipelines_models_are_those_of_the_grid():
    profile, models = grid.load()
    for name, overrides in params.load()[1].items():
        assert params.apply(profile, models[name]) == params.apply(profile, overrides), name


def test_a_broken_grid_is_named(repository, monkeypatch):
    monkeypatch.setattr(grid, "ROOT", repository)
    for text, key in (("models: 3", "models"), ("other: {}", "models"),
                      ("models: {a: {train: {step: 1}}}", r"models\.a\.train\.step: unknown"),
                      ("- models", "models"), ("3", "models")):
        files.write_bytes(repository / "experiments" / "grid.yaml", text.encode())
        with pytest.raises(ValueError, match=rf"grid\.yaml: .*{key}"):
            grid.load()


def test_every_run_of_the_pipeline_is_a_model_of_the_grid():
    runs = yaml.safe_load((ROOT / "experiments" / "dvc.yaml").read_text())["stages"]["cell"]["foreach"]
    profile, models = grid.load()
    photos = yaml.safe_load((ROOT / "experiments" / "photos" / "dvc.yaml").read_text())["stages"]["run"]["matrix"]
    assert {each["model"] for each in runs.values()} | {*photos["model"]} == models.keys()
    for name in photos["set"]:  # where `kaod` has two views and the loss, so that they differ by it alone
        others = grid.load(name)[0]
        with_loss, without = (params.apply(others, models[each]).keypoints for each in ("kaod", "kaod-no-kpl"))
        assert with_loss.kpl and replace(without, kpl=True) == with_loss
        # one view as on the drawn shapes, where it is `kaod` itself
        assert params.apply(others, models["kaod-one-view"]).keypoints == replace(
            profile.keypoints, angle=others.keypoints.angle)
    assert params.apply(profile, models["kaod-one-view"]) == params.apply(profile, models["kaod"])
    assert all(name == f"{each['model']}-{each['seed']}" for name, each in runs.items())
    assert not {f"{own}-{profile.train.seed}" for own in params.load()[1]} & runs.keys()  # they are trained already


def test_the_command_writes_the_committed_table_again(monkeypatch):
    written = {}
    monkeypatch.setattr("sys.argv", ["grid", "table"])
    monkeypatch.setattr(grid.files, "write_bytes", lambda path, data: written.update({path: data}))
    grid.main()
    (path, data), = written.items()
    assert path == ROOT / "results" / "shapes" / "grid.csv" and data == path.read_bytes()


def test_the_committed_table_has_the_figures_of_the_runs_to_the_last_bit():
    with open(ROOT / "results" / "shapes" / "grid.csv", newline="") as file:
        rows = {(row["model"], int(row["seed"]), row["figure"]): float(row["value"]) for row in csv.DictReader(file)}
    runs = grid.runs(params.load("shapes")[0])
    own = {path.stem for path in (ROOT / "results" / "shapes" / "details").glob("*.json")}
    assert own == {run["model"] for run in runs if run["seed"] == 0 and "command" not in run} == params.load()[1].keys()
    assert {(run["model"], run["seed"]) for run in runs} == {key[:2] for key in rows}
    for run in runs:
        for kind in ("st", "rt", "cr", "tr"):
            metrics = run["metrics"][kind]
            assert rows[run["model"], run["seed"], f"AP50-{kind}"] == metrics["AP50"]
            assert rows[run["model"], run["seed"], f"AP-{kind}"] == metrics["coco"]["AP"]
