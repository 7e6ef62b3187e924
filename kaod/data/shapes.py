"""Draws the embedded data set: small photos of seven shapes, in COCO's layout.

The classes differ in vertex count and symmetry, and their median count, 16, is that of the paper's rule
for VOC (17 → K = 16). Every object stands within ±30° of upright, so that a detector has to be robust to
turn to do well on the rotated test set. Same seed, same bytes.
"""

import colorsys
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from tqdm import tqdm

from ..geometry import polygon
from . import coco, files
from .samples import DataSet, Sample

SCALE = 3  # drawn larger, then reduced: smooth edges


def _ring(radii, start=-90.0) -> np.ndarray:
    """Corners at equal angles with these radii, the first one on top."""
    angles = np.radians(start + np.arange(len(radii)) * 360 / len(radii))
    return np.stack((np.cos(angles), np.sin(angles)), 1) * np.asarray(radii)[:, None]


def _crescent() -> np.ndarray:
    """An outer arc of 11 corners, and back along an inner arc of 9."""
    outer, inner = np.radians(np.linspace(50, 310, 11)), np.linspace(310, 50, 11)[1:-1]
    inner = np.radians(180 + (inner - 180) * 0.93)
    return np.concatenate((np.stack((np.cos(outer), np.sin(outer)), 1),
                           np.stack((0.35 + 0.72 * np.cos(inner), 0.80 * np.sin(inner)), 1)))


TURN = np.arange(16) * 2 * math.pi / 16
OUTLINES = {  # name: corners in a frame of about [-1, 1], upright; listed by name, as VOC's classes are
    "crescent": _crescent(),  # 20 corners, one mirror axis
    "cross": np.array([(-.25, -1), (.25, -1), (.25, -.45), (.75, -.45), (.75, .05), (.25, .05), (.25, 1), (-.25, 1),
                       (-.25, .05), (-.75, .05), (-.75, -.45), (-.25, -.45)]),  # 12, one mirror axis
    "drop": np.stack((0.75 * np.sin(TURN) * np.sin(TURN / 2) ** 1.5, -np.cos(TURN)), 1),  # 16, one mirror axis
    "ellipse": _ring(np.ones(24)) * (0.5, 1.0),  # 24, two mirror axes
    "gear": _ring(np.tile([1.0, 1.0, 0.7, 0.7], 8), start=-95.6),  # 32, turns into itself by 45°
    "l": np.array([(-.6, -1), (-.1, -1), (-.1, .5), (.6, .5), (.6, 1), (-.6, 1)]),  # 6, no symmetry
    "star": _ring(np.tile([1.0, 0.42], 5)),  # 10, turns into itself by 72°
}


def _colour(rng, hue: float | None = None, stray: float = 0.07) -> np.ndarray:
    """A colour around a hue, or a greyish one of any hue. The colours of a class are spread evenly around the circle
    (a normal as wide as ten of them): its shape alone tells what it is, so a turn is a test."""
    if hue is None:
        hsv = rng.uniform(), rng.uniform(0, 0.35), rng.uniform(0.25, 0.9)
    else:
        hsv = (hue + rng.normal(0, stray)) % 1, rng.uniform(0.5, 1), rng.uniform(0.5, 0.95)
    return 255 * np.array(colorsys.hsv_to_rgb(*hsv))


def _texture(rng, size: int, colour) -> Image.Image:
    """A colour with one of three textures: blotches, stripes, or a gradient. On the scale of the drawing."""
    kind = rng.integers(3)
    if kind == 0:
        cells = int(rng.integers(3, 12))
        pattern = np.asarray(Image.fromarray(rng.integers(0, 256, (cells, cells), np.uint8)).resize(
            (size, size), Image.Resampling.BICUBIC), np.float64) / 255 - 0.5
    else:
        ys, xs = np.mgrid[:size, :size] / size
        angle = rng.uniform(0, math.pi)
        along = xs * math.cos(angle) + ys * math.sin(angle)
        pattern = 0.5 * np.sin(along * rng.uniform(15, 60)) if kind == 1 else along - 0.5
    shades = np.asarray(colour) + pattern[..., None] * rng.uniform(5, 30)
    image = Image.fromarray(np.clip(shades, 0, 255).astype(np.uint8))
    return image.resize((size * SCALE, size * SCALE), Image.Resampling.BILINEAR)


def _object(rng, size: int) -> tuple[int, np.ndarray]:
    """A class and its outline, in pixels: log-uniform in size, within ±30° of upright, inside the frame."""
    label = int(rng.integers(len(OUTLINES)))
    extent = size * math.exp(rng.uniform(math.log(0.22), math.log(0.80)))  # the longer side, upright
    outline = list(OUTLINES.values())[label]
    angle = math.radians(rng.uniform(-30, 30))
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    points = outline * rng.uniform(0.85, 1.15, 2) @ turn * extent / 2
    return label + 1, points - points.min(0) + rng.uniform(0, np.maximum(size - np.ptp(points, 0), 1))


def draw(rng, size: int):
    """One photo: (image, labels, outlines). Later objects lie over earlier ones."""
    image = _texture(rng, size, _colour(rng))
    canvas = ImageDraw.Draw(image)
    for _ in range(rng.integers(4, 13)):  # clutter: lines, arcs and small blobs
        place, reach = rng.uniform(0, size, 2) * SCALE, rng.uniform(3, 0.14 * size, 2) * SCALE
        colour = tuple(int(v) for v in _colour(rng, rng.uniform()))
        kind = rng.integers(3)
        if kind == 0:
            canvas.line([*place, *(rng.uniform(0, size, 2) * SCALE)], colour, int(rng.integers(1, 3)) * SCALE)
        elif kind == 1:
            canvas.polygon([tuple(place + reach * rng.uniform(-0.6, 0.6, 2)) for _ in range(3)], colour)
        else:
            start = rng.uniform(0, 360)
            canvas.arc([*(place - reach), *(place + reach)], start, start + rng.uniform(60, 200), colour, 2 * SCALE)
    labels, outlines, areas = [], [], []
    wanted, tries = int(rng.integers(1, 5)), 20
    while len(labels) < wanted and tries:
        tries -= 1
        label, points = _object(rng, size)
        area = polygon([points])
        # partly overlapping, but at least 65 % of each object stays visible
        if any(area.intersection(other).area > min(0.35 * other.area, 0.5 * area.area) for other in areas):
            continue
        stencil = Image.new("L", image.size)
        ImageDraw.Draw(stencil).polygon([tuple(point) for point in points * SCALE], 255)
        image.paste(_texture(rng, size, _colour(rng, 0, stray=10)), mask=stencil)
        labels.append(label)
        outlines.append(points)
        areas.append(area)
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BOX).filter(
        ImageFilter.GaussianBlur(rng.uniform(0, 0.7))), np.float64)
    pixels = np.clip(pixels + rng.normal(0, rng.uniform(1, 6), pixels.shape), 0, 255).astype(np.uint8)
    return Image.fromarray(pixels), labels, outlines


def write(folder, settings, sets: list[str]) -> None:
    """Draws `settings.train` photos into the set sets[0] and `settings.test` into sets[1], below `folder`, in COCO's
    layout."""
    classes = list(OUTLINES)
    for number, (name, count) in enumerate(zip(sets, (settings.train, settings.test))):
        photos, samples = coco.photo_folder(Path(folder), name), []
        photos.mkdir(parents=True)
        for index in tqdm(range(count), f"drawing {name}", disable=None):
            image, labels, outlines = draw(np.random.default_rng([settings.seed, number, index]), settings.size)
            ends = (np.array((points.min(0), points.max(0)), np.float32).ravel() for points in outlines)
            rows = [(box.astype(float).round(2), label, False, [points.round(2)])
                    for box, label, points in zip(ends, labels, outlines)]
            samples.append(Sample.of(photos / f"{number}{index:05d}.jpg", image.size, rows, id=index + 1))
            with files.writing(samples[-1].path):
                image.save(samples[-1].path, quality=95)
        coco.write(Path(folder, name), DataSet(classes, list(range(1, len(classes) + 1)), samples), photos)
