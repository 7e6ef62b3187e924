import runpy
from dataclasses import replace

import numpy as np
import pytest
import shapely
from PIL import Image

from kaod import ROOT, params
from kaod.data import datasets, files, shapes, vertices


def test_the_rule():
    assert [vertices.choose_k(median) for median in (1, 8, 12, 12.5, 17, 20, 20.5, 40)] == [8, 8, 8, 16, 16, 16, 24, 40]


def test_an_outline_follows_its_pixels():
    mask = np.zeros((20, 30), bool)
    mask[5:15, 4:20] = True
    mask[8:10, 7:9] = False  # a hole
    mask[0, 29] = True  # a second part, at the border
    outline = vertices.trace(mask)
    assert outline.area == mask.sum() and outline.bounds == (4, 0, 30, 15)
    assert sorted(len(part) for part in vertices.simplify(outline, 0.005)) == [4, 4]  # the hole is no outline


def test_the_rim_of_void_belongs_to_nobody(tmp_path):
    values = np.zeros((30, 30), np.uint8)
    values[5:25, 5:25] = 255
    values[8:22, 8:22] = 1
    values[8:22, 15:22] = 2
    Image.fromarray(values).save(tmp_path / "mask.png")
    found = vertices.outlines(tmp_path / "mask.png")
    assert {instance: outline.area for instance, outline in found.items()} == {1: 14 * 7, 2: 14 * 7}
    (tmp_path / "mask.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="mask.png"):
        vertices.outlines(tmp_path / "mask.png")


def test_masks_are_paired_with_objects_by_their_number(tiny, repository):
    """The first object has no pixel of its own: the second one's outline is not counted as the first one's."""
    profile = tiny[0]
    shapes.write(profile.folder, replace(profile.draw, train=1, test=1), profile.train_sets + profile.test_sets)
    files.write_json(profile.folder / "manifest.json",
                     {"skipped": [], "faults": [],
                      "categories": [{"id": i, "name": name} for i, name in enumerate(shapes.OUTLINES, 1)]})
    folder = profile.folder / "shapes"
    (sample,) = datasets.read_voc(profile.folder, profile.train_sets[0], list(shapes.OUTLINES))
    for path in (folder / "Polygons").glob("*.json"):
        path.unlink()
    name = list(shapes.OUTLINES)[sample.labels[-1] - 1]
    values = np.zeros((128, 128), np.uint8)
    values[20:60, 30:90] = len(sample.labels)  # the last object's alone
    Image.fromarray(values).save(folder / "SegmentationObject" / f"{sample.name}.png")
    ((kind, number, outline),) = vertices.traced(profile)
    assert (kind, number, outline.area) == (name, 4, 40 * 60)


def test_photos_without_a_mask_are_passed_over(tiny, repository):
    """As in VOC, where a part of the photos has masks; and none at all is an error that says what to do."""
    profile = tiny[0]
    shapes.write(profile.folder, replace(profile.draw, train=3, test=1), profile.train_sets + profile.test_sets)
    files.write_json(profile.folder / "manifest.json", {"skipped": [], "faults": [], "categories": [
        {"id": i, "name": name} for i, name in enumerate(shapes.OUTLINES, 1)]})
    for path in (profile.folder / "shapes" / "Polygons").glob("*.json"):
        path.unlink()
    whole = len(vertices.traced(profile))
    masks = sorted((profile.folder / "shapes" / "SegmentationObject").glob("*.png"))
    masks[0].unlink()
    assert 0 < len(vertices.traced(profile)) < whole
    for path in masks[1:]:
        path.unlink()
    with pytest.raises(ValueError, match="neither polygons nor masks .* set tiny.vertices.k"):
        vertices.traced(profile)


def test_a_smooth_outline_needs_fewer_vertices_at_a_larger_tolerance():
    circle = shapely.Point(0, 0).buffer(50, quad_segs=64)
    counts = [vertices.count(vertices.simplify(circle, tolerance)) for tolerance in (0, 0.001, 0.01, 0.05)]
    assert counts == sorted(counts, reverse=True) and counts[0] == 256 and counts[-1] >= 3
    medians = vertices.sensitivity([circle])
    assert list(medians.values()) == sorted(medians.values(), reverse=True) and medians["0.0"] == 256


def test_the_default_tolerance_gives_the_papers_median(shared):
    tolerance = params.load("voc")[0].vertices.tolerance
    masks = sorted((shared / "voc2007_masks").glob("*.png"))
    counts = [vertices.count(vertices.simplify(outline, tolerance))
              for path in masks for outline in vertices.outlines(path).values()]
    assert np.median(counts) == 17 and vertices.choose_k(17) == 16
    committed = files.read_json(ROOT / "data" / "voc2007_vertices.json")
    assert committed["counts"] == sorted(counts) and committed["tolerance"] == tolerance


def test_cocos_polygons_need_no_tolerance(shared):
    root = shared / "coco"
    for name, median in (("train2017", 17), ("val2017", 16)):
        path = f"annotations/instances_{name}.json"
        ids = [item["id"] for item in datasets.coco_categories(root, path)]
        counts = [vertices.count(parts) for each in datasets.read_coco(root, path, ids)
                  for parts in each.polygons if parts]
        assert np.median(counts) == median


def test_nuclei_have_more_vertices(shared):
    root = shared / "nuclei"
    medians = {}
    for name in ("train", "val"):
        path = f"annotations/instances_{name}.json"
        ids = [item["id"] for item in datasets.coco_categories(root, path)]
        medians[name] = np.median([vertices.count(parts) for each in datasets.read_coco(root, path, ids)
                                   for parts in each.polygons if parts])
    assert medians == {"train": 28, "val": 27}


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")
def test_a_missing_manifest_is_one_line(repository):
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("kaod.data.vertices", run_name="__main__")
    assert stop.value.code.startswith(f"kaod.data.vertices: {repository}/datasets/shapes/manifest.json: no such file")
