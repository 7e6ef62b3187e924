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


@pytest.mark.parametrize("old, new, message", [
    ("profile: shapes", "profile: shape", "profile: expected one of coco, shapes, tiny, voc; got 'shape'"),
    ("    lr: 0.001", "    lr: fast", "shapes.train.lr: expected a number; got 'fast'"),
    ("    lr: 0.001", "    lr: 0", "shapes.train.lr: expected a number above 0"),
    ("    lr: 0.001", "    lr: .nan", "shapes.train.lr: expected a finite number"),
    ("    flip: 0.5", "    flip: 1.5", "shapes.train.flip: expected a number from 0 to 1; got 1.5"),
    ("    flip: 0.5", "    flop: 0.5", "shapes.train.flop: unknown key"),
    ("    flip: 0.5", "", "shapes.train.flip: missing key"),
    ("    threads: 2", "    threads: 2.5", "shapes.train.threads: expected a whole number; got 2.5"),
    ("    normalize: true", "    normalize: 1", "shapes.keypoints.normalize: expected true or false; got 1"),
    ("    reading: bilinear", "    reading: cubic", "shapes.keypoints.reading: expected one of bilinear, nearest"),
    ("    k: auto", "    k: 1", "shapes.vertices.k: expected 'auto' or a number of at least 2"),
    ("    k: auto", "    k: many", "shapes.vertices.k: expected one of auto; got 'many'"),
    ("  train_sets: [shapes/train]", "  train_sets: shapes/train", "shapes.train_sets: expected a list"),
    ("  fcos: {model: fcos, kpl: false", "  fcos: {model: yolo, kpl: false", "models.fcos.model: expected one of"),
    ("  fcos: {model: fcos, kpl: false, hm: false, set: {}}",
     "  fcos: {model: fcos, kpl: false, hm: false, set: {train: {step: 5}}}",
     "models.fcos.set.train.step: unknown key"),
    ("  fcos: {model: fcos, kpl: false, hm: false, set: {}}",
     "  fcos: {model: fcos, kpl: false, hm: false, set: {train: {steps: 0}}}",
     "models.fcos.set.train.steps: expected a number above 0"),
    ("  fcos: {model: fcos, kpl: false, hm: false, set: {}}",
     "  fcos: {model: fcos, kpl: false, hm: false, set: {warp: {angle: 5}}}", "models.fcos.set.warp: unknown key"),
    ("  fcos: {model: fcos, kpl: false, hm: false, set: {}}",
     "  fcos: {model: fcos, kpl: false, hm: false, set: 5}", "models.fcos.set: expected a section; got 5"),
    ("models:", "models: []\nother:", "models: expected a mapping"),
    ("profile: shapes", "profile: [", "not valid YAML"),
])
def test_a_wrong_setting_is_named(tmp_path, old, new, message):
    assert re.search(rf"(?m)^{re.escape(old)}", TEXT), old
    path = written(tmp_path, re.sub(rf"(?m)^{re.escape(old)}", new, TEXT, count=1))
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        params.load(path=path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_every_setting_is_explained():
    """In the first profile's section, each setting has a comment beside it."""
    section = TEXT[TEXT.index("\nshapes:"):TEXT.index("\ntiny:")]
    settings = [line for line in section.splitlines() if re.match(r"    \w+: ", line)]
    bare = [line for line in settings if "#" not in line]
    assert len(settings) > 40 and not bare


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="params.yaml: no such file"):
        params.load(path=tmp_path / "params.yaml")
