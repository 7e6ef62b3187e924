"""A data set of upright boxes as its owner has it, and the same with what `relabel` reads off at each object."""

import os
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np

from .. import geometry
from . import coco, fields, files, voc
from .samples import DataSet, Sample


@dataclass
class Object:
    """A labelled object. place: in the file's list of annotations. label: from 1; box: (4,). number: in VOC's
    annotation, from 1.

    What is read off: the score, the outline (D, 2), and the corners (4, 2) of the rotated box. Both are the upright
    box's until they are read, and where that stays; `unsure` says why it stays.
    """

    place: int
    label: int
    box: np.ndarray
    difficult: bool = False
    number: int = 0
    unsure: str | None = None
    score: float = 0.0

    def __post_init__(self):
        self.outline = self.corners = geometry.corners(self.box)


@dataclass
class Photo:
    """A photo with its labelled objects. name: its path from the folder of all photos, with slashes; VOC's: with the
    name of its annotation."""

    sample: Sample
    name: str
    objects: list[Object]


@dataclass
class Labelled:
    """content: a COCO file's. classes: their names; label i is classes[i - 1]. faults: what is wrong, one line each."""

    content: dict
    classes: list[str]
    photos: list[Photo]
    faults: list[str]

    def named(self, each: Object) -> str:
        """How a message calls an object."""
        name = coco.entry("annotation", self.content["annotations"][each.place], each.place + 1)
        return f"{name} ({self.classes[each.label - 1]})"


def read(path: Path, photos: Path | None) -> Labelled:
    """A COCO file, whose names start from the folder `photos` (None: where COCO has it), or a VOC set's list, a .txt.

    What cannot be read is left out, and is one of the faults. Raises ValueError that names the file where it is neither
    of the two, and the folder where there is none.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if path.suffix == ".txt":
        return read_voc(path.resolve(), photos)
    folder = photos or coco.photo_folder(Path(), os.fspath(path.resolve()))
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; --photos names that of the photos")
    return read_coco(path, folder)


def read_coco(path: Path, folder: Path) -> Labelled:
    """A COCO file, with its photos in `folder`."""
    faults, photos = [], {}
    names = {item["id"]: item["name"] for item in coco.parse(path)["categories"]}
    content = files.read_json(path)  # anew: `parse` tidies, and what is here is written again
    labels = {number: label for label, number in enumerate(names, 1)}
    for key, image in coco.read_images(path, content["images"], faults).items():
        if image:
            photos[key] = Photo(Sample.of(folder / image[1], image[2], [], id=image[0]), image[1], [])
    for place, item in enumerate(content["annotations"]):
        try:
            key = str(fields.identity(item.get("image_id"), "image_id"))
            if key not in photos:
                raise ValueError(f"image_id is {key}, which no image that can be read has")
            (box, label, ignore, _), *_ = coco.read_object(item, photos[key].sample.size, labels, names)
            # an object that is difficult is no crowd, though the pipeline's files call it one
            crowd = fields.flag(item.get("iscrowd"), "iscrowd") and not fields.flag(item.get("difficult"), "difficult")
            photos[key].objects.append(
                Object(place, label, np.array(box), ignore, unsure="it is a crowd" if crowd else None))
        except ValueError as error:
            at = photos[key].sample.path if key in photos else path
            faults.append(f"{at}: {coco.entry('annotation', item, place + 1)}: {error}")
    return Labelled(content, list(names.values()), list(photos.values()), faults)


def read_voc(path: Path, photos: Path | None) -> Labelled:
    """A VOC set, from its list; its content as COCO has it, with ids from 1."""
    if path.parts[-3:-1] != ("ImageSets", "Main") or photos:
        raise ValueError(f"{path}: expected a COCO file, or a VOC set's list, FOLDER/ImageSets/Main/NAME.txt, with its "
                         "photos in FOLDER/JPEGImages (without --photos)")
    folder, faults, place, found = path.parents[2], [], count(), []
    name = f"{folder.name}/{path.stem}"
    classes = voc.classes(folder.parent, [name], [])  # its faults are found again below
    for number, (sample, stem, numbers) in enumerate(voc.numbered(folder.parent, name, classes, faults), 1):
        objects = [Object(next(place), int(label), box.astype(float), bool(difficult), number)
                   for label, box, difficult, number in zip(sample.labels, sample.boxes, sample.ignore, numbers)]
        found.append(Photo(replace(sample, id=number), stem + Path(sample.path).suffix, objects))
    data = DataSet(classes, list(range(1, len(classes) + 1)), [photo.sample for photo in found])
    return Labelled(coco.to_coco(data, folder / "JPEGImages"), classes, found, faults)


def filled(data: Labelled) -> dict:
    """The content, with what was read; all else as it was."""
    annotations = list(data.content["annotations"])
    for each in (each for photo in data.photos for each in photo.objects):
        old = {key: value for key, value in annotations[each.place].items() if key != "unsure"}  # of another time
        new = {"rotated_box": geometry.rotated_boxes(each.corners[None])[1][0].round(2).tolist(),
               "score": round(each.score, 4)}
        if each.unsure:
            new["unsure"] = each.unsure
        if not (each.unsure and old.get("segmentation")):  # one that somebody drew is better than a box
            new["segmentation"] = [geometry.hulls(each.outline[None])[0].round(2).flatten().tolist()]
        annotations[each.place] = old | new
    return data.content | {"annotations": annotations}
