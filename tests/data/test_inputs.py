"""The faulty exports that lie beside the repository, each through the door: its README says what is right."""

import re
import shutil

import pytest
from conftest import as_command, built

from kaod import params
from kaod.data import datasets, files
from kaod.training import checkpoints

EXPORTS = {  # what is wrong without `skip_bad`, "" for nothing; what is left with it: photos of both sets, or why none
    "coco-same-file-names": ("", (6, 4)),
    "coco-thin-photo": ("", (6, 4)),
    "coco-exif-turned": ("", (6, 4)),
    "coco-ids-with-decimals": ("", (6, 4)),
    "coco-width-as-text": (r"annotation 1: its box \(10, 10, 10, 30\) has no area", (6, 4)),
    "coco-unknown-category": (r"annotation 1: .* category_id is 3 \(blue\), which no training set has", (6, 4)),
    "coco-all-training-photos-bad": (r"train001.jpg: not a readable photo \(No such file or directory\)",
                                     r"instances_train.json: the set \S+ has no photos that can be used"),
    "voc-list-with-suffixes": ("", (6, 4)),
    "voc-list-with-bom": ("", (6, 4)),
    "voc-size-with-decimals": ("", (6, 4)),
    "voc-folders-in-list": ("", (6, 4)),
    "voc-list-utf16": ("train.txt: expected text in UTF-8; line 1", "train.txt: expected text in UTF-8; line 1"),
    "voc-empty-test-list": ("test.txt: the set VOC/test has no photos", "test.txt: the set VOC/test has no photos"),
    "voc-empty-class-name": (r"train000.xml: object 1: name is ''; expected text", (6, 4)),
    "voc-name-missing": (r"train000.xml: object 1: name is missing; expected text", (6, 4)),
    "voc-name-twice": (r"train.txt: train000 stands there 2 times", (6, 4)),
    "voc-robndbox": (r"train000.xml: object 1: bndbox/xmin is missing; expected a finite number", (6, 4)),
    "voc-size-missing": (r"train000.xml: .*size/width is missing; expected a whole number of pixels", (4, 2))}


@pytest.fixture
def inputs(shared):
    folder = shared.parent / "inputs"
    if not folder.is_dir():
        pytest.skip("needs the faulty exports in ../shared/inputs, which are not here")
    return folder


@pytest.mark.parametrize("name", EXPORTS)
def test_each_faulty_export_is_taken_or_named(inputs, repository, monkeypatch, capsys, name):
    fault, left = EXPORTS[name]
    sets = ("[VOC/train]", "[VOC/test]") if name.startswith("voc") else (
        "[annotations/instances_train.json]", "[annotations/instances_val.json]")
    path = repository / "params.yaml"
    text = path.read_text().replace("profile: shapes", "profile: own")
    for skip in (False, True):
        path.write_text(f"{text}\nown:\n  <<: *{name.split('-')[0]}\n  root: {inputs / name}\n  train_sets: {sets[0]}\n"
                        f"  test_sets: {sets[1]}\n  skip_bad: {str(skip).lower()}\n  warp: {{<<: *warp, sweep: 0}}\n")
        said = as_command(monkeypatch, "kaod.data.download")
        if skip and isinstance(left, tuple):
            assert said == ""
        else:
            wanted = left if skip else fault
            assert re.search(wanted, said) if wanted else said == ""
    if not isinstance(left, tuple):
        return
    assert ("10 photos turned by EXIF orientation" in capsys.readouterr().out) == (name == "coco-exif-turned")
    profile, _ = params.load()
    for names, photos in zip((profile.train_sets, profile.test_sets), left):
        samples = datasets.load(profile, names).samples
        assert len(samples) == photos and all(len(sample.labels) for sample in samples)
    assert as_command(monkeypatch, "kaod.data.warp") == ""
    assert len(files.read_json(profile.runs / "warped" / "rt" / "maps.json")) == left[1]


def test_predict_takes_a_thin_photo_and_many_suffixes_and_names_the_rest(inputs, tmp_path, tiny, monkeypatch, capsys):
    detector, profile = built(*tiny, "kaod", 2, 16)
    named = datasets.DataSet(["a", "b"], [1, 2], [])
    files.write_bytes(tmp_path / "model.pt", checkpoints.to_bytes(detector, profile, named, 16))
    shutil.copytree(inputs / "photos-of-many-suffixes", tmp_path / "photos")
    shutil.copy(inputs / "thin-photo.png", tmp_path / "photos")
    assert as_command(monkeypatch, "kaod.predict", tmp_path / "model.pt", tmp_path / "photos", "--least", 0, "--out",
                      tmp_path / "out") == "1"
    said = capsys.readouterr()
    assert "objects in 6 photos" in said.out and re.findall("skipped (.*)", said.err) == [
        f"{tmp_path}/photos/q.heic: a kind of picture that Pillow cannot read"]
    assert {row["file_name"] for row in files.read_json(tmp_path / "out" / "detections.json")} == {
        "p_JFIF.JFIF", "p_jfif.jfif", "p_jpe.jpe", "p_jpg.jpg", "p_mpo.mpo", "thin-photo.png"}
