"""The sections of docs/own-data.md for labelling tools, each tried on a data set in that tool's form."""

import readme
import yaml
from PIL import Image

from kaod import ROOT, params
from kaod.data import datasets, download, files

(SECTIONS,) = [each for each in readme.fenced("yaml") if each.startswith("roboflow:")]
BOX = {"bbox": [5, 5, 20, 10], "area": 200, "iscrowd": 0}


def roboflow(name: str) -> dict:
    """A root class without objects, ids from 0, names with a hash."""
    return {
        "info": {"year": "2026", "version": "1"}, "licenses": [{"id": 1, "url": "", "name": "CC BY 4.0"}],
        "categories": [{"id": 0, "name": "fruit", "supercategory": "none"},
                       {"id": 1, "name": "apple", "supercategory": "fruit"},
                       {"id": 2, "name": "pear", "supercategory": "fruit"}],
        "images": [{"id": 0, "license": 1, "file_name": f"{name}_jpg.rf.0a1b2c.jpg", "height": 40, "width": 50,
                    "date_captured": "2026-11-28T00:00:00+00:00", "extra": {"name": f"{name}.jpg"}}],
        "annotations": [{"id": 0, "image_id": 0, "category_id": 1, "segmentation": [], **BOX}]}


def cvat(name: str) -> dict:
    """Frames in folders of their own, attributes, rectangles without a segmentation."""
    return {
        "licenses": [{"name": "", "id": 0, "url": ""}], "info": {"contributor": "", "year": ""},
        "categories": [{"id": 1, "name": "apple", "supercategory": ""}, {"id": 2, "name": "pear", "supercategory": ""}],
        "images": [{"id": 1, "width": 50, "height": 40, "file_name": f"cam1/{name}.jpg", "license": 0, "flickr_url": "",
                    "coco_url": "", "date_captured": 0}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [],
                         "attributes": {"occluded": False, "rotation": 0.0}, **BOX}]}


def label_studio(name: str) -> dict:
    """Ids from 0, `ignore`, and a folder in the names, as Windows writes it."""
    return {
        "images": [{"width": 50, "height": 40, "id": 0, "file_name": f"images\\{name}.jpg"}],
        "categories": [{"id": 0, "name": "apple"}, {"id": 1, "name": "pear"}],
        "annotations": [{"id": 0, "image_id": 0, "category_id": 0, "segmentation": [], "ignore": 0, **BOX}],
        "info": {"year": 2026, "version": "1.0", "contributor": "Label Studio"}}


def labelme(name: str) -> dict:
    """Outlines with decimals, no supercategory, a background class, a box of the outline."""
    return {
        "info": {"description": None, "version": None}, "licenses": [{"url": None, "id": 0, "name": None}],
        "images": [{"license": 0, "url": None, "file_name": f"JPEGImages/{name}.jpg", "height": 40, "width": 50,
                    "date_captured": None, "id": 0}], "type": "instances",
        "categories": [{"supercategory": None, "id": number, "name": each}
                       for number, each in enumerate(("_background_", "apple", "pear"))],
        "annotations": [{"id": 0, "image_id": 0, "category_id": 1, **BOX,
                         "segmentation": [[5.0, 5.0, 25.0, 5.5, 25.0, 15.0, 5.0, 15.0]]}]}


TOOLS = {  # what it writes, where the photos start from, the classes
    "roboflow": (roboflow, "", ["apple", "pear"]), "cvat": (cvat, "../images", ["apple", "pear"]),
    "label-studio": (label_studio, "", ["apple", "pear"]), "labelme": (labelme, "", ["_background_", "apple", "pear"])}


def test_each_tools_export_goes_through_the_door(tmp_path, repository):
    path = repository / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text() + SECTIONS.replace("~/data", str(tmp_path / "data")))
    assert yaml.safe_load(SECTIONS.replace("<<: *coco", "")).keys() == TOOLS.keys()
    for tool, (export, beside, classes) in TOOLS.items():
        profile, _ = params.load(tool, path)
        for name in profile.train_sets + profile.test_sets:
            listing = profile.data / name
            content = export(name.split("/")[0])
            files.write_json(listing, content)
            photo = listing.parent / beside / content["images"][0]["file_name"].replace("\\", "/")
            photo.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (50, 40)).save(photo)
        download.check_names(profile)
        download.link(profile)
        manifest = download.check(profile)
        assert [item["name"] for item in manifest["categories"]] == classes and manifest["faults"] == []
        for name in profile.train_sets + profile.test_sets:
            (sample,) = datasets.load(profile, [name]).samples
            assert sample.boxes.tolist() == [[5, 5, 25, 15]] and sample.image().size == (50, 40)
