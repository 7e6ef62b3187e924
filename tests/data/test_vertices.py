from dataclasses import replace

import numpy as np
import pytest
import shapely
from conftest import as_command
from layouts import read_coco, write_voc
from PIL import Image

from kaod import ROOT, geometry, params
from kaod.data import coco, datasets, download, files, vertices, voc


def test_the_rule():
    assert [vertices.choose_k(median) for median in (1, 8, 12, 12.5, 17, 20, 20.5, 40)] == [8, 8, 8, 16, 16, 16, 24, 40]


def test_an_outline_follows_its_pixels(tmp_path):
    mask = np.zeros((20, 30), np.uint8)
    mask[5:15, 4:20] = 1
    mask[8:10, 7:9] = 0  # a hole
    mask[0, 29] = 1  # a second part, at the border
    outline = geometry.trace(mask > 0)
    assert outline.area == mask.sum() and outline.bounds == (4, 0, 30, 15)
    Image.fromarray(mask).save(tmp_path / "mask.png")
    parts = voc.outlines(tmp_path / "mask.png")[1]
    assert [vertices.count([part], 0.005) for part in parts] == [4, 4]  # the hole is no outline


def test_the_rim_of_void_belongs_to_nobody(tmp_path):
    values = np.zeros((30, 30), np.uint8)
    values[5:25, 5:25] = 255
    values[8:22, 8:22] = 1
    values[8:22, 15:22] = 2
    Image.fromarray(values).save(tmp_path / "mask.png")
    found = voc.outlines(tmp_path / "mask.png")
    assert {number: geometry.polygon(parts).area for number, parts in found.items()} == {1: 14 * 7, 2: 14 * 7}
    (tmp_path / "mask.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="mask.png"):
        voc.outlines(tmp_path / "mask.png")


@pytest.fixture
def devkit(tmp_path, repository, drawn):
    """A profile of VOC's layout, and a function that writes its photos with these masks (None: without)."""
    samples, classes = drawn
    profile = replace(params.load("voc")[0], root=str(tmp_path / "own"), train_sets=["a/train"], test_sets=["a/test"])

    def write(*masks):
        photos = samples[:len(masks)]
        for name in ("a/train", "a/test"):
            write_voc(tmp_path / "own", name, photos, [each.image() for each in photos], classes,
                      [None if mask is None else Image.fromarray(mask) for mask in masks])
        download.check(profile)
        return photos, classes

    return profile, write


def test_masks_are_paired_with_objects_by_their_number(devkit):
    """The first object has no pixel of its own: the second one's outline is not counted as the first one's."""
    profile, write = devkit
    (sample,), classes = write(None)
    values = np.zeros((128, 128), np.uint8)
    values[20:60, 30:90] = len(sample.labels)  # the last object's alone
    write(values)
    assert vertices.by_class(profile) == {classes[sample.labels[-1] - 1]: [4]}
    (parts,) = filter(None, datasets.load(profile, ["a/train"], traced=True).samples[0].polygons)
    assert geometry.polygon(parts).area == 40 * 60


def test_photos_without_a_mask_are_passed_over(devkit, monkeypatch, capsys):
    """As in VOC, where a part of the photos has masks; without any, K is the paper's, which the door says already."""
    profile, write = devkit
    mask = np.zeros((128, 128), np.uint8)
    mask[20:60, 30:90] = 1
    write(mask, None, mask)
    assert sum(vertices.by_class(profile).values(), []) == [4, 4]
    for path in (profile.data / "a" / "SegmentationObject").glob("*.png"):
        path.unlink()
    write(None, None, None)
    assert "boxes only, no outlines: K = 16 (voc.vertices.k: auto)" in capsys.readouterr().out
    monkeypatch.setattr(params, "load", lambda: (profile, {}))
    vertices.main()
    assert capsys.readouterr().out == "the training sets have no outlines to count vertices of: K = 16\n"
    assert files.read_json(profile.runs / "k.json") == {
        "k": 16, "median": None, "objects": 0, "also": [8, 32, 48], "chosen": "auto"}
    profile = replace(profile, vertices=replace(profile.vertices, k=24))  # K is given, so nothing depends on the counts
    vertices.main()
    assert files.read_json(profile.runs / "k.json")["k"] == 24


def test_a_smooth_outline_needs_fewer_vertices_at_a_larger_tolerance():
    circle = [shapely.get_coordinates(shapely.Point(0, 0).buffer(50, quad_segs=64))[:-1]]
    counts = [vertices.count(circle, tolerance) for tolerance in (0, 0.001, 0.01, 0.05)]
    assert counts == sorted(counts, reverse=True) and counts[0] == 256 and counts[-1] >= 3


def test_the_default_tolerance_gives_the_papers_median(shared):
    masks = sorted((shared / "voc2007_masks").glob("*.png"))
    counts = [vertices.count(parts, vertices.TOLERANCE)
              for path in masks for parts in voc.outlines(path).values()]
    assert np.median(counts) == 17 and vertices.choose_k(17) == 16
    committed = files.read_json(ROOT / "data" / "voc2007_vertices.json")
    assert committed["counts"] == sorted(counts) and committed["tolerance"] == vertices.TOLERANCE


def test_cocos_polygons_need_no_tolerance(shared):
    root = shared / "coco"
    for name, median in (("train2017", 17), ("val2017", 16)):
        path = f"annotations/instances_{name}.json"
        ids = [item["id"] for item in coco.categories(root, path)]
        counts = [vertices.count(parts) for each in read_coco(root, path, ids)
                  for parts in each.polygons if parts]
        assert np.median(counts) == median


def test_nuclei_have_more_vertices(shared):
    root = shared / "nuclei"
    medians = {}
    for name in ("train", "val"):
        path = f"annotations/instances_{name}.json"
        ids = [item["id"] for item in coco.categories(root, path)]
        medians[name] = np.median([vertices.count(parts) for each in read_coco(root, path, ids)
                                   for parts in each.polygons if parts])
    assert medians == {"train": 28, "val": 27}


def test_a_missing_manifest_is_one_line(repository, monkeypatch):
    assert as_command(monkeypatch, "kaod.data.vertices").startswith(
        f"kaod.data.vertices: {repository}/datasets/shapes/sets/annotations-instances_train.json: no such file")
