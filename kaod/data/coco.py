"""COCO JSON: a user's files, and the one format that all stages read and write.

What the stages write has one key more: `difficult`, 1 for an object that counts neither way and is no crowd's mask.
Such an object is also `iscrowd`, so that pycocotools ignores it.
"""

import json
import os
import re
from pathlib import Path

import numpy as np
import shapely
from pycocotools import mask as rle

from ..geometry import polygon, trace
from . import fields, files
from .samples import DataSet, Sample, check_box, fault

LISTS = ("images", "annotations", "categories")
SIDE = "a whole number of pixels, at least 1"


def photo_folder(root: Path, name: str, photos: str | None = None) -> Path:
    """The folder that the file names of the set `name` start from.

    annotations/instances_NAME.json has its photos in NAME/, beside annotations/, or in `photos` there. A file of
    another name, in no annotations/, lies beside them.
    """
    folder = Path(name).parent
    beside = folder.parent if folder.name == "annotations" else folder
    found = re.fullmatch(r"instances_(.+)\.json", Path(name).name)
    if not photos and not found and beside != folder:
        raise ValueError(f"{name}: expected annotations/instances_NAME.json, with its photos in NAME/; or name their "
                         "folder (`photos` in params.yaml, or --photos)")
    return root / beside / (photos or (found[1] if found else ""))


def parse(path: Path) -> dict:
    """A file's content: three lists of objects, the ids and names of its categories checked. Raises ValueError that
    names the file."""
    content = files.read_json(path)
    for key in LISTS:
        items = content.get(key) if isinstance(content, dict) else None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise ValueError(f"{path}: not a COCO annotation file ({key}: expected a list of objects)")
    for place, item in enumerate(content["categories"], 1):
        try:
            item |= {"id": fields.whole(item.get("id"), "id"), "name": fields.text(item.get("name"), "name")}
        except ValueError as error:
            raise ValueError(f"{path}: {entry('category', item, place)}: {error}") from None
    return content


def entry(kind: str, item: dict, place: int) -> str:
    """How a message calls an entry of a file: by its id, or by its place where it has none."""
    return f"{kind} {place if item.get('id') is None else item['id']}"


def categories(root: Path, *names: str) -> list[dict]:
    """[{"id", "name"}] of the sets together, by id. Raises ValueError where they do not agree on an id's name, or use
    a name twice.

    The root of a tree of classes, as Roboflow writes one, is no class: it is what others name as their supercategory,
    and has no object.
    """
    found: dict[int, str] = {}
    roots, used = [], set()
    for name in names:
        if not (root / name).is_file():
            raise ValueError(f"{root / name}: no such file; in the COCO layout at {root} it has the annotations of the "
                             f"photos in {photo_folder(root, name)}")
        content = parse(root / name)
        for item in content["categories"]:
            if found.setdefault(item["id"], item["name"]) != item["name"]:
                raise ValueError(f"{root / name}: category {item['id']} is {item['name']!r}, but elsewhere "
                                 f"{found[item['id']]!r}")
            if item.get("supercategory") != item["name"]:
                roots.append(item.get("supercategory"))
        for kind in found.values():
            if list(found.values()).count(kind) > 1:
                raise ValueError(f"{root / name}: more than one category is called {kind!r}")
        used |= {str(item.get("category_id")) for item in content["annotations"]}
    return [{"id": number, "name": found[number]} for number in sorted(found)
            if found[number] not in roots or str(number) in used]


def decode(segmentation: dict, size: tuple[int, int]) -> np.ndarray:
    """COCO's run-length mask of a photo of `size` (w, h): (h, w), bool. Raises ValueError if it is not one."""
    counts, (width, height) = segmentation.get("counts"), size
    if fields.numbers(segmentation.get("size"), "segmentation.size").tolist() != [height, width]:
        raise ValueError(f"its run-length mask has the size {segmentation['size']}, its photo [{height}, {width}]")
    if isinstance(counts, list):
        runs = fields.numbers(counts, "segmentation.counts")
        if (runs < 0).any() or (runs % 1).any() or runs.sum() != width * height:
            raise ValueError(f"the counts of its run-length mask do not sum up to {width * height:,} pixels")
        segmentation = rle.frPyObjects({"size": [height, width], "counts": runs.astype(int).tolist()}, height, width)
    elif not isinstance(counts, str):
        raise fields.wrong("segmentation.counts", counts, "a list of run lengths, or those as pycocotools writes them")
    try:
        return rle.decode(segmentation | {"size": [height, width]}).astype(bool)
    except ValueError as error:
        raise ValueError(f"the counts of its run-length mask cannot be read ({error})") from None


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
        return [] if fields.flag(item.get("iscrowd"), "iscrowd") else rings(trace(mask))
    if not isinstance(segmentation or [], list):
        raise fields.wrong("segmentation", segmentation, "a list of polygons, or a run-length mask")
    try:
        parts = [fields.numbers(part, "segmentation") for part in segmentation or []]
    except ValueError:
        parts = [np.zeros(1)]
    if any(len(part) % 2 for part in parts):
        raise ValueError("a polygon of its segmentation is not a list of an even number of finite coordinates")
    return [part.reshape(-1, 2) for part in parts]


def read_object(item: dict, size: tuple[int, int], labels: dict[int, int], names: dict[int, str]) -> tuple:
    """An annotation of a photo of `size` as ((box, label, ignore, outlines), area, a crowd's mask or None).

    labels: by the ids of the training sets' categories. names: by the ids of this file's. Raises ValueError.
    """
    category = fields.whole(item.get("category_id"), "category_id")
    if category not in labels:
        raise ValueError(f"it names an unknown image or category: category_id is {category} "
                         f"({names.get(category, 'not in this file')}), which no training set has")
    x, y, width, height = fields.numbers(
        item.get("bbox"), "bbox", "four finite numbers: x, y, width, height", 4).tolist()
    box = (x, y, x + width, y + height)
    check_box(box, size)
    ignore = any(fields.flag(item.get(key), key) for key in ("iscrowd", "difficult"))
    area = fields.number(item.get("area", width * height), "area", "a finite number, at least 0", 0)
    parts, mask = outlines(item, size), item.get("segmentation")
    return (box, labels[category], ignore, parts), area, mask if ignore and isinstance(mask, dict) else None


def read_images(path: Path, items: list[dict], faults: list[str] | None) -> dict[str, tuple | None]:
    """{id as text: (id, file name, (w, h))} of a file's images; None in place of one that a fault was noted of.

    As text, since some files have 1 in one place and "1" in the other.
    """
    found, first, taken = {}, {}, {}
    for place, item in enumerate(items, 1):
        said = entry("image", item, place)
        try:
            number = fields.identity(item.get("id"), "id")
            key = str(number)
            if first.setdefault(key, item) is not item:
                said = f"image id {number!r} occurs twice"
                raise ValueError(f"for {first[key].get('file_name')} and {item.get('file_name')}")
            found[key] = None
            name = fields.path(item.get("file_name"), "file_name")
            size = tuple(fields.whole(item.get(side), side, SIDE, 1) for side in ("width", "height"))
            if taken.setdefault(name, key) != key:
                raise ValueError(f"file_name is {name!r}, which image {taken[name]} has, too")
            found[key] = number, name, size
        except ValueError as error:
            fault(faults, f"{path}: {said}: {error}")
    return found


def read(path: Path, photos: Path, category_ids: list[int], faults: list[str] | None = None) -> list[Sample]:
    """The photos of a file, in its order; `photos` is the folder that its file names start from.

    faults: a list that takes one line for each thing that is wrong, which is left out; None: the first such line is
    raised as a ValueError. A photo goes whole where an object cannot be read and none is left to learn: without it the
    photo would teach that there is nothing.
    """
    content = parse(path)
    labels = {category: label for label, category in enumerate(category_ids, 1)}
    names = {item["id"]: item["name"] for item in content["categories"]}
    images = read_images(path, content["images"], faults)
    objects: dict[str, list] = {key: [] for key in images}
    lost: dict[str | None, bool] = {}  # photos with objects that cannot be read; true: with one that would be learned
    for place, item in enumerate(content["annotations"], 1):
        key = None
        try:
            key = str(fields.identity(item.get("image_id"), "image_id"))
            if key not in images:
                raise ValueError(f"it names an unknown image or category: image_id is {key}, which no image has")
            if images[key]:
                objects[key].append(read_object(item, images[key][2], labels, names))
        except ValueError as error:
            lost[key] = lost.get(key, False) or not (item.get("iscrowd") or item.get("difficult"))
            fault(faults, f"{path}: {entry('annotation', item, place)}: {error}")
    samples = []
    for key, (number, name, size) in ((key, image) for key, image in images.items() if image):
        rows, areas, masks = zip(*objects[key]) if objects[key] else ((), (), ())
        if key in lost and (not rows or lost[key] and all(ignore for _, _, ignore, _ in rows)):
            continue
        samples.append(Sample.of(photos / name, size, rows, id=number, areas=np.array(areas), crowds={
            index: mask for index, mask in enumerate(masks) if mask}))
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


def to_bytes(dataset: DataSet, photos: Path) -> bytes:
    """One file for the samples, with their paths from the folder `photos` on."""
    return json.dumps(to_coco(dataset, photos)).encode()


def write(path: Path, dataset: DataSet, photos: Path) -> None:
    files.write_bytes(path, to_bytes(dataset, photos))
