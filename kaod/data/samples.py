"""A photo with its objects, and what may be wrong with one."""

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import ExifTags, Image, ImageOps


@dataclass(frozen=True)
class Sample:
    """One photo and its n objects.

    path: the photo. size: (width, height). boxes: (n, 4) pixels, x1 y1 x2 y2. labels: (n,), from 1.
    ignore: (n,), true where finding the object counts neither as right nor as wrong (VOC's `difficult`,
    COCO's crowds). polygons: for each object its outlines, each (V, 2) pixels; empty where unknown.
    id: the photo's number, COCO's own or counted from 1; None: not loaded from a file. areas: (n,) px², as a COCO file
    gives them; None: those of outlines or boxes. crowds: by the object's number, the run-length masks of COCO's crowds.
    """

    path: Path | str
    size: tuple[int, int]
    boxes: np.ndarray
    labels: np.ndarray
    ignore: np.ndarray
    polygons: list[list[np.ndarray]]
    id: int | str | None = None
    areas: np.ndarray | None = None
    crowds: dict[int, dict] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path, size: tuple[int, int], objects, **more) -> "Sample":
        """From a row for each object: (box, label, ignore, outlines)."""
        boxes, labels, ignore, polygons = zip(*objects) if objects else ((), (), (), ())
        return cls(path, size, np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64),
                   np.array(ignore, bool), list(polygons), **more)

    def image(self) -> Image.Image:
        """The photo in RGB, as `read` gives it. Raises ValueError that names the file, where it is missing, broken, or
        not of the annotated size."""
        image = read(self.path, self.size)
        if image.size != self.size:
            raise ValueError(f"{self.path}: {image.size[0]}×{image.size[1]} pixels, but its annotation says "
                             f"{self.size[0]}×{self.size[1]}")
        return image


@dataclass(frozen=True)
class DataSet:
    """Samples and the names of their classes: label i is classes[i - 1], with category_ids[i - 1] in COCO files."""

    classes: list[str]
    category_ids: list[int]
    samples: list[Sample]


def read(path, size: tuple[int, int] | None = None) -> Image.Image:
    """A photo in RGB, for training, evaluation and predict alike. Raises ValueError that names the file.

    It is turned by its EXIF orientation, as viewers show it and most tools annotate it. Where the pixels as they are
    stored have the annotated `size` (w, h), and the turned ones have not, those are taken: COCO's and VOC's annotations
    ignore EXIF.
    """
    try:
        with Image.open(path) as photo:
            photo.load()
            turned = upright(photo)
    except Exception as error:  # at a broken file the decoders raise all kinds
        said = getattr(error, "strerror", None) or error or type(error).__name__  # without Python's number and path
        raise ValueError(f"{path}: not a readable photo ({said})") from None
    try:
        return as_rgb(photo if photo.size == size != turned.size else turned)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def upright(photo: Image.Image) -> Image.Image:
    """The photo turned by its EXIF orientation; as it is where it has none, or a broken EXIF block."""
    try:
        return ImageOps.exif_transpose(photo)
    except Exception:
        return photo


def in_doubt(sample: Sample) -> bool:
    """Whether a readable photo has an EXIF orientation, and its size does not tell which pixels were annotated."""
    with Image.open(sample.path) as photo:
        try:
            orientation = photo.getexif().get(ExifTags.Base.Orientation, 1)
        except Exception:  # a broken block: see `upright`
            return False
        return orientation in (2, 3, 4) or orientation in (5, 6, 7, 8) and photo.width == photo.height


def as_rgb(image: Image.Image) -> Image.Image:
    """Raises ValueError for more than 8 bits a channel, which Pillow would cut off at 255."""
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"expected 8 bits a channel; got Pillow's mode {image.mode}; please convert it")
    return image.convert("RGB")


def stems(names: list[str]) -> list[str]:
    """A name for what is made of each photo: the photo's without its suffix, or with it where that is taken.

    names: paths with slashes.
    """
    taken: dict[str, None] = {}  # keeps their order
    for name in names:
        stem, other = PurePosixPath(name).with_suffix("").as_posix(), name
        while stem in taken:
            stem, other = other, f"{other}-"
        taken[stem] = None
    return list(taken)


def below(paths) -> tuple[Path, list[Path]]:
    """The folder that holds all of these files, and each one's path from there: what tells photos apart, where a name
    alone does not."""
    whole = [os.path.abspath(path) for path in paths]
    folder = os.path.commonpath(map(os.path.dirname, whole))
    return Path(folder), [Path(os.path.relpath(path, folder)) for path in whole]


def said(path, error: Exception) -> str:
    """One line for the user: what went wrong with a photo, whose path may be in the error's own words."""
    line = f"{error or type(error).__name__}".splitlines()[0]
    return line if str(path) in line else f"{path}: {line}"


def fault(faults: list[str] | None, message: str) -> None:
    """One line for the user: noted in the list, or, where there is none, raised as a ValueError."""
    if faults is None:
        raise ValueError(message)
    faults.append(message)


def check_box(box, size: tuple[int, int]) -> None:
    """Raises ValueError for a box (x1, y1, x2, y2) without area, or of which less than half is in the photo (a little
    over its edge is common)."""
    x1, y1, x2, y2 = box
    if not (x2 > x1 and y2 > y1):
        raise ValueError(f"its box ({x1:g}, {y1:g}, {x2:g}, {y2:g}) has no area")
    inside = max(0, min(x2, size[0]) - max(x1, 0)) * max(0, min(y2, size[1]) - max(y1, 0))
    if inside < (x2 - x1) * (y2 - y1) / 2:
        raise ValueError(f"its box ({x1:g}, {y1:g}, {x2:g}, {y2:g}) lies outside the photo of {size[0]}×{size[1]} "
                         "pixels")
