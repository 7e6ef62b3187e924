from dataclasses import replace

import numpy as np
import pytest
import shapely
import torch
from conftest import sample
from layouts import read_coco, write_coco, write_voc
from PIL import Image
from pycocotools import mask as rle

from kaod import ROOT, geometry, params
from kaod.data import coco, datasets, download, files, voc

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
    assert voc.classes(devkit, ["VOC2007/test"]) == ["cat", "dog"]
    (only,) = voc.read(devkit, "VOC2007/test", ["cat", "dog"])
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
        voc.read(devkit, "VOC2007/test", ["cat", "dog"])
    assert str(path) in str(error.value)


def test_xml_entities_are_refused(devkit):
    path = devkit / "VOC2007" / "Annotations" / "1.xml"
    path.write_text('<!DOCTYPE a [<!ENTITY b "c">]>' + QUIRKS.replace("dog", "&b;"))
    with pytest.raises(ValueError, match="1.xml"):
        voc.read(devkit, "VOC2007/test", ["cat", "dog"])


def test_missing_sets_and_annotations_are_named(devkit):
    with pytest.raises(ValueError, match="val.txt"):
        voc.read(devkit, "VOC2007/val", [])
    (devkit / "VOC2007" / "Annotations" / "1.xml").unlink()
    with pytest.raises(ValueError, match="1.xml: no such file"):
        voc.read(devkit, "VOC2007/test", [])


def test_broken_photos_are_named(devkit):
    (only,) = voc.read(devkit, "VOC2007/test", ["cat", "dog"])
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


@pytest.mark.parametrize("mode, ink, rgb", [("L", 90, (90, 90, 90)), ("RGB", (255, 0, 0), (255, 0, 0)),
                                            ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
                                            ("CMYK", (255, 0, 0, 0), (0, 255, 255)),
                                            ("CMYK", (0, 0, 0, 100), (155, 155, 155))])
def test_any_colour_mode_becomes_rgb(tmp_path, mode, ink, rgb):
    Image.new(mode, (30, 20), ink).save(tmp_path / "photo.jpg", quality=95)
    image, _ = datasets.Photos([sample([], [], size=(30, 20), path=tmp_path / "photo.jpg")])[0]
    assert image.shape == (3, 20, 30)
    assert (image.int() - torch.tensor(rgb)[:, None, None]).abs().max() <= 3  # which JPEG loses


def test_both_layouts_come_back_as_written(tmp_path, drawn):
    samples, classes = drawn
    samples = [replace(samples[0], ignore=np.arange(len(samples[0].labels)) == 0), *samples[1:]]
    images = [each.image() for each in samples]
    ids = [3, 7, 9, 11, 20, 21, 90]
    write_voc(tmp_path / "v", "a/b", samples, images, classes)
    write_coco(tmp_path / "c", "annotations/instances_x.json", datasets.DataSet(classes, ids, samples), images)
    assert [item["id"] for item in coco.categories(tmp_path / "c", "annotations/instances_x.json")] == ids
    of_voc = voc.read(tmp_path / "v", "a/b", classes)
    of_coco = read_coco(tmp_path / "c", "annotations/instances_x.json", ids)
    for again in (of_voc, of_coco):
        for old, new in zip(samples, again, strict=True):
            assert new.boxes == pytest.approx(old.boxes, abs=0.01)
            assert (new.labels == old.labels).all() and (new.ignore == old.ignore).all()
            assert new.image().size == old.size
    for old, new in zip(samples, of_coco):
        assert [len(parts) for parts in new.polygons] == [1] * len(old.labels)
        for mine, theirs in zip(new.polygons, old.polygons):
            assert mine[0] == pytest.approx(theirs[0], abs=0.01)


def test_what_is_written_once_is_written_twice(tmp_path, drawn):
    """The inner format loses nothing: ignored objects, unknown outlines, crowds' masks, ids, areas, paths."""
    mask = np.zeros((128, 128), bool)
    mask[20:40, 30:90] = True
    samples, classes = drawn
    odd = replace(samples[0], id="a/b", path=tmp_path / "deep" / "er" / "1.jpg", boxes=samples[0].boxes[[0, 0, 0, 0]],
                  labels=np.array([1, 2, 7, 7]), ignore=np.array([True, True, False, True]),
                  polygons=[[], samples[0].polygons[0], [], []], areas=np.array([1.5, 2, 3, 4]),
                  crowds={3: coco.encode(mask)})
    coco.write(tmp_path / "1.json", datasets.DataSet(classes, list(range(1, 8)), [odd, *samples]), tmp_path)
    again = coco.load(tmp_path / "1.json", tmp_path)
    coco.write(tmp_path / "2.json", again, tmp_path)
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "2.json").read_bytes()
    first = again.samples[0]
    assert (first.id, first.path, first.areas.tolist()) == ("a/b", odd.path, [1.5, 2, 3, 4])
    assert first.ignore.tolist() == odd.ignore.tolist() and first.crowds == odd.crowds
    assert [len(parts) for parts in first.polygons] == [0, 1, 0, 0]
    flags = [(item["iscrowd"], item["difficult"]) for item in files.read_json(tmp_path / "1.json")["annotations"][:4]]
    assert flags == [(1, 1), (1, 1), (0, 0), (1, 0)]


def masked(root, samples, classes, number: int) -> Image.Image:
    """A devkit of one photo in whose mask only its last object has pixels, its rim void; `number` is that object's."""
    values = np.zeros((128, 128), np.uint8)
    values[18:62, 28:92] = 255
    values[20:60, 30:90] = number
    write_voc(root, "a/b", samples, [each.image() for each in samples], classes, [Image.fromarray(values)])


def test_vocs_masks_become_polygons_that_count_vertices_and_are_no_ground_truth(tmp_path, drawn, monkeypatch):
    samples, classes = drawn
    (chosen,) = samples = [each for each in samples if len(each.labels) > 1][:1]
    masked(tmp_path / "own", samples, classes, len(chosen.labels))
    monkeypatch.setattr("kaod.params.ROOT", tmp_path)
    profile = replace(params.load("voc", ROOT / "params.yaml")[0], root=str(tmp_path / "own"), train_sets=["a/b"],
                      test_sets=["a/b"])
    files.write_json(profile.folder / "manifest.json", download.check(profile))
    (seen,), (bare,) = (datasets.load(profile, ["a/b"], traced=each).samples for each in (True, False))
    assert [geometry.polygon(parts).area for parts in seen.polygons] == [0] * (len(chosen.labels) - 1) + [40 * 60]
    assert not any(bare.polygons) and (bare.boxes == seen.boxes).all()


def test_a_coco_file_with_a_stranger_is_refused(tmp_path, drawn):
    samples, classes = drawn
    name = "annotations/instances_x.json"
    write_coco(tmp_path, name, datasets.DataSet(classes, list(range(1, 8)), samples),
                        [each.image() for each in samples])
    with pytest.raises(ValueError, match="unknown image or category"):
        read_coco(tmp_path, name, [1, 2])
    (tmp_path / name).write_text("{}")
    with pytest.raises(ValueError, match="instances_x.json: not a COCO annotation file"):
        read_coco(tmp_path, name, [1, 2])
    with pytest.raises(ValueError, match="instances_NAME.json"):
        coco.photo_folder(tmp_path, "annotations/train.json")


@pytest.mark.parametrize("place, key", [("images", "width"), ("images", "file_name"), ("annotations", "bbox"),
                                        ("annotations", "category_id")])
def test_a_coco_file_without_a_key_is_named(tmp_path, drawn, place, key):
    samples, classes = drawn
    name = "annotations/instances_x.json"
    write_coco(tmp_path, name, datasets.DataSet(classes, list(range(1, 8)), samples),
                        [each.image() for each in samples])
    content = files.read_json(tmp_path / name)
    del content[place][0][key]
    files.write_json(tmp_path / name, content)
    with pytest.raises(ValueError, match=f"instances_x.json: (image|annotation) 1: {key} is missing; expected "):
        read_coco(tmp_path, name, list(range(1, 8)))


def test_any_class_name_survives_vocs_xml(tmp_path, drawn):
    samples, classes = drawn
    odd = ["a < b & c", *classes[1:]]
    write_voc(tmp_path, "x/all", samples, [each.image() for each in samples], odd)
    assert [each.labels.tolist() for each in voc.read(tmp_path, "x/all", odd)] == [
        each.labels.tolist() for each in samples]


def test_real_coco(shared):
    root, name = shared / "coco", "annotations/instances_val2017.json"
    categories = coco.categories(root, name)
    samples = read_coco(root, name, [item["id"] for item in categories])
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
    classes = voc.classes(root, sets)
    assert len(classes) == 20
    samples = [each for name in sets for each in voc.read(root, name, classes)]
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


BOXES = {"has no area": (20, 10, 20, 30), "lies outside": (45, 35, 65, 60)}  # of the devkit's photo of 50×40 pixels


@pytest.mark.parametrize("message, box", BOXES.items())
def test_impossible_boxes_are_named_in_both_layouts(devkit, message, box):
    x1, y1, x2, y2 = box
    path = devkit / "VOC2007" / "Annotations" / "1.xml"
    path.write_text(QUIRKS.replace("<xmax>30.6</xmax><xmin>11</xmin><ymin>5.5</ymin><ymax>20</ymax>",
                                   f"<xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"))
    with pytest.raises(ValueError, match=rf"1\.xml: object 1 \(dog\): its box .* {message}"):
        voc.read(devkit, "VOC2007/test", ["cat", "dog"])
    faults = []
    (left,) = voc.read(devkit, "VOC2007/test", ["cat", "dog"], faults)
    assert left.labels.tolist() == [1] and len(faults) == 1

    name = "annotations/instances_x.json"
    files.write_json(devkit / name, {
        "images": [{"id": 9, "file_name": "1.jpg", "width": 50, "height": 40}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [{"id": 5, "image_id": 9, "category_id": 3, "bbox": [x1, y1, x2 - x1, y2 - y1]},
                        {"id": 6, "image_id": 9, "category_id": 3, "bbox": [-2, 0, 30, 20]}]})
    with pytest.raises(ValueError, match=rf"instances_x\.json: annotation 5: its box .* {message}"):
        read_coco(devkit, name, [3])
    faults = []
    (left,) = read_coco(devkit, name, [3], faults)
    assert left.boxes.tolist() == [[-2, 0, 28, 20]]  # a little over the edge is fine
    assert left.id == 9 and len(faults) == 1


def test_a_photo_is_not_turned_by_its_exif_orientation(tmp_path):
    """COCO's annotations are of the pixels as they are stored."""
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees to show"
    Image.new("RGB", (30, 20)).save(tmp_path / "photo.jpg", exif=exif)
    image, _ = datasets.Photos([sample([], [], size=(30, 20), path=tmp_path / "photo.jpg")])[0]
    assert image.shape == (3, 20, 30)


def test_two_devkits_are_merged(tmp_path, drawn, monkeypatch):
    samples, classes = drawn
    for name, part in (("VOC2007/trainval", samples[:3]), ("VOC2012/trainval", samples[3:]), ("VOC2007/test", samples)):
        write_voc(tmp_path / "data", name, part, [each.image() for each in part], classes)
    profile = replace(params.load("voc")[0], root=str(tmp_path / "data"))
    monkeypatch.setattr("kaod.params.ROOT", tmp_path)
    download.check(profile)
    found = datasets.load(profile, profile.train_sets)
    assert [each.path.stem for each in found.samples] == [each.path.stem for each in samples]
    assert [each.id for each in found.samples] == list(range(1, 9))
    assert [each.id for each in datasets.load(profile, profile.test_sets).samples] == list(range(1, 9))
    assert {each.path.parents[1].name for each in found.samples} == {"VOC2007", "VOC2012"}


def test_an_image_id_that_occurs_twice_is_refused(tmp_path, drawn, monkeypatch):
    samples, classes = drawn
    ids = list(range(1, 8))
    names = ["annotations/instances_a.json", "annotations/instances_b.json"]
    for name in names:
        write_coco(tmp_path / "data", name, datasets.DataSet(classes, ids, samples[:2]),
                   [each.image() for each in samples[:2]])
    profile = replace(params.load("coco")[0], root=str(tmp_path / "data"), train_sets=names, test_sets=names[:1])
    monkeypatch.setattr("kaod.params.ROOT", tmp_path)
    download.check(profile)
    assert len(datasets.load(profile, names[:1]).samples) == 2
    with pytest.raises(ValueError, match="an image id occurs twice"):
        download.check(replace(profile, test_sets=names))


def test_cocos_file_comes_back_whole(shared):
    """Ids, areas and crowds' masks as in the original."""
    root, name = shared / "coco", "annotations/instances_val2017.json"
    categories = coco.categories(root, name)
    ids = [item["id"] for item in categories]
    dataset = datasets.DataSet([item["name"] for item in categories], ids, read_coco(root, name, ids))
    ours, original = coco.to_coco(dataset), files.read_json(root / name)
    assert [item["id"] for item in ours["images"]] == [item["id"] for item in original["images"]]
    mine = sorted(ours["annotations"], key=lambda item: (item["image_id"], item["area"]))
    theirs = sorted(original["annotations"], key=lambda item: (item["image_id"], item["area"]))
    for a, b in zip(mine, theirs, strict=True):
        assert (a["category_id"], a["iscrowd"], a["area"], a["segmentation"]) == (
            b["category_id"], b["iscrowd"], b["area"], b["segmentation"])
        assert a["bbox"] == pytest.approx(b["bbox"], abs=1e-3)


def test_categories_of_several_files_are_merged_and_have_to_agree(tmp_path):
    def write(name, **categories):
        files.write_json(tmp_path / name, {"images": [], "annotations": [], "categories": [
            {"id": number, "name": kind} for kind, number in categories.items()]})

    write("a.json", cat=1, dog=2)
    write("b.json", dog=2, cow=5)
    assert [item["name"] for item in coco.categories(tmp_path, "a.json", "b.json")] == ["cat", "dog", "cow"]
    write("b.json", dog=1)
    with pytest.raises(ValueError, match="b.json: category 1 is 'dog', but elsewhere 'cat'"):
        coco.categories(tmp_path, "a.json", "b.json")
    write("b.json", dog=3)
    with pytest.raises(ValueError, match="more than one category is called 'dog'"):
        coco.categories(tmp_path, "a.json", "b.json")


def test_run_length_masks_of_single_objects_are_traced(tmp_path):
    mask = np.zeros((40, 50), np.uint8, order="F")
    mask[5:25, 10:40] = 1
    encoded = rle.encode(mask)
    encoded["counts"] = encoded["counts"].decode()
    plain = {"size": [40, 50], "counts": [405] + [20, 20] * 29 + [20, 400 + 15]}
    name = "annotations/instances_x.json"
    files.write_json(tmp_path / name, {
        "images": [{"id": 0, "file_name": "1.jpg", "width": 50, "height": 40}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [{"id": number, "image_id": 0, "category_id": 3, "bbox": [10, 5, 30, 20], "segmentation": each}
                        for number, each in enumerate((encoded, plain))]})
    (only,) = read_coco(tmp_path, name, [3])
    assert [geometry.polygon(parts).bounds for parts in only.polygons] == [(10, 5, 40, 25)] * 2 and not only.crowds


def test_photos_of_more_than_eight_bits_are_refused(tmp_path):
    Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 100).save(tmp_path / "photo.png")
    with pytest.raises(ValueError, match="photo.png: expected 8 bits a channel"):
        sample([], [], size=(30, 20), path=tmp_path / "photo.png").image()


@pytest.mark.parametrize("content", [
    {"images": [1], "annotations": [], "categories": []}, {"images": None, "annotations": [], "categories": []},
    {"images": [], "annotations": [], "categories": [{"id": 1}]}, {"images": [{}], "annotations": [], "categories": []},
    {"images": [{"id": 1, "file_name": "x", "width": 9, "height": 9}], "categories": [{"id": 3, "name": "a"}],
     "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [0, 0, 5, 5], "area": None}]},
    {"images": [{"id": 1, "file_name": "x", "width": 9, "height": 9}], "categories": [{"id": 3, "name": "a"}],
     "annotations": [{"id": 1, "image_id": [1], "category_id": 3, "bbox": [0, 0, 5, 5]}]}])
def test_odd_coco_files_end_in_one_line_that_names_them(tmp_path, content):
    files.write_json(tmp_path / "annotations" / "instances_x.json", content)
    with pytest.raises(ValueError, match="instances_x.json"):
        coco.categories(tmp_path, "annotations/instances_x.json")
        read_coco(tmp_path, "annotations/instances_x.json", [3])


def test_flags_are_left_out_of_a_classs_list_but_a_number_in_a_name_is_not(devkit):
    """VOC's class lists have two columns, a photo's name and -1, 0 or 1; a photo may be called "photo 1"."""
    folder = devkit / "VOC2007"
    for stem in ("photo 1", "photo"):
        (folder / "Annotations" / f"{stem}.xml").write_text(QUIRKS)
    (folder / "ImageSets" / "Main" / "test.txt").write_text("photo 1\n1 -1\n1  1\nphoto 0\nno 1\n")
    assert voc.listed(devkit, "VOC2007/test")[2] == ["photo 1", "1", "1", "photo", "no 1"]


def test_a_photo_has_its_annotations_name_even_if_its_filename_is_stale(devkit):
    """As after renaming: two annotations say 1.jpg."""
    folder = devkit / "VOC2007"
    (folder / "Annotations" / "2.xml").write_text(QUIRKS)
    (folder / "ImageSets" / "Main" / "test.txt").write_text("1\n2\n")

    def photos():
        return [each.path.name for each in voc.read(devkit, "VOC2007/test", ["cat", "dog"])]

    assert photos() == ["1.jpg", "1.jpg"]  # no photo is called 2: what the file says holds
    Image.new("RGB", (50, 40)).save(folder / "JPEGImages" / "2.png")
    assert photos() == ["1.jpg", "2.png"]
    for name in ("1.bmp", "2.json"):  # of several namesakes it is the one that the annotation names; and a photo
        (folder / "JPEGImages" / name).touch()
    assert photos() == ["1.jpg", "2.png"]


@pytest.fixture
def written(tmp_path):
    """A function that writes a COCO file of two photos of 50×40 pixels, 1 with annotations that have the given
    segmentations, numbered from 1, and reads it: (samples, faults)."""
    def read(*segmentations, images=({"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}), **more):
        path = tmp_path / "annotations" / "instances_x.json"
        files.write_json(path, {
            "images": [image | {"width": 50, "height": 40} for image in images],
            "categories": [{"id": 3, "name": "cat"}],
            "annotations": [{"id": number, "image_id": 1, "category_id": 3, "bbox": [10, 5, 30, 20],
                             "segmentation": each, **more} for number, each in enumerate(segmentations, 1)]})
        faults = []
        samples = read_coco(tmp_path, "annotations/instances_x.json", [3], faults)
        if faults:  # by default the first is raised
            with pytest.raises(ValueError) as error:
                read_coco(tmp_path, "annotations/instances_x.json", [3])
            assert str(error.value) == faults[0]
        return samples, [line.removeprefix(f"{path}: ") for line in faults]

    return read


TRIANGLE = [10, 5, 40, 5, 40, 25]


@pytest.mark.parametrize("crowd", [0, 1])
@pytest.mark.parametrize("wrong, message", [
    ([[10, 5, float("nan"), 5, 40, 25]], "a polygon of its segmentation"),
    ([[10, 5, float("inf"), 5, 40, 25]], "a polygon of its segmentation"),
    ([TRIANGLE, [10, 5, 40, 5, 40]], "a polygon of its segmentation"), (TRIANGLE, "a polygon of its segmentation"),
    ([["x", 5, 40, 5, 40, 25]], "a polygon of its segmentation"),
    ({"size": [50, 40], "counts": [2000]}, "its run-length mask has the size [50, 40], its photo [40, 50]"),
    ({"size": [40, 50], "counts": [100, 20]}, "the counts of its run-length mask"),
    ({"size": [40, 50], "counts": "abc"}, "the counts of its run-length mask"),
    ({"size": [40, 50]}, "segmentation.counts is missing; expected")])
def test_an_impossible_segmentation_is_one_fault_of_its_annotation(written, wrong, message, crowd):
    (first, second), faults = written([TRIANGLE], wrong, [TRIANGLE], iscrowd=crowd)
    assert len(faults) == 1 and faults[0].startswith(f"annotation 2: {message}")
    assert len(first.boxes) == 2 and len(second.boxes) == 0  # neither the photo nor its other objects are lost


def test_an_image_id_that_occurs_twice_in_a_file_is_a_fault(written):
    """Else both photos had the annotations of both. The later one is left out."""
    twice = [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}, {"id": 1, "file_name": "c.jpg"}]
    samples, faults = written([TRIANGLE], images=twice)
    assert faults == ["image id 1 occurs twice, for a.jpg and c.jpg"]
    assert [(each.path.name, len(each.boxes)) for each in samples] == [("a.jpg", 1), ("b.jpg", 0)]


def test_a_missing_coco_file_says_what_belongs_there(tmp_path):
    with pytest.raises(ValueError) as error:
        coco.categories(tmp_path, "annotations/instances_mine.json")
    assert str(error.value) == (
        f"{tmp_path}/annotations/instances_mine.json: no such file; in the COCO layout at {tmp_path} it has the "
        f"annotations of the photos in {tmp_path}/mine")
