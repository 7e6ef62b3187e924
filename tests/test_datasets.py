from dataclasses import replace

import numpy as np
import pytest
import shapely
import torch
from conftest import sample
from PIL import Image

from kaod import datasets, files, geometry

QUIRKS = """<annotation><filename>1.jpg</filename><size><width>50</width><height>40</height><depth>3</depth></size>
<object><name>dog</name><difficult>1</difficult>
  <bndbox><xmax>30.6</xmax><xmin>11</xmin><ymin>5.5</ymin><ymax>20</ymax></bndbox>
  <part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part></object>
<object><name>cat</name><truncated>1</truncated><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>50</xmax><ymax>40</ymax>
  </bndbox></object></annotation>"""


@pytest.fixture
def devkit(tmp_path):
    """A VOC devkit of one photo with the real one's quirks."""
    folder = tmp_path / "VOC2007"
    for part in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / part).mkdir(parents=True)
    (folder / "Annotations" / "1.xml").write_text(QUIRKS)
    (folder / "ImageSets" / "Main" / "test.txt").write_text("1  1\n")
    Image.new("RGB", (50, 40), "red").save(folder / "JPEGImages" / "1.jpg")
    return tmp_path


def test_vocs_quirks(devkit):
    assert datasets.voc_classes(devkit, ["VOC2007/test"]) == ["cat", "dog"]
    (only,) = datasets.read_voc(devkit, "VOC2007/test", ["cat", "dog"])
    assert only.boxes == pytest.approx(np.array([[10, 4.5, 30.6, 20], [0, 0, 50, 40]]))
    assert only.labels.tolist() == [2, 1] and only.ignore.tolist() == [True, False]
    image, target = datasets.Photos([only])[0]
    assert image.shape == (3, 40, 50) and target["labels"].tolist() == [1]  # the difficult one is not learned


@pytest.mark.parametrize("content, message", [("<annotation><size>", "not a VOC annotation"),
                                              ("<annotation/>", "not a VOC annotation"),
                                              (QUIRKS.replace("dog", "cow"), "class 'cow'")])
def test_broken_annotations_are_named(devkit, content, message):
    path = devkit / "VOC2007" / "Annotations" / "1.xml"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        datasets.read_voc(devkit, "VOC2007/test", ["cat", "dog"])
    assert str(path) in str(error.value)


def test_xml_entities_are_refused(devkit):
    path = devkit / "VOC2007" / "Annotations" / "1.xml"
    path.write_text('<!DOCTYPE a [<!ENTITY b "c">]>' + QUIRKS.replace("dog", "&b;"))
    with pytest.raises(ValueError, match="1.xml"):
        datasets.read_voc(devkit, "VOC2007/test", ["cat", "dog"])


def test_missing_sets_and_annotations_are_named(devkit):
    with pytest.raises(ValueError, match="val.txt"):
        datasets.read_voc(devkit, "VOC2007/val", [])
    (devkit / "VOC2007" / "Annotations" / "1.xml").unlink()
    with pytest.raises(ValueError, match="1.xml: no such file"):
        datasets.read_voc(devkit, "VOC2007/test", [])


def test_broken_photos_are_named(devkit):
    (only,) = datasets.read_voc(devkit, "VOC2007/test", ["cat", "dog"])
    whole = only.path.read_bytes()
    only.path.write_bytes(whole[:len(whole) // 2])
    with pytest.raises(ValueError, match="1.jpg: not a readable photo"):
        only.image()
    Image.new("RGB", (40, 50)).save(only.path)
    with pytest.raises(ValueError, match="1.jpg: 40×50 pixels, but its annotation says 50×40"):
        only.image()
    only.path.unlink()
    with pytest.raises(ValueError, match="1.jpg"):
        only.image()


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
def test_any_colour_mode_becomes_rgb(tmp_path, mode):
    Image.new(mode, (30, 20)).save(tmp_path / "photo.jpg")
    image, _ = datasets.Photos([sample([], [], size=(30, 20), path=tmp_path / "photo.jpg")])[0]
    assert image.shape == (3, 20, 30)


def test_both_layouts_come_back_as_written(tmp_path, drawn):
    samples, classes = drawn
    samples = [replace(samples[0], ignore=np.arange(len(samples[0].labels)) == 0), *samples[1:]]
    images = [each.image() for each in samples]
    ids = [3, 7, 9, 11, 20, 21, 90]
    datasets.write_voc(tmp_path / "v", "a/b", samples, images, classes)
    datasets.write_coco(tmp_path / "c", "annotations/instances_x.json", datasets.DataSet(classes, ids, samples), images)
    assert [item["id"] for item in datasets.coco_categories(tmp_path / "c", "annotations/instances_x.json")] == ids
    for again in (datasets.read_voc(tmp_path / "v", "a/b", classes),
                  datasets.read_coco(tmp_path / "c", "annotations/instances_x.json", ids)):
        for old, new in zip(samples, again, strict=True):
            assert new.boxes == pytest.approx(old.boxes, abs=0.01)
            assert (new.labels == old.labels).all() and (new.ignore == old.ignore).all()
            assert [len(parts) for parts in new.polygons] == [1] * len(old.labels)
            assert new.image().size == old.size
            for mine, theirs in zip(new.polygons, old.polygons):
                assert mine[0] == pytest.approx(theirs[0], abs=0.01)


def test_a_coco_file_with_a_stranger_is_refused(tmp_path, drawn):
    samples, classes = drawn
    name = "annotations/instances_x.json"
    datasets.write_coco(tmp_path, name, datasets.DataSet(classes, list(range(1, 8)), samples),
                        [each.image() for each in samples])
    with pytest.raises(ValueError, match="unknown image or category"):
        datasets.read_coco(tmp_path, name, [1, 2])
    (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match="instances_x.json: not a COCO annotation file"):
        datasets.read_coco(tmp_path, name, [1, 2])
    with pytest.raises(ValueError, match="instances_NAME.json"):
        datasets.read_coco(tmp_path, "annotations/train.json", [])


@pytest.mark.parametrize("place, key", [("images", "width"), ("images", "file_name"), ("annotations", "bbox"),
                                        ("annotations", "category_id")])
def test_a_coco_file_without_a_key_is_named(tmp_path, drawn, place, key):
    samples, classes = drawn
    name = "annotations/instances_x.json"
    datasets.write_coco(tmp_path, name, datasets.DataSet(classes, list(range(1, 8)), samples),
                        [each.image() for each in samples])
    content = files.read_json(tmp_path / name)
    del content[place][0][key]
    files.write_json(tmp_path / name, content)
    with pytest.raises(ValueError, match="instances_x.json: .*(broken|unknown)"):
        datasets.read_coco(tmp_path, name, list(range(1, 8)))


def test_any_class_name_survives_vocs_xml(tmp_path, drawn):
    samples, classes = drawn
    odd = ["a < b & c", *classes[1:]]
    datasets.write_voc(tmp_path, "x/all", samples, [each.image() for each in samples], odd)
    assert [each.labels.tolist() for each in datasets.read_voc(tmp_path, "x/all", odd)] == [
        each.labels.tolist() for each in samples]


def test_real_coco(shared):
    root, name = shared / "coco", "annotations/instances_val2017.json"
    categories = datasets.coco_categories(root, name)
    samples = datasets.read_coco(root, name, [item["id"] for item in categories])
    assert len(categories) == 80 and categories[-1] == {"id": 90, "name": "toothbrush"}
    assert len(samples) == 206 and sum(len(each.labels) for each in samples) == 1786
    assert any(len(each.labels) == 0 for each in samples) and any(each.ignore.any() for each in samples)
    for each in samples[::10]:
        each.image()
        for box, parts in zip(each.boxes, each.polygons):
            if parts:  # the polygons lie in their box
                low, high = np.concatenate(parts).min(0), np.concatenate(parts).max(0)
                assert np.concatenate((low, high)) == pytest.approx(box, abs=1.5)


def test_real_voc(shared):
    root, sets = shared / "VOCdevkit", ["VOC2007/trainval", "VOC2007/test"]
    classes = datasets.voc_classes(root, sets)
    assert len(classes) == 20
    samples = [each for name in sets for each in datasets.read_voc(root, name, classes)]
    assert len(samples) == 437
    for each in samples:
        width, height = each.size
        assert (each.boxes[:, :2] >= -0.01).all() and (each.boxes[:, 2:] <= np.array([width, height]) + 0.51).all()
        assert (each.boxes[:, 2:] > each.boxes[:, :2]).all()
    for each in samples[::40]:
        each.image()


def test_the_targets_are_torch_tensors_of_the_right_types(drawn):
    _, target = datasets.Photos(drawn[0])[0]
    assert target["boxes"].dtype == torch.float32 and target["labels"].dtype == torch.int64
    assert geometry.polygon([np.zeros((2, 2))]).area == 0 and isinstance(geometry.polygon([]), shapely.Geometry)
