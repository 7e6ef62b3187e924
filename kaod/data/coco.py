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
from .datasets import DataSet, Sample, box_fault, fault


def photo_folder(root: Path, name: str) -> Path:
    """The folder of a set's photos: annotations/instances_NAME.json → NAME/."""
    found = re.fullmatch(r"instances_(.+)\.json", Path(name).name)
    if not found:
        raise ValueError(f"{name}: a set of the COCO layout is named annotations/instances_NAME.json, "
                         "with its photos in NAME/")
    return root / found[1]


def parse(path: Path) -> dict:
    """A file's content, its outer form checked. Raises ValueError that names the file."""
    content = files.read_json(path)
    lists = [content.get(key) for key in ("images", "annotations", "categories")] if isinstance(content, dict) else [0]
    if not all(isinstance(each, list) and all(isinstance(item, dict) for item in each) for each in lists):
        raise ValueError(f"{path}: not a COCO annotation file (expected lists of images, annotations and categories)")
    if not all(isinstance(item.get("id"), int) and isinstance(item.get("name"), str) for item in lists[2]):
        raise ValueError(f"{path}: a category without a whole number as id and a text as name")
    if not all(isinstance(item.get("id"), (int, str)) for item in lists[0]):
        raise ValueError(f"{path}: an image whose id is neither a number nor text")
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
    twice = {kind for kind in found.values() if list(found.values()).count(kind) > 1}
    if twice:
        raise ValueError(f"{root / names[0]}: more than one category is called {min(twice)!r}")
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


def outlines(item: dict, size: tuple[int, int]) -> list[np.ndarray]:
    """An annotation's outlines (V, 2) from COCO's polygons, or traced from its run-length mask; none of a crowd's mask.

    Raises ValueError where a polygon has half a point, or one that is nowhere, or where the mask is not the photo's.
    """
    segmentation = item.get("segmentation")
    if isinstance(segmentation, list):
        parts = [np.array(part, np.float64) for part in segmentation]
        if not all(part.ndim == 1 and len(part) % 2 == 0 and np.isfinite(part).all() for part in parts):
            raise ValueError("a polygon of its segmentation is not a list of an even number of finite coordinates")
        return [part.reshape(-1, 2) for part in parts]
    if not isinstance(segmentation, dict):
        return []
    mask = decode(segmentation, size)
    return [] if item.get("iscrowd", 0) else [
        shapely.get_coordinates(part.exterior)[:-1] for part in shapely.get_parts(trace(mask))]


def read(path: Path, photos: Path, category_ids: list[int], faults: list[str] | None = None) -> list[Sample]:
    """The photos of a file, in its order; `photos` is the folder that its file names start from.

    Crowds (iscrowd: 1, run-length masks) are ignored objects without polygons; other objects' run-length masks
    are traced. faults: a list that takes one line for each thing that is wrong, which is then left out; None: the first
    such line is raised as a ValueError.
    """
    content = parse(path)
    labels = {category: index + 1 for index, category in enumerate(category_ids)}
    images = {}
    for image in content["images"]:
        if image["id"] in images:
            fault(faults, f"{path}: image id {image['id']!r} occurs twice, for {images[image['id']].get('file_name')} "
                          f"and {image.get('file_name')}")
        else:
            images[image["id"]] = image
    by_image: dict[int | str, list] = {number: [] for number in images}
    for item in content["annotations"]:
        image, number = item.get("image_id"), item.get("id")
        known = isinstance(image, (int, str)) and isinstance(item.get("category_id"), int)
        if not known or image not in by_image or item["category_id"] not in labels:
            fault(faults, f"{path}: annotation {number} names an unknown image or category")
            continue
        try:
            size = images[image].get("width"), images[image].get("height")
            x, y, width, height = map(float, item["bbox"])
            float(item.get("area", 0))
            wrong = box_fault((x, y, x + width, y + height), size)
            parts = [] if wrong else outlines(item, size)
        except ValueError as error:
            wrong = str(error)
        except (KeyError, TypeError) as error:
            wrong = f"it or its image is broken: {type(error).__name__} {error}"
        if wrong:
            fault(faults, f"{path}: annotation {number}: {wrong}")
        else:
            by_image[image].append((item, parts))
    samples = []
    for number, image in images.items():
        try:
            samples.append(_sample(image, by_image[number], photos, labels))
        except (KeyError, TypeError, ValueError) as error:
            fault(faults, f"{path}: image {number} is broken: {type(error).__name__} {error}")
    return samples


def _sample(image: dict, objects: list[tuple[dict, list]], photos: Path, labels: dict[int, int]) -> Sample:
    items = [item for item, _ in objects]
    boxes = np.array([item["bbox"] for item in items], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    ignore = [bool(item.get("iscrowd", 0) or item.get("difficult", 0)) for item in items]
    return Sample(
        photos / image["file_name"], (int(image["width"]), int(image["height"])), boxes.astype(np.float32),
        np.array([labels[item["category_id"]] for item in items], np.int64), np.array(ignore, bool),
        [parts for _, parts in objects], image["id"],
        np.array([item.get("area", (x2 - x1) * (y2 - y1)) for item, (x1, y1, x2, y2) in zip(items, boxes)], np.float64),
        {index: item["segmentation"] for index, item in enumerate(items)
         if ignore[index] and isinstance(item.get("segmentation"), dict)})


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
        name = path.name if photos is None else Path(os.path.relpath(path, photos)).as_posix()
        images.append({"id": image_id, "file_name": name, "width": sample.size[0], "height": sample.size[1]})
        for index, (box, label, ignore, parts) in enumerate(zip(
                np.round(sample.boxes.astype(float), 3), sample.labels, sample.ignore, sample.polygons)):
            x, y, width, height = np.round((*box[:2], *(box[2:] - box[:2])), 3).tolist()
            if sample.areas is not None:
                area = float(sample.areas[index])
            else:
                area = polygon(parts).area if parts else width * height
            crowd = sample.crowds.get(index)
            annotations.append({
                "id": len(annotations) + 1, "image_id": image_id, "category_id": dataset.category_ids[label - 1],
                "bbox": [x, y, width, height], "area": area, "iscrowd": int(ignore),
                "difficult": int(ignore and not crowd),
                "segmentation": crowd or [part.flatten().tolist() for part in parts if len(part) >= 3]})
    return {"images": images, "annotations": annotations,
            "categories": [{"id": number, "name": name}
                           for number, name in zip(dataset.category_ids, dataset.classes)]}


def write(path: Path, dataset: DataSet, photos: Path) -> None:
    """One file for the samples, with their paths from the folder `photos` on."""
    files.write_bytes(path, json.dumps(to_coco(dataset, photos)).encode())
