"""Writes the rotated, cropped and shifted test sets: -rt, -cr and -tr beside the set as it is, -st.

-rt: every photo turned by a random angle, cropped to the largest rectangle without empty border.
-cr: the same crops without the turn, a control for scale. -tr: every photo moved along x and y, cropped.
Each is written in the layout of its source, with annotations of its own, so that any detector can be
evaluated on it. Ground truth: where an object's outlines are known, the box of the transformed outlines;
else the box of the transformed corners of its box. An object with less than `min_area` of its area left in
the frame is ignored: in VOC's layout `difficult`, in COCO's `iscrowd`.

`python -m kaod.warp` writes runs/<profile>/warped/{rt,cr,tr}/, each with the maps it used in maps.json.
"""

import math
import shutil
import sys
from dataclasses import replace

import numpy as np
import shapely
import torch
from torchvision.transforms.functional import pil_to_tensor, to_pil_image
from tqdm import tqdm

from . import datasets, files, params
from .geometry import corners, largest_crop, polygon, rigid, transform, warp_images

KINDS = ("rt", "cr", "tr")
NAMES = {"st": "as it is", "rt": "rotated", "cr": "cropped like -rt", "tr": "shifted"}


def draw_map(kind: str, size: tuple[int, int], rng, settings: params.Warp) -> tuple[torch.Tensor, tuple[int, int]]:
    """A random map (2, 3) from a photo of `size` (w, h) to the new one, and the new one's size."""
    width, height = size
    angle = rng.uniform(-settings.angle, settings.angle)
    shift = rng.uniform(-settings.shift, settings.shift, 2)
    if kind == "tr":  # whole pixels, so that nothing is resampled
        dx, dy = round(shift[0] * width), round(shift[1] * height)
        return torch.tensor([[1, 0, min(dx, 0)], [0, 1, min(dy, 0)]], dtype=torch.float64), (
            width - abs(dx), height - abs(dy))
    fits = [math.floor(side + 1e-6) for side in largest_crop(width, height, angle)]
    # an even margin, so that -cr cuts whole pixels
    width, height = (max(1, crop - (side - crop) % 2) for side, crop in zip(size, fits))
    whole = torch.tensor(size, dtype=torch.float64)
    margin = (whole - torch.tensor([width, height])) / 2
    angle = torch.tensor(angle if kind == "rt" else 0.0, dtype=torch.float64)
    return rigid(angle, -margin, whole / 2), (width, height)


def warp_image(image, T: torch.Tensor, size: tuple[int, int]):
    """A PIL image through T (2, 3), cut to `size` (w, h) from the top left."""
    pixels = pil_to_tensor(image)[None].double()
    warped = warp_images(pixels, T[None], torch.tensor([image.size]), "reflect")[0, :, :size[1], :size[0]]
    return to_pil_image(warped.round().clamp(0, 255).byte())


def warp_sample(sample: datasets.Sample, T: torch.Tensor, size: tuple[int, int], min_area: float):
    """The sample's annotations through T, cut to the frame (0, 0, w, h); objects that left it are dropped."""
    frame = shapely.box(0, 0, *size)
    rings = transform(T, corners(torch.from_numpy(sample.boxes.astype(np.float64)))).numpy()
    boxes, labels, ignore, polygons = [], [], [], []
    for ring, label, was_ignored, parts in zip(rings, sample.labels, sample.ignore, sample.polygons):
        moved = [transform(T, torch.from_numpy(np.asarray(part, np.float64))).numpy() for part in parts]
        whole = polygon(moved) if parts else shapely.Polygon(ring)
        if whole.area == 0:
            whole = shapely.Polygon(ring)
        left = whole.intersection(frame)
        if left.area == 0:
            continue
        boxes.append(left.bounds if parts else np.clip(
            np.concatenate((ring.min(0), ring.max(0))), 0, np.tile(size, 2)))
        labels.append(label)
        ignore.append(was_ignored or left.area < min_area * whole.area)
        polygons.append([shapely.get_coordinates(part.exterior)[:-1] for part in shapely.get_parts(left)
                         if part.geom_type == "Polygon"] if parts else [])
    return replace(sample, size=size, boxes=np.array(boxes, np.float32).reshape(-1, 4),
                   labels=np.array(labels, np.int64), ignore=np.array(ignore, bool), polygons=polygons)


def write(profile: params.Profile, kind: str) -> None:
    """One warped copy of all test sets of the profile."""
    root = profile.runs / "warped" / kind
    shutil.rmtree(root, ignore_errors=True)
    maps = {}
    for name in profile.test_sets:
        dataset = datasets.load(profile, [name])
        drawn = [draw_map(kind, sample.size, np.random.default_rng([profile.warp.seed, index]), profile.warp)
                 for index, sample in enumerate(dataset.samples)]
        samples = [warp_sample(sample, T, size, profile.warp.min_area)
                   for sample, (T, size) in zip(dataset.samples, drawn)]
        images = (warp_image(sample.image(), T, size) for sample, (T, size)
                  in zip(dataset.samples, tqdm(drawn, f"{name}, {NAMES[kind]}", disable=None)))
        if profile.layout == "voc":
            datasets.write_voc(root, name, samples, images, dataset.classes)
        else:
            datasets.write_coco(root, name, replace(dataset, samples=samples), images)
        maps |= {sample.name: T.tolist() for sample, (T, _) in zip(samples, drawn)}
    files.write_json(root / "maps.json", maps)


def main() -> None:
    profile, _ = params.load()
    for kind in KINDS:
        write(profile, kind)


if __name__ == "__main__":
    try:
        main()
    except ValueError as error:
        sys.exit(f"kaod.warp: {error}")
