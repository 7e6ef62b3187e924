"""The VOC devkit's files. Only the download stage reads them; all later stages read COCO JSON.

A set is named FOLDER/LIST: "VOC2007/trainval" is VOCdevkit/VOC2007 with ImageSets/Main/trainval.txt.
"""

import re
from pathlib import Path

import numpy as np
from defusedxml import ElementTree
from PIL import Image

from ..geometry import trace
from .coco import rings
from .samples import Sample, check_box, fault

VOID = 255  # the rim between objects, which belongs to none


def listed(root: Path, name: str) -> tuple[Path, Path, list[str]]:
    """The set's devkit folder, its list file, and the names in it."""
    folder, _, list_name = name.rpartition("/")
    listing = root / folder / "ImageSets" / "Main" / f"{list_name}.txt"
    if not folder or not listing.is_file():
        raise ValueError(f"{listing}: no such file (the set {name!r} of the VOC layout at {root})")
    annotations = root / folder / "Annotations"
    stems = [line.strip() for line in listing.read_text().splitlines() if line.strip()]
    for number, line in enumerate(stems):
        bare = re.sub(r"\s+-?[01]$", "", line)  # a class's lists have flags; but a photo may be called "photo 1"
        if bare != line and (annotations / f"{bare}.xml").is_file() and not (annotations / f"{line}.xml").is_file():
            stems[number] = bare
    return root / folder, listing, stems


def sources(root: Path, name: str) -> list[Path]:
    """The files that say what is in a set: its list, annotations and masks, whether they are there or not."""
    folder, listing, stems = listed(root, name)
    return [listing, *(folder / "Annotations" / f"{stem}.xml" for stem in stems),
            *(folder / "SegmentationObject" / f"{stem}.png" for stem in stems)]


def parse(path: Path):
    """(photo's file name, (w, h), [(class, difficult, box)]) of one annotation file.

    VOC counts pixels from 1 and includes the last one: (x1 − 1, y1 − 1, x2, y2) are the continuous coordinates in which
    plain IoU equals the devkit's. Some files have decimals, or nested <part>s, whose boxes do not count.
    """
    try:
        tree = ElementTree.parse(path).getroot()
        size = int(tree.findtext("size/width")), int(tree.findtext("size/height"))
        objects = []
        for item in tree.findall("object"):
            x1, y1, x2, y2 = (float(item.findtext(f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax"))
            objects.append((item.findtext("name").strip(), item.findtext("difficult", "0").strip() == "1",
                            (x1 - 1, y1 - 1, x2, y2)))
        photo = Path(tree.findtext("filename", "").strip()).name
        return photo if Path(photo).suffix else f"{path.stem}.jpg", size, objects
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (ElementTree.ParseError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path}: not a VOC annotation ({error})") from None


def classes(root: Path, sets: list[str], faults: list[str] | None = None) -> list[str]:
    """The classes that occur in these sets, by name (VOC's own order). faults: see `coco.read`."""
    names = set()
    for name in sets:
        folder, _, stems = listed(root, name)
        for stem in stems:
            try:
                names |= {item[0] for item in parse(folder / "Annotations" / f"{stem}.xml")[2]}
            except ValueError as error:
                fault(faults, str(error))
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
    folder, _, stems = listed(root, name)
    photos: dict[str, list[str]] = {}
    for photo in sorted((folder / "JPEGImages").glob("*")):
        if photo.suffix.lower() in Image.registered_extensions():
            photos.setdefault(photo.stem, []).append(photo.name)
    samples = []
    for stem in stems:
        path, mask = folder / "Annotations" / f"{stem}.xml", folder / "SegmentationObject" / f"{stem}.png"
        try:
            photo, size, objects = parse(path)
            traced = outlines(mask) if mask.is_file() else {}
        except ValueError as error:
            fault(faults, str(error))
            continue
        namesakes = photos.get(stem, [photo])  # a photo has its annotation's name; a <filename> may be out of date
        photo = photo if photo in namesakes else namesakes[0]
        rows = []
        for number, (kind, difficult, box) in enumerate(objects, 1):
            try:
                if kind not in classes:
                    raise ValueError(f"class {kind!r} is not among those of the training sets: {', '.join(classes)}")
                check_box(box, size)
                rows.append((box, classes.index(kind) + 1, difficult, traced.get(number, [])))
            except ValueError as error:
                fault(faults, f"{path}: object {number} ({kind}): {error}")
        samples.append(Sample.of(folder / "JPEGImages" / photo, size, rows))
    return samples
