"""COCO JSON: a user's files, and the one format that all stages read and write.

A user's set is named annotations/instances_NAME.json, with its photos in NAME/. What the stages write has one key
more: `difficult`, 1 for an object that counts neither way and is no crowd's mask. Such an object is also `iscrowd`, so
that pycocotools ignores it.
"""

import json
import os
import re
from pathlib import Path

import numpy as np
import shapely
from pycocotools import mask as rle

from ..geometry import polygon, trace
from . import files
from .samples import DataSet, Sample, check_box, fault

IMAGE = {"file_name": str, "width": (int, float), "height": (int, float)}
FORM = {"images": {"id": (int, str)}, "annotations": {}, "categories": {"id": int, "name": str}}


def photo_folder(root: Path, name: str) -> Path:
    """The folder of a set's photos: annotations/instances_NAME.json → NAME/."""
    found = re.fullmatch(r"instances_(.+)\.json", Path(name).name)
    if not found:
        raise ValueError(f"{name}: a set of the COCO layout is named annotations/instances_NAME.json, "
                         "with its photos in NAME/")
    return root / found[1]


def parse(path: Path) -> dict:
    """A file's content, the form of its images and categories checked. Raises ValueError that names the file."""
    content = files.read_json(path)
    for key, form in FORM.items():
        items = content.get(key) if isinstance(content, dict) else None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise ValueError(f"{path}: not a COCO annotation file (expected lists of images, annotations, categories)")
        for item in items:
            wrong = [name for name, kind in form.items() if not isinstance(item.get(name), kind)]
            if wrong:
                raise ValueError(f"{path}: an entry of its {key} is broken: {wrong[0]} is {item.get(wrong[0])!r} in "
                                 f"{item}")
    return content


def categories(root: Path, *names: str) -> list[dict]:
    """[{"id", "name"}] of the sets together, by id. Raises ValueError where they do not agree on an id's name, or use
    a name twice."""
    found: dict[int, str] = {}
    for name in names:
        if not (root / name).is_file():
            raise ValueError(f"{root / name}: no such file; in the COCO layout at {root} it has the annotations of the "
                             f"photos in {photo_folder(root, name)}")
        for item in parse(root / name)["categories"]:
            if found.setdefault(item["id"], item["name"]) != item["name"]:
                raise ValueError(f"{root / name}: category {item['id']} is {item['name']!r}, but elsewhere "
                                 f"{found[item['id']]!r}")
        for kind in found.values():
            if list(found.values()).count(kind) > 1:
                raise ValueError(f"{root / name}: more than one category is called {kind!r}")
    return [{"id": number, "name": found[number]} for number in sorted(found)]


def decode(segmentation: dict, size: tuple[int, int]) -> np.ndarray:
    """COCO's run-length mask of a photo of `size` (w, h): (h, w), bool. Raises ValueError if it is not one."""
    counts, (width, height) = segmentation.get("counts"), size
    if segmentation.get("size") != [height, width]:
        raise ValueError(f"its run-length mask has the size {segmentation.get('size')}, its photo [{height}, {width}]")
    if isinstance(counts, list):
        if min(counts, default=0) < 0 or sum(counts) != width * height:
            raise ValueError(f"the counts of its run-length mask do not sum up to {width * height:,} pixels")
        segmentation = rle.frPyObjects(segmentation, height, width)
    return rle.decode(segmentation).astype(bool)


def encode(mask: np.ndarray) -> dict:
    """COCO's run-length mask of a mask (h, w), ready for JSON."""
    found = rle.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(mask.shape), "counts": found["counts"].decode()}


def rings(area: shapely.Geometry) -> list[np.ndarray]:
    """The outer outlines (V, 2) of polygons, open."""
    return [shapely.get_coordinates(part.exterior)[:-1] for part in shapely.get_parts(area)]


def outlines(item: dict, size: tuple[int, int]) -> list[np.ndarray]:
    """An annotation's outlines (V, 2) from COCO's polygons, or traced from its run-length mask; none of a crowd's mask.

    Raises ValueError where a polygon has half a point, or one that is nowhere, or where the mask is not the photo's.
    """
    segmentation = item.get("segmentation")
    if isinstance(segmentation, dict):
        mask = decode(segmentation, size)
        return [] if item.get("iscrowd", 0) else rings(trace(mask))
    parts = [np.array(part, np.float64) for part in segmentation or []]
    if not all(part.ndim == 1 and len(part) % 2 == 0 and np.isfinite(part).all() for part in parts):
        raise ValueError("a polygon of its segmentation is not a list of an even number of finite coordinates")
    return [part.reshape(-1, 2) for part in parts]


def read(path: Path, photos: Path, category_ids: list[int], faults: list[str] | None = None) -> list[Sample]:
    """The photos of a file, in its order; `photos` is the folder that its file names start from.

    faults: a list that takes one line for each thing that is wrong, which is left out; None: the first such line is
    raised as a ValueError.
    """
    content = parse(path)
    labels = {category: label for label, category in enumerate(category_ids, 1)}
    images, objects = {}, {}
    for image in content["images"]:
        wrong = [name for name, kind in IMAGE.items() if not isinstance(image.get(name), kind)]
        if wrong:
            fault(faults, f"{path}: image {image['id']!r} is broken: {wrong[0]} is {image.get(wrong[0])!r}")
            continue
        first = images.setdefault(image["id"], image)
        if first is not image:
            fault(faults, f"{path}: image id {image['id']!r} occurs twice, for {first['file_name']} and "
                          f"{image['file_name']}")
        objects[image["id"]] = []
    for item in content["annotations"]:
        try:
            if item.get("image_id") not in images or item.get("category_id") not in labels:
                raise ValueError("it names an unknown image or category")
            image, (x, y, width, height) = images[item["image_id"]], map(float, item["bbox"])
            size, box = (int(image["width"]), int(image["height"])), (x, y, x + width, y + height)
            check_box(box, size)
            ignore, mask = bool(item.get("iscrowd", 0) or item.get("difficult", 0)), item.get("segmentation")
            objects[image["id"]].append((
                (box, labels[item["category_id"]], ignore, outlines(item, size)),
                float(item.get("area", width * height)), mask if ignore and isinstance(mask, dict) else None))
        except (KeyError, TypeError, ValueError) as error:
            said = error if isinstance(error, ValueError) else f"it is broken: {type(error).__name__} {error}"
            fault(faults, f"{path}: annotation {item.get('id')}: {said}")
    samples = []
    for number, image in images.items():
        rows, areas, masks = zip(*objects[number]) if objects[number] else ((), (), ())
        samples.append(Sample.of(
            photos / image["file_name"], (int(image["width"]), int(image["height"])), rows, id=number,
            areas=np.array(areas), crowds={index: mask for index, mask in enumerate(masks) if mask}))
    return samples


def load(path: Path, photos: Path) -> DataSet:
    """A file that `write` wrote: all its categories, and its photos below the folder `photos`."""
    kinds = parse(path)["categories"]
    ids = [item["id"] for item in kinds]
    return DataSet([item["name"] for item in kinds], ids, read(path, photos, ids))


def to_coco(dataset: DataSet, photos: Path | None = None) -> dict:
    """An annotation file's content. Photos that have no id are numbered from 1; their names start from the folder
    `photos`, or are without any folder. Boxes are rounded to thousandths of a pixel."""
    images, annotations = [], []
    for number, sample in enumerate(dataset.samples, 1):
        image_id, path = number if sample.id is None else sample.id, Path(sample.path)
        name = Path(os.path.relpath(path, photos or path.parent)).as_posix()
        images.append({"id": image_id, "file_name": name, "width": sample.size[0], "height": sample.size[1]})
        for index, (box, label, ignore, parts) in enumerate(zip(
                np.round(sample.boxes.astype(float), 3), sample.labels, sample.ignore, sample.polygons)):
            x, y, width, height = np.round((*box[:2], *(box[2:] - box[:2])), 3).tolist()
            area = polygon(parts).area if parts else width * height
            crowd = sample.crowds.get(index)
            annotations.append({
                "id": len(annotations) + 1, "image_id": image_id, "category_id": dataset.category_ids[label - 1],
                "bbox": [x, y, width, height], "area": area if sample.areas is None else float(sample.areas[index]),
                "iscrowd": int(ignore), "difficult": int(ignore and not crowd),
                "segmentation": crowd or [part.flatten().tolist() for part in parts if len(part) >= 3]})
    kinds = [{"id": number, "name": name} for number, name in zip(dataset.category_ids, dataset.classes)]
    return {"images": images, "annotations": annotations, "categories": kinds}


def write(path: Path, dataset: DataSet, photos: Path) -> None:
    """One file for the samples, with their paths from the folder `photos` on."""
    files.write_bytes(path, json.dumps(to_coco(dataset, photos)).encode())
