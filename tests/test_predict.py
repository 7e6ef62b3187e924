import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import as_command, built, ring
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO

import kaod
from kaod import predict
from kaod.data import datasets, files
from kaod.training import checkpoints

CLASSES, IDS = list("abcdefg"), [1, 2, 3, 5, 8, 13, 21]


@pytest.fixture
def checkpoint(tiny, tmp_path):
    """An untrained model's file: its scores are all near .07."""
    def make(name="kaod"):
        detector, profile = built(*tiny, name, 7, 8)
        path = tmp_path / f"{name}.pt"
        path.write_bytes(checkpoints.to_bytes(detector, profile, datasets.DataSet(CLASSES, IDS, []), 8))
        return path
    return make


@pytest.fixture
def photo(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 120, 3), np.uint8))
    image.save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def same(first, second) -> bool:
    return first.keys() == second.keys() and all(np.allclose(first[key], second[key], atol=1e-3) for key in first)


def test_paths_images_arrays_and_tensors_give_the_same(checkpoint, photo):
    predictor = kaod.load(checkpoint())
    image = Image.open(photo)
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    forms = [photo, str(photo), image, np.array(image), np.array(image) / 255, tensor, tensor / 255]
    answers = predictor.predict(forms, least=0.0)
    assert len(answers[0]["scores"]) > 0 and answers[0]["masks"].shape[1:] == (100, 120)
    assert all(same(answers[0], each) for each in answers[1:])
    assert same(answers[0], predictor.predict([photo], least=0.0)[0])  # a batch equals its photos
    assert len(predictor.predict([photo], least=0.9)[0]["boxes"]) == 0
    grey = np.array(image.convert("L"))
    assert same(*predictor.predict([grey, Image.fromarray(grey)], least=0.0))
    for wrong in (torch.rand(4, 10, 10), np.zeros((10, 10, 2)), 5, torch.zeros(3, 0, 4)):
        with pytest.raises(ValueError, match="expected a path"):
            predictor.predict([wrong])
    for wrong in (np.array(image, np.uint16), tensor.float(), tensor / 255 * torch.nan):  # 0 to 255 as floats
        with pytest.raises(ValueError, match="floats from 0 to 1; got"):
            predictor.predict([wrong])
    with pytest.raises(ValueError, match="8 bits a channel; got Pillow's mode I;16"):
        predictor.predict([Image.fromarray(np.array(image.convert("L"), np.uint16))])
    for one, kind in ((str(photo), "str"), (np.array(image), "ndarray"), (tensor, "Tensor"), (grey, "ndarray")):
        with pytest.raises(ValueError, match=f"expected a list of photos; got one {kind}: put it in a list"):
            predictor.predict(one)
    assert same(predictor.predict(np.array(image)[None], least=0.0)[0], answers[0])  # a batch is a list
    assert predictor.predict([]) == []


def test_a_photo_is_read_as_a_viewer_shows_it(tmp_path, photo):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    Image.open(photo).save(tmp_path / "turned.png", exif=exif)
    assert predict.read(tmp_path / "turned.png").shape == (3, 120, 100)


def test_the_command_writes_pictures_json_and_csv_and_names_a_bad_photo(checkpoint, photo, tmp_path):
    folder = tmp_path / "photos" / "deeper"
    folder.mkdir(parents=True)
    for name in ("000000000042.png", "other.png"):
        (folder / name).write_bytes(photo.read_bytes())
    (folder / "broken.jpg").write_bytes(photo.read_bytes()[:200])
    (folder / "notes.txt").write_text("not a photo")
    answer = subprocess.run([sys.executable, "-m", "kaod.predict", checkpoint(), tmp_path / "photos",
                             tmp_path / "ph*.png", "--out", tmp_path / "out", "--least", "0"], cwd=kaod.ROOT,
                            capture_output=True, text=True)
    assert answer.returncode == 1 and "Traceback" not in answer.stderr, answer.stderr
    assert f"skipped {folder / 'broken.jpg'}: not a readable photo" in answer.stderr
    assert {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")} == {
        "photos/deeper/000000000042.png", "photos/deeper/other.png", "photo.png", "detections.json", "detections.csv"}
    with Image.open(tmp_path / "out" / "photo.png") as picture:
        assert picture.size == (480, 400 + 26)  # and a legend
    rows = files.read_json(tmp_path / "out" / "detections.json")
    assert {row["image_id"] for row in rows if row["file_name"] == "photos/deeper/000000000042.png"} == {42}
    assert len((tmp_path / "out" / "detections.csv").read_text().splitlines()) == len(rows) + 1
    truth = COCO()
    truth.dataset = {"images": [{"id": each} for each in {row["image_id"] for row in rows}], "annotations": [],
                     "categories": [{"id": number, "name": name} for number, name in zip(IDS, CLASSES)]}
    truth.createIndex()
    loaded = truth.loadRes(rows)
    assert {row["category_id"] for row in rows} <= set(IDS)
    assert all(CLASSES[IDS.index(row["category_id"])] == row["category_name"] for row in rows)
    assert len(loaded.dataset["annotations"]) == len(rows) and len(rows[0]["keypoints"]) == 3 * 8
    assert rle.decode(rows[0]["segmentation"]).shape == (100, 120)


def test_the_command_with_fcos_and_with_wrong_input(monkeypatch, checkpoint, photo, tmp_path):
    command = "kaod.predict", checkpoint("fcos"), photo, "--out", tmp_path / "out", "--least", 0
    assert as_command(monkeypatch, *command) == ""
    row = files.read_json(tmp_path / "out" / "detections.json")[0]
    assert "keypoints" not in row and "segmentation" not in row and len(row["bbox"]) == 4
    (tmp_path / "file").touch()
    for arguments, message in (((checkpoint(), tmp_path / "none"), "no such file"),
                               ((photo, photo), "not a checkpoint"),
                               ((checkpoint(), photo, "--least", "nan"), "least: expected a score from 0 to 1; got"),
                               ((checkpoint(), photo, "--device", "gpu"), "device 'gpu' cannot be used here"),
                               ((checkpoint(), photo, "--out", tmp_path / "file" / "out"), "Not a directory"),
                               ((checkpoint(), photo, "--out", tmp_path), f"{photo} lies in the folder for results")):
        assert re.match(f"kaod.predict: .*{re.escape(message)}", as_command(monkeypatch, "kaod.predict", *arguments))


def test_no_photo_is_overwritten_and_each_has_its_own_picture_name_and_id(monkeypatch, checkpoint, photo, tmp_path):
    names = ("x/p.png", "y/p.png", "z/p.gif", "z/p.png", "z/p.png.png", "z/2.png", "1.png", "y/1.png")
    paths = [tmp_path / "photos" / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo.read_bytes())
    out = tmp_path / "out"
    again = tmp_path / "photos" / "x" / ".." / "x"
    assert as_command(monkeypatch, "kaod.predict", checkpoint(), *paths, again, "--out", out, "--least", 0) == ""
    assert {path.relative_to(out).as_posix() for path in out.rglob("*.png")} == {
        "x/p.png", "y/p.png", "z/p.png", "z/p.png.png", "z/p.png.png.png", "z/2.png", "1.png", "y/1.png"}
    rows = files.read_json(out / "detections.json")
    ids = {row["file_name"]: row["image_id"] for row in rows}
    assert set(ids) == set(names) and len(set(ids.values())) == len(names) and ids["z/2.png"] == 2
    assert all(path.read_bytes() == photo.read_bytes() for path in paths)


def test_a_folder_gives_every_kind_that_pillow_reads_and_the_rest_is_named(monkeypatch, checkpoint, photo, tmp_path,
                                                                         capsys):
    image, folder = Image.open(photo).convert("RGB"), tmp_path / "photos"
    (folder / "deeper").mkdir(parents=True)
    names = ("a.jfif", "b.JFIF", "c.jpe", "deeper/d.mpo", "e.Png")
    for name in names:
        image.save(folder / name, "PNG" if name.endswith("Png") else "JPEG")
    for name in ("q.heic", "deeper/a.xml", "notes.txt", "Thumbs"):
        (folder / name).write_text("?")
    (folder / "link").symlink_to(folder)
    command = "kaod.predict", checkpoint(), folder, "--out", tmp_path / "out", "--least", 0
    assert as_command(monkeypatch, *command) == "1"
    assert {row["file_name"] for row in files.read_json(tmp_path / "out" / "detections.json")} == set(names)
    *_, link, heic, rest = capsys.readouterr().err.strip().splitlines()
    assert link == f"skipped {folder / 'link'}: a folder that cannot be read, or a link to one"
    assert heic == f"skipped {folder / 'q.heic'}: a kind of picture that Pillow cannot read"
    assert rest == "not looked at: 3 files of other kinds (.txt, .xml, Thumbs)"


def test_a_folder_that_cannot_be_read_is_named(photo, monkeypatch):
    scandir, closed = predict.os.scandir, photo.parent / "closed"
    closed.mkdir()

    def forbidden(path):
        if str(path) == str(closed):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(predict.os, "scandir", forbidden)
    found, others = predict.find([str(photo.parent)])
    assert found == [photo] and others == [closed]
    assert predict.left_out(closed) == f"{closed}: a folder that cannot be read, or a link to one"
    with pytest.raises(ValueError, match="closed: no photos in this folder that can be read"):
        predict.find([str(closed)])


def test_thin_photos_are_searched_and_what_fails_takes_nothing_else_along(checkpoint, tmp_path, monkeypatch, capsys):
    sizes = {"a": (2, 400), "b": (1, 3000), "c": (3000, 1), "d": (1, 1), "e": (50, 40)}
    for name, size in sizes.items():
        Image.new("RGB", size, "grey").save(tmp_path / f"{name}.png")
    best = predict.photos.best

    def without_memory(found, *given):
        if found["masks"].shape[1:] == (40, 50):
            raise RuntimeError("not enough memory: you tried to allocate 9 bytes\nand more")
        return best(found, *given)

    monkeypatch.setattr(predict.photos, "best", without_memory)
    paths = [tmp_path / f"{name}.png" for name in sizes]
    assert as_command(monkeypatch, "kaod.predict", checkpoint(), *paths, "--out", tmp_path / "out", "--least", 0) == "1"
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1] == f"skipped {tmp_path / 'e.png'}: not enough memory: you tried to allocate 9 bytes"
    assert {path.stem for path in (tmp_path / "out").glob("*.png")} == {*"abcd"}
    rows = files.read_json(tmp_path / "out" / "detections.json")
    assert {row["file_name"] for row in rows} == {f"{name}.png" for name in "abcd"}


def test_background_is_no_detection(checkpoint, photo):
    """torchvision's FCOS scores it as a class of its own, 0; an untrained model finds it everywhere."""
    predictor = kaod.load(checkpoint())
    logits = predictor.detector.head.classification_head.cls_logits
    torch.nn.init.normal_(logits.weight[:2], std=0.3)  # background and the first class, each here and there the best
    found = predictor.predict([photo], least=0.0)[0]
    with torch.inference_mode():
        every = predictor.detector([predict.read(photo)])[0]
    assert 0 in every["labels"] and found["labels"].min() > 0
    assert len(found["labels"]) == len(found["masks"]) == (every["labels"] > 0).sum()


def test_every_output_follows_from_the_keypoints():
    points = np.stack((ring((50, 40), 20), np.full((16, 2), 7.0), ring((2, 40), 20)))
    found = {"boxes": np.zeros((3, 4)), "scores": np.ones(3), "labels": np.ones(3, int), "keypoints": points}
    told = predict.describe(found, (100, 80))
    assert told["rotated_corners"].shape == (3, 4, 2) and told["rotated_boxes"].shape == (3, 5)
    assert told["masks"].shape == (3, 80, 100) and told["masks"].sum((1, 2)).tolist()[1] == 0
    assert 0 < told["masks"][2].sum() < told["masks"][0].sum()  # cut at the image's border
    assert np.allclose(told["rotated_boxes"][0, :2], (50, 40))
    assert np.allclose(told["rotated_boxes"][1], (7, 7, 0, 0, 0))


def test_without_three_keypoints_there_is_no_rotated_box():
    found = {"boxes": np.zeros((1, 4)), "scores": np.ones(1), "labels": np.ones(1, int)}
    assert predict.describe(found, (100, 80)) == found
    two = found | {"keypoints": np.array([[(0, 0), (9, 9.0)]])}
    assert predict.describe(two, (100, 80)).keys() == two.keys()


def test_keypoints_are_in_the_photos_own_pixels(tiny):
    """A photo of twice the size is resized to the same input, and its boxes and keypoints come back twice as large."""
    detector = built(*tiny, "kaod", 7, 8)[0].eval()
    detector.score_thresh = 0.0
    small = torch.rand(3, 64, 64)
    large = small.repeat_interleave(2, 1).repeat_interleave(2, 2)
    detector.transform.min_size, detector.transform.max_size = (64,), 64
    ours, twice = detector([small, large])
    best = {name: each["keypoints"][each["scores"].argmax()] for name, each in (("1", ours), ("2", twice))}
    assert best["1"].shape == (8, 2) and twice["boxes"].max() <= 128 and ours["boxes"].max() <= 64
    assert torch.allclose(twice["keypoints"].amax() / ours["keypoints"].amax(), torch.tensor(2.0), rtol=0.1)


def test_keypoints_at_known_objects_lie_around_their_centres(tmp_path, tiny, drawn):
    samples, classes = drawn
    detector = built(*tiny, "kaod", len(classes), 16)[0].eval()
    seen = 0
    for sample in samples:
        for number, points in predict.at_objects(detector, sample).items():
            x1, y1, x2, y2 = sample.boxes[number]
            off = np.abs(points.mean(0) - ((x1 + x2) / 2, (y1 + y2) / 2))
            assert points.shape == (16, 2) and off.max() < 24  # a location near the centre, and a circle around it
            seen += 1
    assert seen > len(samples)
