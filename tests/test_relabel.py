"""Upright boxes in, rotated boxes and masks out: what is read off, what is written, and what bad input gets."""

import functools
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlparse

import numpy as np
import pytest
import shapely
import torch
from conftest import as_command, built, sample
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from layouts import write_voc
from PIL import Image

import kaod
from kaod import geometry, losses, model, relabel
from kaod.data import datasets, files, formats, labelled, voc
from kaod.figures import page
from kaod.training import checkpoints

CLASSES = list("abcdefg")
SIZE = (128, 96)  # of the tests' photos: width and height


@pytest.fixture
def detector(tiny):
    return built(*tiny, "kaod", 7, 8)[0].eval()


@pytest.fixture
def checkpoint(tiny, tmp_path):
    """An untrained model's file; its keypoints are nearly a circle around each location. k: how many."""
    @functools.cache
    def make(name: str = "kaod", k: int = 8):
        made, profile = built(*tiny, name, 7, k)
        path = tmp_path / f"{name}-{k}.pt"
        path.write_bytes(checkpoints.to_bytes(made, profile, datasets.DataSet(CLASSES, list(range(1, 8)), []), k))
        return path
    return make


def ellipse(box, count: int = 8, first: float = 0.1) -> np.ndarray:
    """Points (count, 2) on the ellipse inscribed in a box."""
    x1, y1, x2, y2 = box
    turn = first + np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.array([x1 + x2, y1 + y2]) / 2 + np.stack((np.cos(turn), np.sin(turn)), 1) * (x2 - x1, y2 - y1) / 2


# ---------------------------------------------------------------- reading

def turning(detector, points: np.ndarray, boxes: np.ndarray, size, drift: float = 0.0):
    """`detector.views` of an oracle: each location of a view T gives T of the keypoints (n, K, 2) of the object that
    FCOS has it learn: the smallest of those whose size is its level's, and whose centre is near. points, boxes: on the
    photo of `size`. drift: how far they move along with the location, away from the object's centre."""
    def views(images, T, fill, first):
        sizes = geometry.photo_sizes(images)
        scale = sizes[0] / torch.tensor(size)
        grids = [(images.tensors.shape[2] // stride, images.tensors.shape[3] // stride) for stride in model.STRIDES]
        anchors = detector.anchor_generator(images, [torch.zeros(len(T), 1, *grid) for grid in grids])[0]
        on_photo = torch.tensor(points, dtype=torch.float32) * scale
        around = torch.tensor(boxes, dtype=torch.float32) * scale.repeat(2)
        o_T = geometry.centers(anchors)
        o = geometry.transform(geometry.inverse(T), o_T)[:, :, None]  # (N, L, 1, 2)
        ends = torch.cat((o - around[:, :2], around[:, 2:] - o), -1)  # (N, L, n, 4)
        side = anchors[:, 2:3] - anchors[:, :1]
        near = (o - geometry.centers(around)).abs().amax(-1) < detector.center_sampling_radius * side
        least, most = (times * torch.where(side == end, no_end, side) for times, end, no_end in (
            (4, side.min(), 0.0), (8, side.max(), torch.inf)))
        seen = near & (ends > 0).all(-1) & (ends.amax(-1) > least) & (ends.amax(-1) < most)
        nearest = torch.where(seen, (around[:, 2:] - around[:, :2]).prod(1), torch.inf).argmin(-1)  # (N, L)
        on_view = geometry.transform(T[:, None], on_photo)  # (N, n, K, 2)
        chosen = on_view[torch.arange(len(T))[:, None], nearest]
        chosen = chosen + drift * (o_T[:, None] - chosen.mean(2, keepdim=True))
        offsets = (chosen - o_T[:, None]) / (anchors[:, 2:] - anchors[:, :2])[:, None]
        return losses.Views({}, {"offsets": offsets, "cls_logits": torch.zeros(*nearest.shape, 8),
                                 "bbox_ctrness": torch.zeros(*nearest.shape, 1)}, T, sizes, anchors, grids)
    return views


@pytest.mark.parametrize("size", [(128, 128), (120, 90), (300, 200), (50, 61)])  # the last three are resized
def test_points_that_turn_with_the_objects_come_back_to_where_they_were_in_every_view(detector, size):
    """Several objects at once; the second, which is smaller, covers the first one's centre."""
    shares = np.array([(0.2, 0.2, 0.8, 0.8), (0.38, 0.24, 0.9, 0.76), (0.1, 0.3, 0.3, 0.6)])
    boxes = shares * (size * 2)
    points = np.array([ellipse(box, first=number) for number, box in enumerate(boxes)])
    detector.views = turning(detector, points, boxes, size)
    given = torch.tensor(boxes, dtype=torch.float32), torch.tensor([1, 2, 1])
    found = relabel.read(detector, torch.zeros(3, *size[::-1]), *given)
    assert [len(each) for each in found] == [relabel.TURNS] * 3
    for views, each in zip(found, points):
        assert np.allclose(views, each, atol=1e-3 * max(size))


def test_an_object_is_read_at_the_location_nearest_its_centre(detector):
    boxes = np.array([(45.0, 48, 75, 70)])
    points = ellipse(boxes[0])
    detector.views = turning(detector, points[None], boxes, (128, 128), drift=1.0)
    (found,) = relabel.read(detector, torch.zeros(3, 128, 128), torch.tensor(boxes).float(), torch.tensor([1]))
    off = np.linalg.norm((found - points).mean(1), axis=1)
    assert len(off) == relabel.TURNS and off.max() <= model.STRIDES[0] / 2 ** 0.5 and off.max() > 1


def test_an_object_is_not_read_where_smaller_ones_cover_it_or_it_left_the_frame(detector):
    boxes = np.array([(40.0, 40, 70, 70), (39.5, 39.5, 70.5, 70.5), (1, 1, 60, 12)])
    detector.views = turning(detector, np.array([ellipse(box) for box in boxes]), boxes, (128, 128))
    found = relabel.read(detector, torch.zeros(3, 128, 128), torch.tensor(boxes).float(), torch.tensor([1, 1, 1]))
    assert len(found[0]) == relabel.TURNS and found[1].shape == (0, 8, 2) and 0 < len(found[2]) < relabel.TURNS


# ---------------------------------------------------------------- the outline, the rotated box, and the score

POINTS = arrays(np.float64, (8, 2), elements=st.integers(0, 1000).map(float)).filter(
    lambda points: np.ptp(points, axis=0).min() >= 1)
BOXES = st.tuples(st.floats(-50, 50), st.floats(-50, 50), st.floats(1, 500), st.floats(1, 500)).map(
    lambda each: np.array([each[0], each[1], each[0] + each[2], each[1] + each[3]]))


def extent(points) -> np.ndarray:
    return np.concatenate((points.min(0), points.max(0)))


def reach(points) -> np.ndarray:
    """How far points (P, 2) go in each direction, which says what their hull is."""
    return (points @ relabel.DIRECTIONS.T).max(0)


@given(points=POINTS, box=BOXES)
def test_the_outline_of_one_view_is_its_hull_with_the_box_as_extent(points, box):
    same = relabel.fitted(relabel.mean_hull(points[None]), extent(points))
    assert np.allclose(reach(same), reach(points), atol=1e-9)
    outline = relabel.fitted(relabel.mean_hull(points[None]), box)
    assert np.allclose(extent(outline), box, atol=1e-9)
    (every, drawn) = (shapely.convex_hull(shapely.multipoints(each)) for each in (
        relabel.fitted(points, box), outline))
    assert drawn.difference(every.buffer(1e-6)).area < 1e-6 and drawn.area > 0.97 * every.area - 1e-6


@given(first=POINTS, second=POINTS)
def test_the_mean_of_two_views_is_minkowskis(first, second):
    between = (first[:, None] + second).reshape(-1, 2) / 2  # its hull is the mean of the hulls
    found = relabel.fitted(relabel.mean_hull(np.stack((first, second))), extent(between))
    assert np.allclose(reach(found), reach(between), atol=1e-6)


def test_the_score_is_one_where_all_views_agree_and_falls_as_they_differ():
    long = np.array([(-40, -8), (40, -8), (40, 8), (-40, 8)]) + (40, 40)
    turned = [geometry.transform(geometry.rigid(*map(torch.tensor, (angle, (0.0, 0), (40.0, 40)))),
                                 torch.tensor(long).float()).numpy().astype(float) for angle in range(0, 91, 5)]
    box, scores = extent(turned[9]), []
    for apart in range(7):
        views = np.stack([turned[9 - apart], turned[9], turned[9 + apart]])
        corners, score = relabel.rotated_box(views, relabel.mean_hull(views), box, True)
        assert corners.shape == (4, 2)
        scores.append(score)
    assert relabel.rotated_box(long[None], long, box, True)[1] == 0  # nothing that could agree
    assert scores[0] == pytest.approx(1, abs=1e-4) and scores == sorted(scores, reverse=True) and scores[-1] < 0.8


# ---------------------------------------------------------------- the command

@pytest.fixture
def photos(tmp_path):
    """Draws NAME.jpg for each name into the folder of a COCO set, and gives the set's path."""
    def draw(*names, size=SIZE):
        image = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
        for name in names:
            path = tmp_path / "data" / "set" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
        return tmp_path / "data" / "annotations" / "instances_set.json"
    return draw


def written(path, images, annotations, **more) -> dict:
    """A COCO file of photos [(id, name)] and objects [(id, photo's id, category, box as x y w h, more keys)]."""
    content = {"info": {"year": 2020, "contributor": "Zoë"}, "licenses": [{"id": 7, "url": "x"}], "odd": [1, None],
               "images": [{"id": number, "file_name": name, "width": SIZE[0], "height": SIZE[1], "license": 7}
                          for number, name in images],
               "categories": [{"id": 30 - number, "name": name, "supercategory": "letter", "colour": [1, 2]}
                              for number, name in enumerate([*CLASSES, "unheard of"])],
               "annotations": [{"id": number, "image_id": image, "category_id": category, "bbox": box, **keys}
                               for number, image, category, box, keys in annotations]} | more
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return content


GOOD = [("b", 2, 30, [20, 20, 40, 30], {"attributes": {"occluded": True}}), (11, 2, 29, [70, 50, 30, 40], {"area": 3}),
        (3, 1, 28, [30.5, 10.25, 60, 70], {"segmentation": [], "score": "of old", "unsure": "of old"})]
IMAGES = [(2, "deep er/a b.jpg"), (1, "c.jpg"), (9, "empty.jpg")]


def test_all_is_written_and_all_else_of_the_file_is_kept(monkeypatch, checkpoint, photos, tmp_path, capsys):
    path = photos(*(name for _, name in IMAGES))
    before, out = written(path, IMAGES, GOOD), tmp_path / "out"
    assert as_command(monkeypatch, "kaod.relabel", checkpoint(), path, "--out", out) == ""
    assert "3 of 3 objects in 3 photos" in capsys.readouterr().out
    assert {each.relative_to(out).as_posix() for each in out.rglob("*") if not each.is_dir()} == {
        "annotations.json", "left.txt", "sheet.png", "page.html", "yolo/data.yaml",
        *(f"{folder}/{name}" for folder, suffix in (("dota/labelTxt", "txt"), ("yolo/labels", "txt"),
                                                    ("yolo/images", "jpg"))
          for name in (f"deep er/a b.{suffix}", f"c.{suffix}", f"empty.{suffix}"))}
    after = json.loads((out / "annotations.json").read_text())
    assert [(key, value) for key, value in after.items() if key != "annotations"] == [
        (key, value) for key, value in before.items() if key != "annotations"]
    assert (out / "left.txt").read_text() == ""
    for old, new in zip(before["annotations"], after["annotations"], strict=True):
        assert new.keys() == old.keys() - {"unsure"} | {"segmentation", "rotated_box", "score"}
        assert all(new[key] == value for key, value in old.items() if key not in ("segmentation", "score", "unsure"))
        x, y, width, height = old["bbox"]
        (ring,) = new["segmentation"]
        assert np.allclose(extent(np.reshape(ring, (-1, 2))), (x, y, x + width, y + height), atol=0.01)
        assert 0 < new["score"] <= 1 and new["rotated_box"][2] >= new["rotated_box"][3] > 0
    with Image.open(out / "sheet.png") as sheet:
        assert np.asarray(sheet.convert("L")).std() > 5


class Page(HTMLParser):
    """What a browser would find: the photos that it loads, and for each its objects' titles and its lines' points."""

    def __init__(self, text: str):
        super().__init__()
        self.photos, self.titles, self.lines, self.inside = [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given, self.inside = dict(attributes), tag == "title" and bool(self.photos)
        if tag == "img":
            self.photos.append(Path(unquote(urlparse(given["src"]).path)))
            self.titles.append([])
            self.lines.append([])
        elif tag == "polygon":
            points = [tuple(map(float, each.split(","))) for each in given["points"].split()]
            self.lines[-1].append(np.array(points))

    def handle_data(self, text):
        if self.inside:
            self.titles[-1].append(text)
            self.inside = False


def test_the_page_has_each_photo_with_the_least_sure_first(tmp_path):
    odd, box = 'a "b" <i>&.jpg', np.array([10.0, 20, 50, 60])
    names, objects = (odd, "unsure.jpg", "empty.jpg", "sure.jpg"), [[labelled.Object(n, 1, box)] for n in range(4)]
    for [each], score in zip(objects, (0.4, 0.0, 0.0, 0.9)):
        each.score, each.outline, each.corners = score, ellipse(box), geometry.corners(box) + 1
    objects[1][0].unsure, objects[2] = "cut by the <frame>", []
    kept = [labelled.Photo(sample([], [], size=SIZE, path=tmp_path / name), name, each)
            for name, each in zip(names, objects)]
    found = Page(page.page(labelled.Labelled({}, ["x & y"], kept, [])))
    assert found.photos == [tmp_path / "unsure.jpg", tmp_path / odd, tmp_path / "sure.jpg"]
    assert found.titles == [["x & y: cut by the <frame>"], ["x & y: 0.40"], ["x & y: 0.90"]]
    expected = (geometry.corners(box), ellipse(box), geometry.corners(box) + 1)
    for lines in found.lines:
        for points, wanted in zip(lines, expected, strict=True):
            assert np.allclose(points, wanted, atol=0.051)


def bad(photos) -> tuple:
    """A set with each kind of fault, and what is said of it: (path, content, {(photo, object): reason})."""
    path = photos("all.jpg", "good.jpg", "size.jpg")
    with Image.open(path.parents[1] / "set" / "size.jpg") as image:
        image.resize((64, 48)).save(path.parents[1] / "set" / "size.jpg")
    content = written(path, [(1, "all.jpg"), (2, "gone.jpg"), (3, "size.jpg"), (4, "good.jpg")], [
        (1, 1, 30, [40, 40, 30, 30], {}), (2, 1, 30, [39.5, 39.5, 31, 31], {}),  # the first covers the second
        (3, 1, 30, [0.5, 40, 30, 30], {}), (4, 1, 29, [80, 10, 30, 40], {"iscrowd": 1}),
        (5, 1, 23, [80, 50, 30, 40], {"segmentation": [[80, 50, 110, 50, 95, 90]]}), (6, 1, 30, None, {}),
        (7, 2, 30, [40, 40, 30, 30], {}), (8, 3, 29, [40, 40, 30, 30], {}), (9, 4, 28, [40, 40, 30, 30], {}),
        (10, 5, 30, [40, 40, 30, 30], {})])
    keeps = "keeps its upright box: "
    return path, content, {
        ("all.jpg", "2 (a)"): f"{keeps}no location of the network sees it",
        ("all.jpg", "3 (a)"): f"{keeps}cut by the frame", ("all.jpg", "4 (b)"): f"{keeps}it is a crowd",
        ("all.jpg", "5 (unheard of)"): f"{keeps}the model does not know its class",
        ("all.jpg", "6"): "bbox is missing; expected four finite numbers",
        ("gone.jpg", "7 (a)"): f"{keeps}its photo cannot be read",
        ("size.jpg", "8 (b)"): f"{keeps}its photo cannot be read",
        ("instances_set.json", "10"): "image_id is 5, which no image that can be read has"}


def test_bad_input_gets_a_line_each_and_the_rest_is_written_whole(monkeypatch, checkpoint, photos, tmp_path, capsys):
    path, before, reasons = bad(photos)
    assert as_command(monkeypatch, "kaod.relabel", checkpoint(), path, "--out", tmp_path / "out") == "1"
    said = capsys.readouterr()
    lines = (tmp_path / "out" / "left.txt").read_text().splitlines()
    assert lines == [line for line in said.err.splitlines() if line in lines]
    assert "2 of 8 objects in 4 photos" in said.out
    for (photo, name), reason in reasons.items():
        pattern = rf"\S*/{photo}: annotation {re.escape(name)}:? {re.escape(reason)}.*"
        assert sum(bool(re.fullmatch(pattern, line)) for line in lines) == 1, (pattern, lines)
    of_photos = {"gone.jpg: not a readable photo", "size.jpg: 64×48 pixels, but its annotation says 128×96"}
    assert all(sum(each in line for line in lines) == 1 for each in of_photos)
    assert len(lines) == len(reasons) + len(of_photos)
    after = files.read_json(tmp_path / "out" / "annotations.json")["annotations"]
    for old, new in zip(before["annotations"], after, strict=True):
        assert all(new[key] == value for key, value in old.items())
        if old["id"] in (6, 10):  # what cannot be read is left alone
            assert new == old
        elif old["id"] in (1, 9):
            assert "unsure" not in new
        else:
            x, y, width, height = old["bbox"]
            assert new["unsure"] in {reason.split(": ")[-1] for reason in reasons.values()} and new["score"] == 0
            assert new["rotated_box"][:4] == [x + width / 2, y + height / 2, max(width, height), min(width, height)]
            assert new["rotated_box"][4] % 90 == 0
    assert after[4]["segmentation"] == before["annotations"][4]["segmentation"]  # somebody drew it
    assert len(after[2]["segmentation"][0]) > 8 and len(after[3]["segmentation"][0]) == 8  # cut by the frame; a crowd
    out = tmp_path / "out"
    assert len((out / "dota" / "labelTxt" / "all.txt").read_text().splitlines()) == 5
    assert {each.name for each in (out / "yolo" / "images").iterdir()} == {"all.jpg", "size.jpg", "good.jpg"}


def test_what_the_pipeline_wrote_as_difficult_is_no_crowd(photos):
    path = photos("a.jpg")
    written(path, [(1, "a.jpg")], [(1, 1, 30, [20, 20, 40, 30], {"iscrowd": 1, "difficult": 1})])
    (photo,) = labelled.read(path, None).photos
    assert photo.objects[0].difficult and photo.objects[0].unsure is None


def test_an_id_a_name_or_a_category_in_another_form_is_found(photos):
    path = photos("deep/a.jpg")
    written(path, [("1.0", "deep\\a.jpg")], [(1, "1.0", "5", [20, 20, 40, 30], {})],
            categories=[{"id": "5", "name": " cat "}, {"id": 5, "name": "cat"}, {"id": 6, "name": "dog"}])
    data = labelled.read(path, None)
    assert data.faults == [] and data.classes == ["cat", "dog"] and data.photos[0].name == "deep/a.jpg"
    assert data.content["categories"][0] == {"id": "5", "name": " cat "} and len(data.photos[0].objects) == 1


def test_scores_below_the_least_keep_their_box(monkeypatch, checkpoint, photos, tmp_path):
    path = photos("c.jpg")
    written(path, [(1, "c.jpg")], GOOD[2:])
    command = "kaod.relabel", checkpoint(), path, "--out", tmp_path / "out", "--least", 1
    assert as_command(monkeypatch, *command) == "1"
    (found,) = files.read_json(tmp_path / "out" / "annotations.json")["annotations"]
    assert found["unsure"] == "its score is below 1" and 0 < found["score"] <= 1
    assert found["rotated_box"] == [60.5, 45.25, 70, 60, -90] and not (tmp_path / "out" / "sheet.png").exists()


def contents(folder) -> dict:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_fails_on_the_way_leaves_the_old_result_as_it_was(monkeypatch, checkpoint, photos, tmp_path):
    path = photos(*(name for _, name in IMAGES))
    written(path, IMAGES, GOOD)
    command = "kaod.relabel", checkpoint(), path, "--out", tmp_path / "out"
    assert as_command(monkeypatch, *command) == ""
    before, around = contents(tmp_path / "out"), set(tmp_path.iterdir())
    written(path, IMAGES, GOOD[:1])

    def failing(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(formats, "yolo", failing)  # in the middle of writing
        as_command(patched, *command)
    assert contents(tmp_path / "out") == before and set(tmp_path.iterdir()) == around
    assert as_command(monkeypatch, *command) == "" and contents(tmp_path / "out") != before


def test_a_photo_that_cannot_be_computed_takes_nothing_else_along(monkeypatch, checkpoint, photos, tmp_path, capsys):
    path = photos(*(name for _, name in IMAGES))
    written(path, IMAGES, GOOD)
    read = relabel.read

    def without_memory(detector, photo, boxes, labels):
        if len(boxes) == 2:
            raise RuntimeError("not enough memory: you tried to allocate 9 bytes\nand more")
        return read(detector, photo, boxes, labels)

    monkeypatch.setattr(relabel, "read", without_memory)
    monkeypatch.setattr("sys.argv", ["kaod.relabel", *map(str, (checkpoint(), path, "--out", tmp_path / "out"))])
    assert relabel.main() == 1
    assert "1 of 3 objects" in (said := capsys.readouterr()).out
    assert "a b.jpg: not enough memory: you tried to allocate 9 bytes\n" in said.err


def test_somebody_elses_folder_is_not_written_to(monkeypatch, checkpoint, photos, tmp_path):
    path, out = photos("c.jpg"), tmp_path / "theirs"
    written(path, [(1, "c.jpg")], GOOD[2:])
    out.mkdir()
    command = "kaod.relabel", checkpoint(), path, "--out"
    for names in (["notes.txt"], ["annotations.json"], ["annotations.json", "photo.jpg"],
                  ["annotations.json", "left.txt", "photo.jpg"]):
        for name in names:
            (out / name).write_text("theirs")
        before = contents(out)
        assert as_command(monkeypatch, *command, out).endswith(
            "theirs: expected a new folder, or one that this command wrote")
        assert contents(out) == before
        for each in out.iterdir():
            each.unlink()
    assert as_command(monkeypatch, *command, out) == ""  # empty now


def test_wrong_arguments_end_in_one_line_before_anything_is_done(monkeypatch, checkpoint, photos, tmp_path):
    path, flat, few = photos("c.jpg"), tmp_path / "a.txt", "expected a model with three keypoints or more"
    written(path, [(1, "c.jpg")], GOOD[2:])
    flat.write_text("c")
    (tmp_path / "wrong.json").write_text("{}")
    photo = path.parents[1] / "set" / "c.jpg"
    for arguments, message in (
            ((checkpoint("fcos"), path), few), ((checkpoint(k=2), path), few),
            ((photo, path), "not a checkpoint"), ((checkpoint(), tmp_path / "none.json"), "none.json: no such file"),
            ((checkpoint(), tmp_path / "wrong.json"), "wrong.json: not a COCO annotation file"),
            ((checkpoint(), flat), "a.txt: expected a COCO file, or a VOC set's list"),
            ((checkpoint(), path, "--photos", tmp_path / "none"), "none: no such folder; --photos names"),
            ((checkpoint(), path, "--truth", tmp_path / "none.json"), "none.json: no such file"),
            ((checkpoint(), path, "--truth", path), "none of its annotations has an outline"),
            ((checkpoint(), path, "--least", 1.1), "--least: expected a score from 0 to 1"),
            ((checkpoint(), path, "--least", "nan"), "--least: expected a score from 0 to 1")):
        said = as_command(monkeypatch, "kaod.relabel", *arguments, "--out", tmp_path / "out")
        assert re.match(f"kaod.relabel: .*{re.escape(message)}", said) and not (tmp_path / "out").exists(), said


def test_a_file_of_another_name_and_photos_elsewhere(monkeypatch, checkpoint, photos, tmp_path):
    path = photos("c.jpg")
    written(tmp_path / "deep" / "annotations" / "all.json", [(1, "c.jpg")], GOOD[2:])
    command = "kaod.relabel", checkpoint(), tmp_path / "deep" / "annotations" / "all.json", "--out", tmp_path / "out"
    assert "or --photos" in as_command(monkeypatch, *command)
    assert as_command(monkeypatch, *command, "--photos", path.parents[1] / "set") == ""


# ---------------------------------------------------------------- VOC

def test_vocs_masks_number_the_objects_as_the_annotation_does(monkeypatch, checkpoint, tmp_path, capsys):
    """Also where one of its objects cannot be read, or is difficult, and where the photo has another suffix."""
    boxes = [(10, 10, 40, 40), (50, 12, 90, 50), (10, 50, 45, 90), (60, 55, 110, 90)]
    sample = datasets.Sample("deep/photo.jpg", SIZE, np.array(boxes, np.float32), np.array([1, 2, 3, 2]),
                             np.array([False, False, True, False]), [[]] * 4)
    root = tmp_path / "devkit"
    write_voc(root, "own/set", [sample], [Image.effect_noise(SIZE, 60).convert("RGB")], CLASSES)
    annotation = root / "own" / "Annotations" / "photo.xml"
    annotation.write_text(annotation.read_text().replace("<xmin>51.00", "<xmin>?"))
    listing, out = root / "own" / "ImageSets" / "Main" / "set.txt", tmp_path / "out"
    assert as_command(monkeypatch, "kaod.relabel", checkpoint(), listing, "--out", out) == "1"
    assert re.search(r"photo.xml: object 2: bndbox/xmin is '\?'", capsys.readouterr().err)
    found = voc.outlines(out / "SegmentationObject" / "photo.png")
    assert found.keys() == {1, 3, 4}
    for number, rings in found.items():
        assert np.allclose(extent(np.concatenate(rings)), boxes[number - 1], atol=1)
    with Image.open(out / "SegmentationClass" / "photo.png") as image, Image.open(
            out / "SegmentationObject" / "photo.png") as instances:
        kinds, objects = np.asarray(image), np.asarray(instances)
        assert image.mode == "P" and image.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
    content = files.read_json(out / "annotations.json")
    names = [item["name"] for item in content["categories"]]
    assert names == ["a", "b", "c"]  # those that occur, by name; 2 objects are of b
    assert {(number, names[kind - 1]) for number, kind in zip(objects[objects > 0], kinds[objects > 0])} == {
        (1, "a"), (3, "c"), (4, "b")}
    assert [item["difficult"] for item in content["annotations"]] == [0, 1, 0]
    assert not any("unsure" in item for item in content["annotations"])
    assert (out / "dota" / "labelTxt" / "photo.txt").read_text().splitlines()[1].endswith("c 1")
    assert len((out / "yolo" / "labels" / "photo.txt").read_text().splitlines()) == 2


def test_a_small_object_is_in_front_and_what_has_no_number_is_left_out(tmp_path):
    large, small = ellipse((10, 10, 90, 90), 64), ellipse((40, 40, 60, 60), 64)
    formats.voc(tmp_path, "a", [small, large, small + 30], [1, 2, 3], [1, 2, 255], SIZE)
    found = voc.outlines(tmp_path / "SegmentationObject" / "a.png")
    assert found.keys() == {1, 2}
    assert np.allclose(extent(np.concatenate(found[1])), (40, 40, 60, 60), atol=1)


# ---------------------------------------------------------------- how good it is

def rectangle(center, length: float, width: float, angle: float) -> np.ndarray:
    return geometry.rotated_corners(np.array([[*center, length, width, angle]]))[0]


def test_a_perfect_reader_reaches_the_bound_and_the_groups_are_right(monkeypatch, checkpoint, photos, tmp_path, capsys):
    shapes = {"tilted": rectangle((40, 45), 60, 20, 30), "upright": rectangle((90, 30), 60, 20, -4),
              "round": rectangle((95, 68), 30, 28, 20)}
    notch = np.concatenate((shapes["tilted"], [(40, 45)]))  # an outline that no hull can be
    outlines = [notch, shapes["upright"], shapes["round"]]
    boxes = [extent(each) for each in outlines]
    path = photos("a.jpg")
    before = written(path, [(1, "a.jpg")], [
        (number, 1, 30, [*box[:2], *(box[2:] - box[:2])], {}) for number, box in enumerate(boxes)])
    truth = tmp_path / "truth.json"
    true = [item | {"segmentation": [each.flatten().tolist()]} for item, each in zip(before["annotations"], outlines)]
    files.write_json(truth, before | {"annotations": [*true[::-1], {"id": 99}, {"segmentation": [[1, 2, 3, 4, 5, 7]]}]})
    corners = list(shapes.values())
    monkeypatch.setattr(relabel, "read", lambda *_: [np.stack([each] * 3) for each in corners])
    monkeypatch.setattr("sys.argv", ["kaod.relabel", *map(str, (
        checkpoint(), path, "--truth", truth, "--out", tmp_path / "out"))])
    assert relabel.main() == 0
    said = capsys.readouterr().out
    told = files.read_json(tmp_path / "out" / "truth.json")
    assert told["groups"].keys() == {"all", *shapes} and "mean IoU with the truth" in said
    assert [told["groups"][name]["objects"] for name in ("all", *shapes)] == [3, 1, 1, 1]
    for figures in told["groups"].values():
        assert figures["mask"] == pytest.approx(figures["bound"], abs=1e-6)
        assert figures["rotated"] == pytest.approx(1, abs=1e-6) and figures["upright"] < 0.98
    assert told["groups"]["tilted"]["bound"] < 0.9 < told["groups"]["upright"]["bound"]
    assert sum(each["objects"] for each in told["classes"].values()) == 3 and "by class" in said
    assert len(told["quarters"]) == 3 and told["command"].startswith("python -m kaod.relabel ")

    broken = files.read_json(truth)
    broken["annotations"][0]["segmentation"] = [[1, 2, 3]]
    files.write_json(truth, broken)
    with pytest.raises(ValueError, match=r"truth.json: annotation 2: a polygon of its segmentation is not"):
        relabel.main()


# ---------------------------------------------------------------- from Python

def test_python_gives_what_the_command_writes(monkeypatch, checkpoint, photos, tmp_path):
    path = photos(*(name for _, name in IMAGES))
    written(path, IMAGES, GOOD)
    as_command(monkeypatch, "kaod.relabel", checkpoint(), path, "--out", tmp_path / "out")
    content = files.read_json(tmp_path / "out" / "annotations.json")
    boxes, labels, names = {number: [] for number, _ in IMAGES}, {number: [] for number, _ in IMAGES}, []
    for item in content["annotations"]:
        x, y, width, height = item["bbox"]
        boxes[item["image_id"]].append((x, y, x + width, y + height))
        labels[item["image_id"]].append(CLASSES[30 - item["category_id"]])
    names = [path.parents[1] / "set" / name for _, name in IMAGES]
    answers = kaod.load(checkpoint()).relabel(names, list(boxes.values()), list(labels.values()))
    assert [len(each["outlines"]) for each in answers] == [2, 1, 0]
    assert answers[2]["rotated_corners"].shape == (0, 4, 2) and answers[2]["rotated_boxes"].shape == (0, 5)
    found = [row for each in answers for row in zip(each["rotated_boxes"], each["scores"], each["unsure"])]
    for (box, score, unsure), item in zip(found, content["annotations"], strict=True):
        assert np.allclose(box, item["rotated_box"], atol=0.01) and unsure is None
        assert score == pytest.approx(item["score"], abs=1e-3)


def test_labels_are_names_numbers_or_tensors_and_wrong_ones_are_named(checkpoint):
    predictor, photo = kaod.load(checkpoint()), np.zeros((96, 128, 3), np.uint8)
    boxes = [(20, 20, 60, 50), (70, 50, 100, 90), (0, 50, 40, 90)]
    forms = [(boxes, ["a", "b", "g"]), (np.array(boxes), np.array([1, 2, 7])),
             (torch.tensor(boxes), torch.tensor([1, 2, 7]))]
    answers = predictor.relabel([photo] * 3, *zip(*forms))
    assert answers[0]["unsure"] == [None, None, "cut by the frame"]
    cut = answers[0]["outlines"][2]  # of what is seen
    assert len(cut) > 4 and np.allclose(extent(cut), boxes[2]) and answers[0]["scores"][2] == 0
    assert answers[0]["rotated_corners"][2].tolist() == [[0, 50], [40, 50], [40, 90], [0, 90]]
    for each in answers[1:]:
        assert np.allclose(each["rotated_corners"], answers[0]["rotated_corners"])
    for wrong in ((boxes, ["a", "b", "z"]), (boxes, [1, 2, 8]), (boxes, [0, 1, 2]), (boxes, ["a"]),
                  (boxes[:2], [1] * 3), ([(1, 2, 3)], [1]), ([(30, 20, 10, 50)], [1]), ([(1, 2, 3, np.nan)], [1]),
                  (["box"], [1])):
        with pytest.raises(ValueError, match="expected boxes .* and for each a label, from 1 to 7 or one"):
            predictor.relabel([photo], *([each] for each in wrong))
    with pytest.raises(ValueError, match="boxes and labels for each of 1 photos; got 2 and 1"):
        predictor.relabel([photo], [boxes, boxes], [[1, 1, 1]])
    with pytest.raises(ValueError, match="put it in a list"):
        predictor.relabel("photo.jpg", [boxes], [[1, 1, 1]])
    with pytest.raises(ValueError, match="three keypoints or more"):
        kaod.load(checkpoint("fcos")).relabel([photo], [boxes], [[1, 1, 1]])
