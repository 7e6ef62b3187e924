"""The VOC devkit's files. Only the download stage reads them; all later stages read COCO JSON.

A set is named FOLDER/LIST: "VOC2007/trainval" is VOCdevkit/VOC2007 with ImageSets/Main/trainval.txt.
"""

import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
from defusedxml import DefusedXmlException, ElementTree
from PIL import Image

from ..geometry import trace
from . import fields, files
from .coco import SIDE, rings
from .samples import Sample, check_box, fault

VOID = 255  # the rim between objects, which belongs to none


def annotation(folder: Path, stem: str) -> Path:
    """A photo's annotation file in a devkit folder, there or not."""
    path, other = (folder / "Annotations" / f"{stem}{suffix}" for suffix in (".xml", ".XML"))
    return other if os.path.isfile(other) and not os.path.isfile(path) else path


def listed(root: Path, name: str) -> tuple[Path, Path, list[str]]:
    """The set's devkit folder, its list file, and the names in it, which may have folders, a photo's suffix, and a
    class's flag. Raises ValueError that names the list, where it is missing, no text, or leaves the devkit."""
    folder, _, list_name = name.rpartition("/")
    listing = root / folder / "ImageSets" / "Main" / f"{list_name}.txt"
    if not folder or not listing.is_file():
        raise ValueError(f"{listing}: no such file (the set {name!r} of the VOC layout at {root})")
    suffixes, stems = {".xml", *Image.registered_extensions()}, []
    for number, line in enumerate(files.read_lines(listing), 1):
        if not line.strip():
            continue
        try:
            whole = fields.path(line, "the name")
        except ValueError as error:
            raise ValueError(f"{listing}: line {number}: {error}") from None
        bare = re.sub(r"\s+-?[01]$", "", whole)  # a class's lists have flags; but a photo may be called "photo 1"
        names = [whole, bare, *(str(Path(each).with_suffix("")) for each in (whole, bare)
                                if Path(each).suffix.lower() in suffixes)]
        stems.append(next((each for each in names if os.path.isfile(annotation(root / folder, each))), whole))
    return root / folder, listing, stems


def sources(root: Path, name: str) -> list[Path]:
    """The files that say what is in a set: its list, annotations and masks, whether they are there or not."""
    folder, listing, stems = listed(root, name)
    return [listing, *(annotation(folder, stem) for stem in stems),
            *(folder / "SegmentationObject" / f"{stem}.png" for stem in stems)]


def parse(path: Path):
    """(photo's file name, (w, h), [<object>]) of one annotation file; `objects` reads the last."""
    try:
        tree = ElementTree.parse(path).getroot()
        size = tuple(fields.whole(tree.findtext(f"size/{key}"), f"size/{key}", SIDE, 1) for key in ("width", "height"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror.lower()}") from None
    except DefusedXmlException:
        raise ValueError(f"{path}: not a VOC annotation (expected XML without entities)") from None
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # LookupError: an encoding that is unknown
        raise ValueError(f"{path}: not a VOC annotation ({error})") from None
    photo = Path((tree.findtext("filename") or "").strip().replace("\\", "/")).name
    return photo if Path(photo).suffix else f"{path.stem}.jpg", size, tree.findall("object")


def objects(path: Path, items: list, faults: list[str] | None) -> list[tuple]:
    """[(number from 1, class, difficult, box)] of the <object>s that can be read.

    VOC counts pixels from 1 and includes the last one: (x1 − 1, y1 − 1, x2, y2) are the continuous coordinates in which
    plain IoU equals the devkit's. Some files have decimals, or nested <part>s, whose boxes do not count.
    """
    found = []
    for number, item in enumerate(items, 1):
        try:
            x1, y1, x2, y2 = (fields.number(item.findtext(f"bndbox/{key}"), f"bndbox/{key}")
                              for key in ("xmin", "ymin", "xmax", "ymax"))
            found.append((number, fields.text(item.findtext("name"), "name"),
                          fields.flag(item.findtext("difficult"), "difficult"), (x1 - 1, y1 - 1, x2, y2)))
        except ValueError as error:
            fault(faults, f"{path}: object {number}: {error}")
    return found


def classes(root: Path, sets: list[str], faults: list[str] | None = None) -> list[str]:
    """The classes that occur in these sets, by name (VOC's own order). faults: see `coco.read`."""
    names = set()
    for name in sets:
        folder, _, stems = listed(root, name)
        for path in (annotation(folder, stem) for stem in stems):
            try:
                items = parse(path)[2]
            except ValueError as error:
                fault(faults, str(error))
                continue
            names |= {kind for _, kind, *_ in objects(path, items, faults)}
    return sorted(names)


def outlines(path: Path) -> dict[int, list[np.ndarray]]:
    """{instance: its outer outlines, each (V, 2)} of a mask, along the edges of its pixels. Instance i is the i-th
    object of the annotation; some have no pixel of their own. Raises ValueError that names the file."""
    try:
        values = np.asarray(Image.open(path))
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path}: not a readable mask ({error})") from None
    if values.ndim != 2:
        raise ValueError(f"{path}: expected one channel of instance numbers, got shape {values.shape}")
    return {int(value): rings(trace(values == value)) for value in np.unique(values) if value not in (0, VOID)}


def read(root: Path, name: str, classes: list[str], faults: list[str] | None = None) -> list[Sample]:
    """The photos of a set, found by the name of their annotation file, else by the <filename> in it, with outlines
    where there is a SegmentationObject/*.png. faults: see `coco.read`."""
    return [sample for sample, *_ in numbered(root, name, classes, faults)]


def numbered(root: Path, name: str, classes: list[str], faults: list[str] | None) -> list[tuple[Sample, str, list]]:
    """The same, each with its annotation's name, and the numbers that its objects have there, from 1."""
    folder, listing, stems = listed(root, name)
    photos: dict[str, list[str]] = {}
    for photo in sorted((folder / "JPEGImages").rglob("*")):
        if photo.suffix.lower() in Image.registered_extensions():
            place = photo.relative_to(folder / "JPEGImages")
            photos.setdefault(place.with_suffix("").as_posix(), []).append(place.as_posix())
    samples = []
    for stem, times in Counter(stems).items():
        if times > 1:
            fault(faults, f"{listing}: {stem} stands there {times} times")
        path, mask = annotation(folder, stem), folder / "SegmentationObject" / f"{stem}.png"
        try:
            photo, size, items = parse(path)
            traced = outlines(mask) if mask.is_file() else {}
        except ValueError as error:
            fault(faults, str(error))
            continue
        photo = (Path(stem).parent / photo).as_posix()
        namesakes = photos.get(stem, [photo])  # a photo has its annotation's name; a <filename> may be out of date
        photo = photo if photo in namesakes else namesakes[0]
        rows, numbers = [], []
        for number, kind, difficult, box in objects(path, items, faults):
            try:
                if kind not in classes:
                    raise ValueError(f"class {kind!r} is not among those of the training sets: {', '.join(classes)}")
                check_box(box, size)
                rows.append((box, classes.index(kind) + 1, difficult, traced.get(number, [])))
                numbers.append(number)
            except ValueError as error:
                fault(faults, f"{path}: object {number} ({kind}): {error}")
        if len(rows) == len(items) or not all(difficult for _, _, difficult, _ in rows):
            samples.append((Sample.of(folder / "JPEGImages" / photo, size, rows), stem, numbers))
    return samples
