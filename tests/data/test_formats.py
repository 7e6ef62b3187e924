"""DOTA's and YOLO-OBB's files, read back by plain parsers written from their public descriptions."""

import re
import shutil

import numpy as np
import pytest
import yaml
from conftest import as_command, built
from PIL import Image

from kaod import geometry
from kaod.data import datasets, formats
from kaod.training import checkpoints

CLASSES = ["small car", "dog", "Straße"]


def read_dota(path) -> list[tuple]:
    """[(corners (4, 2), class, difficult)]: x1 y1 x2 y2 x3 y3 x4 y4 category difficult, between single blanks."""
    rows = [line.split(" ") for line in path.read_text(encoding="utf-8").splitlines()]
    assert all(len(row) == 10 and row[9] in "01" for row in rows)
    return [(np.array(row[:8], float).reshape(4, 2), row[8], row[9] == "1") for row in rows]


def read_yolo(folder) -> tuple[dict, dict]:
    """{photo's path: [(class, corners (4, 2) in pixels)]}, and the classes.

    As YOLO finds them: of each photo below the folder that data.yaml names, in the text file whose path has /labels/
    in place of its last /images/, and .txt in place of the suffix.
    """
    data = yaml.safe_load((folder / "data.yaml").read_text(encoding="utf-8"))
    assert data.keys() == {"train", "val", "names"} and list(data["names"]) == list(range(len(data["names"])))
    found = {}
    for photo in sorted((folder / data["train"]).rglob("*.*")):
        with Image.open(photo) as image:
            size = image.size
        before, _, after = str(photo).rpartition("/images/")
        text = re.sub(r"\.[^.]*$", ".txt", f"{before}/labels/{after}")
        rows = [line.split() for line in open(text, encoding="utf-8")]
        corners = np.array([row[1:] for row in rows], float).reshape(-1, 4, 2)
        assert (corners >= 0).all() and (corners <= 1).all()
        found[photo.relative_to(folder / "images").as_posix()] = [
            (data["names"][int(row[0])], ring * size) for row, ring in zip(rows, corners)]
    return found, data["names"]


@pytest.fixture
def photo(tmp_path):
    """A row for `write` of a photo that is drawn, with rotated boxes: (center x, y, width, height, angle, label)."""
    def make(name: str, boxes=(), difficult=(), size=(120, 80)) -> dict:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (len(name), 0, 0)).save(path)
        boxes = np.array(boxes, float).reshape(-1, 6)
        return {"path": path, "name": name, "size": size, "corners": geometry.rotated_corners(boxes[:, :5]),
                "labels": boxes[:, 5].astype(int), "difficult": np.array(difficult or [False] * len(boxes), bool)}
    return make


def test_both_formats_come_back_as_written(photo, tmp_path):
    rows = [photo("a b/c.d.jpg", [(60, 40, 50, 20, 30, 1), (30, 30, 20, 20, -90, 3), (80, 50, 30, 10, 5, 2)],
                  [False, False, True]), photo("empty.png")]
    formats.write(tmp_path, rows, CLASSES)
    found = read_dota(tmp_path / "dota" / "labelTxt" / "a b" / "c.d.txt")
    assert [(name, hard) for _, name, hard in found] == [("small-car", False), ("Straße", False), ("dog", True)]
    assert np.allclose([ring for ring, *_ in found], rows[0]["corners"], atol=0.005)
    for ring, *_ in found:  # clockwise, as its description asks
        (x, y), (u, v) = ring[1] - ring[0], ring[2] - ring[1]
        assert x * v - y * u > 0
    assert read_dota(tmp_path / "dota" / "labelTxt" / "empty.txt") == []
    found, names = read_yolo(tmp_path / "yolo")
    assert names == dict(enumerate(CLASSES)) and found.keys() == {"a b/c.d.jpg", "empty.png"}
    assert [name for name, _ in found["a b/c.d.jpg"]] == ["small car", "Straße"]  # it has no word for difficult
    assert np.allclose([ring for _, ring in found["a b/c.d.jpg"]], rows[0]["corners"][:2], atol=1e-3)
    assert found["empty.png"] == []


def test_corners_outside_the_photo_are_cut_for_yolo_and_kept_for_dota(photo, tmp_path):
    row = photo("a.jpg", [(10, 40, 90, 60, 45, 1)])
    formats.write(tmp_path, [row], CLASSES)
    ((ring, *_),) = read_dota(tmp_path / "dota" / "labelTxt" / "a.txt")
    assert ring.min() < -20 and np.allclose(ring, row["corners"], atol=0.005)
    (((_, cut),), _) = read_yolo(tmp_path / "yolo")[0]["a.jpg"], None
    assert np.allclose(cut, row["corners"][0].clip(0, (120, 80)), atol=1e-3)


def test_each_photo_has_its_own_files_and_folders_called_images_mislead_nobody(photo, tmp_path):
    names = ["a.jpg", "a.png", "a.png.gif", "images/a.jpg", "images/b.jpg", "x/images/y/b.jpg", "images/images.png",
             "labels/b.png"]
    rows = [photo(name, [(60, 40, 50 - number, 20, 30, 1)]) for number, name in enumerate(names)]
    formats.write(tmp_path, rows, CLASSES)
    assert len(set(formats.stems(names))) == len(names) == len(list((tmp_path / "dota").rglob("*.txt")))
    found, _ = read_yolo(tmp_path / "yolo")
    assert len(found) == len(names) and {"a.jpg", "a.png.png", "b.jpg", "x/y/b.jpg", "images.png",
                                         "labels/b.png"} < found.keys()
    lengths = {name: np.linalg.norm(np.subtract(*ring[:2])) for name, ((_, ring),) in found.items()}
    for name in found:
        colour = Image.open(tmp_path / "yolo" / "images" / name).convert("RGB").getpixel((0, 0))[0]
        own = [50 - number for number, each in enumerate(names) if abs(len(each) - colour) < 2]
        assert any(lengths[name] == pytest.approx(length, abs=0.01) for length in own), name


def test_a_photo_that_is_not_there_has_text_files_alone(photo, tmp_path):
    row = photo("a.jpg", [(60, 40, 50, 20, 30, 1)])
    row["path"].unlink()
    formats.write(tmp_path, [row], CLASSES)
    assert read_yolo(tmp_path / "yolo")[0] == {} and (tmp_path / "yolo" / "labels" / "a.txt").is_file()


def test_another_run_changes_no_photo_of_the_first_also_where_links_cannot_be_made(photo, tmp_path, monkeypatch):
    first, second = photo("one/a.jpg"), photo("other one/a.jpg")
    before = [row["path"].read_bytes() for row in (first, second)]
    formats.write(tmp_path, [first | {"name": "a.jpg"}], CLASSES)

    def forbidden(*_, **__):
        raise OSError(1, "no links on this disk")

    monkeypatch.setattr("pathlib.Path.symlink_to", forbidden)
    for _ in range(2):
        formats.write(tmp_path, [second | {"name": "a.jpg"}], CLASSES)
    assert [row["path"].read_bytes() for row in (first, second)] == before != [before[0]] * 2
    copy = tmp_path / "yolo" / "images" / "a.jpg"
    assert not copy.is_symlink() and copy.read_bytes() == before[1]


@pytest.mark.parametrize("name", ["kaod", "fcos"])
def test_predict_writes_them_too_and_again(monkeypatch, photo, tiny, tmp_path, name):
    """FCOS has upright boxes alone, so these are written."""
    detector, profile = built(*tiny, name, 3, 8)
    (tmp_path / "model.pt").write_bytes(checkpoints.to_bytes(
        detector, profile, datasets.DataSet(CLASSES, [1, 2, 3], []), 8))
    paths = [photo("a b.jpg")["path"], photo("deep/c.png")["path"]]
    command = "kaod.predict", tmp_path / "model.pt", *paths, "--out", tmp_path / "out", "--least", 0
    assert as_command(monkeypatch, *command) == "" and not (tmp_path / "out" / "yolo").exists()
    for _ in range(2):
        assert as_command(monkeypatch, *command, "--formats") == ""
    found, names = read_yolo(tmp_path / "out" / "yolo")
    assert list(names.values()) == CLASSES and found.keys() == {"a b.jpg", "deep/c.png"}
    rows = (tmp_path / "out" / "detections.csv").read_text().splitlines()[1:]
    of_dota = [read_dota(path) for path in sorted((tmp_path / "out" / "dota").rglob("*.txt"))]
    assert len(rows) == sum(map(len, of_dota)) == sum(map(len, found.values())) > 0
    boxes = np.array([row.split(",")[3:12] for row in rows])
    rings = np.array([ring for each in of_dota for ring, *_ in each])
    if name == "fcos":
        assert np.allclose(rings[:, [0, 2]].reshape(-1, 4), boxes[:, :4].astype(float), atol=0.01)
    else:
        assert np.allclose(rings.mean(1), boxes[:, 4:6].astype(float), atol=0.01)
    shutil.rmtree(tmp_path / "out")
