"""Rotated boxes as other tools read them: DOTA's text files, and those of YOLO-OBB with its data.yaml.

DOTA (captain-whu.github.io/DOTA): labelTxt/PHOTO.txt, a line `x1 y1 x2 y2 x3 y3 x4 y4 class difficult` for each
object: corners in pixels, clockwise; class names have no spaces.
YOLO-OBB (docs.ultralytics.com/datasets/obb): labels/PHOTO.txt beside images/PHOTO.*, a line `class x1 y1 … x4 y4` for
each object: classes count from 0, corners are shares of the photo's width and height, in [0, 1].
"""

import io
import shutil
from pathlib import Path, PurePosixPath

import numpy as np
import shapely
import yaml
from PIL import Image

from ..geometry import masks
from . import files, samples
from .voc import VOID


def stems(names: list[str]) -> list[str]:
    """`samples.stems` of photos' names, without the folders called "images": YOLO takes the last such folder of a path
    for its own."""
    parts = [PurePosixPath(name).parts for name in names]
    return samples.stems([PurePosixPath(*(folder for folder in folders if folder != "images"), last).as_posix()
                          for *folders, last in parts])


def dota(corners: np.ndarray, classes: list[str], difficult: np.ndarray) -> str:
    """One photo's file. corners: (n, 4, 2) pixels; classes: their n names; difficult: (n,)."""
    return "".join(
        f"{' '.join(f'{each:.2f}' for each in ring.flatten())} {'-'.join(name.split())} {int(hard)}\n"
        for ring, name, hard in zip(corners, classes, difficult))


def yolo(corners: np.ndarray, labels: np.ndarray, size: tuple[int, int]) -> str:
    """One photo's file. corners: (n, 4, 2) pixels, cut to the frame; labels: (n,), from 1; size: width and height."""
    shares = (corners / np.array(size)).clip(0, 1)
    return "".join(f"{label - 1} {' '.join(f'{each:.6f}' for each in ring.flatten())}\n"
                   for ring, label in zip(shares, labels))


def write(folder: Path, photos: list[dict], classes: list[str]) -> None:
    """FOLDER/dota/labelTxt/ and FOLDER/yolo/, of photos: dicts of path, name (from the photos' folder), size
    (w, h), corners (n, 4, 2), labels (n,), difficult (n,).

    YOLO looks for labels/ beside images/, so images/ has links to the photos that are there (copies, where links cannot
    be made). Objects that are difficult are left out there, as YOLO has no word for them.
    """
    for photo, stem in zip(photos, stems([photo["name"] for photo in photos])):
        kept = ~photo["difficult"]
        files.write_bytes(folder / "dota" / "labelTxt" / f"{stem}.txt", dota(
            photo["corners"], [classes[label - 1] for label in photo["labels"]], photo["difficult"]).encode())
        files.write_bytes(folder / "yolo" / "labels" / f"{stem}.txt", yolo(
            photo["corners"][kept], photo["labels"][kept], photo["size"]).encode())
        path = Path(photo["path"])
        link = folder / "yolo" / "images" / f"{stem}{path.suffix}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)  # of another run: a copy would go through it, over somebody's photo
        if path.is_file():
            try:
                link.symlink_to(path.resolve())
            except OSError:
                with files.writing(link):  # shutil would name the photo that it copies
                    shutil.copy(path, link)
    content = {"train": "images", "val": "images", "names": dict(enumerate(classes))}  # from the file's own folder on
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    files.write_bytes(folder / "yolo" / "data.yaml", text.encode())


def voc(folder: Path, stem: str, outlines: list[np.ndarray], labels: list[int], numbers: list[int],
        size: tuple[int, int]) -> None:
    """One photo's masks: SegmentationObject/STEM.png says of which object each pixel is, by its number from 1, and
    SegmentationClass/STEM.png of which label. Where two objects meet, the smaller is in front. Objects with numbers
    above 254 are left out, as VOC's masks have none for them.

    outlines: (V, 2) pixels each. size: width and height.
    """
    instances, kinds = np.zeros((2, *size[::-1]), np.uint8)
    areas = [shapely.convex_hull(shapely.multipoints(outline)).area for outline in outlines]
    for index in np.argsort(areas)[::-1]:
        if numbers[index] < VOID:
            mask = masks(outlines[index][None], size)[0]
            instances[mask], kinds[mask] = numbers[index], labels[index]
    for name, values in (("SegmentationObject", instances), ("SegmentationClass", kinds)):
        image, buffer = Image.fromarray(values), io.BytesIO()
        image.putpalette([sum((value >> 3 * bit + channel & 1) << 7 - bit for bit in range(3))
                          for value in range(256) for channel in range(3)])  # the devkit's colours
        image.save(buffer, "png")
        files.write_bytes(folder / name / f"{stem}.png", buffer.getvalue())
