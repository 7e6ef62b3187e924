"""The paper's tables: all places are there, and runs fill them."""

import json
import re

import pandas as pd
import pytest
import yaml
from conftest import as_command

from experiments import grid, published
from kaod import ROOT, params, train
from kaod.data import files

SECTION = """
{layout}_small:
  <<: *{layout}
  root: {root}
  train_sets: [{train}]
  test_sets: [{test}]
  warp: {{<<: *warp, sweep: 0}}
  model: {{<<: *model, min_size: 64, max_size: 128, fpn_channels: 32, head_convs: 1}}
  train: {{<<: *train, steps: 2, batch: 2, warmup: 1, snapshots: 0, save_every: 1}}
"""


def test_the_34_places_of_both_tables_are_in_the_pipeline():
    stages = yaml.safe_load((ROOT / "experiments" / "tables" / "dvc.yaml").read_text())["stages"]
    places = {table: stages[f"run{table}"]["foreach"] for table in published.TABLES}
    assert {table: len(names) for table, names in places.items()} == {1: 20, 2: 14}
    for table, layout in published.TABLES.items():
        found = published.models(table)
        assert list(found) == places[table]
        for name, changes in found.items():  # what the name says, on the profile that it is for
            applied = params.apply(params.load(layout)[0], changes)
            kind, *words, backbone = name.split("-")
            assert applied.model.backbone == backbone and applied.model.weights == "imagenet"
            assert applied.model.head == ("fcos" if kind == "fcos" else "keypoints")
            assert applied.model.start == ("zero" if kind == "fcos" else "ring")
            if kind == "kaod":
                k, hm = applied.vertices.k, applied.keypoints.hm
                assert k == int(words[0]) and k in ((16, 32, 48) if table == 1 else (8, 16, 32))
                assert applied.keypoints.labels == "first" and applied.keypoints.kpl == ("kpl" in words)
                assert hm == ("hm" in words) or not applied.keypoints.kpl


def test_what_kaod_paper_is_here_it_is_there():
    profile, models = grid.load()
    changes = published.models(1)["kaod-16-kpl-hm-resnet50"]
    assert params.apply(profile, {"keypoints": changes["keypoints"]}) == params.apply(profile, models["kaod-paper"])


def test_the_papers_figures_are_those_of_its_best_known_lines():
    voc, coco = published.paper(1), published.paper(2)
    assert voc.loc[("fcos", "resnet50")].tolist() == [0.738, 0.591, 0.733]
    assert voc.loc[("kaod-16-kpl-hm", "resnet50")].tolist() == [0.729, 0.594, 0.717]  # ahead of FCOS on -rt alone
    assert coco.loc[("kaod-32-kpl-hm", "resnet101")].tolist() == [0.281, 0.219, 0.271]
    assert voc.notna().all(axis=None) and coco.notna().all(axis=None) and not voc.index.has_duplicates


def test_the_committed_tables_are_those_that_the_command_writes():
    for table, layout in published.TABLES.items():
        profile = params.load(layout)[0]
        assert (profile.results / f"table{table}.md").read_text() == published.text(table, profile)


@pytest.fixture
def small(repository, monkeypatch):
    """Few photos of ../shared/data in each layout, as profiles of a repository of their own."""
    for module in (grid, published):
        monkeypatch.setattr(module, "ROOT", repository)

    def make(layout, shared):
        root = repository / f"{layout}-copy"
        if layout == "voc":
            source, sets = shared / "VOCdevkit" / "VOC2007", ("VOC2007/trainval", "VOC2007/test")
            for name in ("Annotations", "JPEGImages"):
                (root / "VOC2007").mkdir(parents=True, exist_ok=True)
                (root / "VOC2007" / name).symlink_to(source / name)
            for each in sets:
                # the same six for both, as few photos have few classes
                stems = (source / "ImageSets/Main/trainval.txt").read_text().split()[:6]
                name = f"ImageSets/Main/{each.split('/')[1]}.txt"
                files.write_bytes(root / "VOC2007" / name, "\n".join(stems).encode())
        else:
            sets = ("annotations/instances_train2017.json", "annotations/instances_val2017.json")
            for each in sets:
                found = files.read_json(shared / "coco" / each)
                taught = {annotation["image_id"] for annotation in found["annotations"]}
                found["images"] = [image for image in found["images"] if image["id"] in taught][:6]
                kept = {image["id"] for image in found["images"]}
                found["annotations"] = [each for each in found["annotations"] if each["image_id"] in kept]
                files.write_json(root / each, found)
            for name in ("train2017", "val2017"):
                (root / name).symlink_to(shared / "coco" / name)
        path = repository / "params.yaml"
        settings = path.read_text() + SECTION.format(layout=layout, root=root, train=sets[0], test=sets[1])
        path.write_text(re.sub(r"(?m)^profile: \w+", f"profile: {layout}_small", settings))
        for stage in ("kaod.data.download", "kaod.data.warp"):
            assert as_command(monkeypatch, stage) == ""
        return params.load()[0]

    return make


@pytest.mark.slow
@pytest.mark.parametrize("table, names", [(1, ("fcos-resnet50", "kaod-32-kpl-hm-resnet101")),
                                          (2, ("kaod-8-resnet50", "fcos-resnet101"))])
def test_runs_fill_their_places_and_an_interrupted_one_goes_on(small, shared, table, names, monkeypatch, capsys):
    profile = small(published.TABLES[table], shared)
    path = profile.results / f"table{table}.md"

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["published.py", *map(str, arguments)])
        published.main()

    run("table", table)
    empty = path.read_text()
    places = len(published.models(table))
    assert f"0 of {places} were run" in empty and empty.count("–") == 6 * places
    # the power fails in the second step of the first one; it goes on where it was
    finite = train.check_finite

    def cut(step, *rest):
        if step:
            raise KeyboardInterrupt
        finite(step, *rest)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(train, "check_finite", cut)
        run("train", table, names[0])
    capsys.readouterr()
    for name in names:
        for action in ("train", "evaluate"):
            run(action, table, name)
    said = capsys.readouterr().out
    assert said.count("going on from step 1 ") == 1 and "trained already" not in said
    run("train", table, names[0])
    assert "trained already" in capsys.readouterr().out
    run("table", table)
    found = published.compared(table, profile)
    assert f"2 of {len(found)} were run" in path.read_text()
    for name in names:
        model, backbone = name.rsplit("-", 1)
        details = json.loads((profile.results / f"table{table}" / f"{name}.json").read_text())
        assert details["command"] == f"python -m experiments.published train {table} {name}"
        for kind in published.KINDS:
            figure = details["metrics"][kind]["AP50"] if table == 1 else details["metrics"][kind]["coco"]["AP"]
            row = found.loc[(model, backbone), kind]
            assert row["ours"] == figure and row["difference"] == figure - row["paper"]
    assert found.xs("ours", axis=1, level=1).notna().any(axis=1).sum() == 2


def test_a_profile_of_the_other_layout_is_named(repository, monkeypatch):
    with pytest.raises(ValueError, match="Table 1 is on a profile with layout: voc; got shapes, with layout: coco"):
        published.profile_of(1)


def test_the_table_is_readable_as_a_table():
    lines = published.text(1, params.load("voc")[0]).splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith("|")]
    assert len(rows) == 2 + 20 and len({len(row) for row in rows}) == 1
    assert isinstance(published.compared(1, params.load("voc")[0]), pd.DataFrame)
