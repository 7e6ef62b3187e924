import re

import pytest

from kaod import ROOT, params

TEXT = (ROOT / "params.yaml").read_text()


def written(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return path


def test_every_profile_is_valid():
    for name in ("shapes", "tiny", "voc", "coco"):
        profile, models = params.load(name)
        assert profile.name == name and {"fcos", "kaod"} <= models.keys()


FCOS = "  fcos: {model: {head: fcos}}"
NAME = "expected a name of letters, digits, - and _ that begins with a letter; got "
NAMES = ("../x", "..", "a/b", "a.b", "a b", "a;b", "2007", "-x", "_", "a[0]")


@pytest.mark.parametrize("old, new, message", [
    ("profile: shapes", "profile: shape",
     "profile: expected one of class5, coco, dsb_nuclei, hituav_cars, shapes, tiny, voc; got 'shape'"),
    ("    lr: 0.001", "    lr: fast", "shapes.train.lr: expected a valid number; got 'fast'"),
    ("    lr: 0.001", "    lr: 0", "shapes.train.lr: expected greater than 0; got 0"),
    ("    lr: 0.001", "    lr: .nan", "shapes.train.lr: expected a finite number; got nan"),
    ("    lr: 0.001", "    lr: .inf", "shapes.train.lr: expected a finite number; got inf"),
    ("    lr: 0.001", "    lr: -1", "shapes.train.lr: expected greater than 0; got -1"),
    ("    flip: 0.5", "    flip: 1.5", "shapes.train.flip: expected less than or equal to 1; got 1.5"),
    ("    flip: 0.5", "    flop: 0.5", "shapes.train.flop: unknown key"),
    ("    flip: 0.5", "", "shapes.train.flip: missing key"),
    ("    threads: 1", "    threads: 2.5", "shapes.train.threads: expected a valid integer; got 2.5"),
    ("    threads: 1", "    threads: true", "shapes.train.threads: expected a valid integer; got True"),
    ("    normalize: true", "    normalize: 1", "shapes.keypoints.normalize: expected a valid boolean; got 1"),
    ("    fill: mean", "    fill: black",
     "shapes.keypoints.fill: expected 'reflect', 'constant' or 'mean'; got 'black'"),
    ("    k: auto", "    k: 1", "shapes.vertices.k: expected greater than or equal to 2 or 'auto'; got 1"),
    ("    k: auto", "    k: many", "shapes.vertices.k: expected a valid integer or 'auto'; got 'many'"),
    ("    decay: cosine", "    decay: [10, x]", "shapes.train.decay: expected a valid integer"),
    ("    anchor_scale: 0.5", "    anchor_scale: 0.375",
     "shapes.model.anchor_scale: expected a multiple of 0.25; got 0.375"),
    ("    anchor_scale: 0.5", "    anchor_scale: 0.1",
     "shapes.model.anchor_scale: expected a multiple of 0.25; got 0.1"),
    ("    anchor_scale: 0.5", "    anchor_scale: 0", "shapes.model.anchor_scale: expected greater than 0; got 0"),
    ("    start: ring", "    start: circle", "shapes.model.start: expected 'ring' or 'zero'; got 'circle'"),
    ("    visible: 0.9", "    visible: 90", "shapes.keypoints.visible: expected less than or equal to 1; got 90"),
    ("    size: 128", "    size: 32", "shapes.draw.size: expected greater than or equal to 64; got 32"),
    ("  vertices:\\n    k: auto", "  vertices: 5", "shapes.vertices: expected a section; got 5"),
    ("  train_sets: \\[.*\\]", "  train_sets: shapes/train",
     "shapes.train_sets: expected a valid list; got 'shapes/train'"),
    ("  train_sets: \\[.*\\]", "  train_sets: [3]", "shapes.train_sets: expected a valid string"),
    (FCOS, "  fcos: {model: {head: yolo}}", "models.fcos.model.head: expected 'fcos' or 'keypoints'; got 'yolo'"),
    (FCOS, "  fcos: {train: {step: 5}}", "models.fcos.train.step: unknown key"),
    (FCOS, "  fcos: {train: {steps: 0}}", "models.fcos.train.steps: expected greater than 0; got 0"),
    (FCOS, "  fcos: {warp: {angle: 5}}", "models.fcos.warp: unknown key"),
    (FCOS, "  fcos: {train: 5}", "models.fcos.train: expected a section; got 5"),
    (FCOS, "  fcos: 5", "models.fcos: expected sections with settings; got 5"),
    ("models:", "models: []\nother:", "models: expected a mapping"),
    ("profile: shapes", "profile: [", "not valid YAML"),
    *(("profile: shapes", f"profile: '{name}'", f"profile: {NAME}{name!r}") for name in NAMES),
    *((FCOS, FCOS.replace("fcos:", f"'{name}':"), f"models: {NAME}{name!r}") for name in NAMES),
    ("profile: shapes", "profile: 2007", f"profile: {NAME}2007"),
    ("profile: shapes", "profile:", f"profile: {NAME}None"),
])
def test_a_wrong_setting_is_named(tmp_path, old, new, message):
    old = old if "\\" in old else re.escape(old)
    assert re.search(rf"(?m)^{old}", TEXT), old
    path = written(tmp_path, re.sub(rf"(?m)^{old}", new, TEXT, count=1))
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        params.load(path=path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_every_setting_is_explained():
    """In the first profile's section, each setting has a comment beside it."""
    section = TEXT[TEXT.index("\nshapes:"):TEXT.index("\n# What follows")]
    settings = [line for line in section.splitlines() if re.match(r"    \w+: ", line)]
    bare = [line for line in settings if "#" not in line]
    assert len(settings) > 40 and not bare


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="params.yaml: no such file"):
        params.load(path=tmp_path / "params.yaml")
