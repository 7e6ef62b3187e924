"""Writes the rotated, cropped and shifted test sets: -rt, -cr and -tr beside the set as it is, -st.

-rt: every photo turned by a random angle, cropped to the largest rectangle without empty border.
-cr: the same crops without the turn, a control for scale and for resampling: see `draw_map`. -tr: every photo moved
along x and y by whole pixels, cropped.
turn-90 … turn+90: the first photos, all turned by one angle and cropped as -rt, for a curve of AP over the angle (the
crop differs from angle to angle, so compare models, not angles).

`python -m kaod.data.warp` writes runs/<profile>/warped/KIND.json, all test sets of a kind (-st, too) in one COCO file
for any detector and tool, and below warped/KIND/ the photos and the maps that were used, maps.json, by image id.

Ground truth: the box of an object's transformed outlines; where they are unknown, of its box's transformed corners,
which is too large, and in a second set of the same photos, rt-ellipse, of the ellipse inscribed in it. A crowd's mask
is moved as a mask, so that what is ignored does not grow. An object with less than `min_area` of its area left in the
frame is ignored.
"""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import shapely
import torch
from torchvision.transforms.functional import pil_to_tensor, to_pil_image
from tqdm import tqdm

from .. import command, params
from ..geometry import corners, ellipse_boxes, enclosing, largest_crop, polygon, rigid, trace, transform, warp_images
from . import coco, datasets, files

KINDS = ("rt", "cr", "tr")
NAMES = {"st": "as it is", "rt": "rotated", "cr": "cropped like -rt", "tr": "shifted"}
ANGLES = tuple(range(-90, 91, 15))  # degrees: the sweep


def turned(angle: int) -> str:
    """The sweep's kind for an angle in degrees."""
    return f"turn{angle:+d}"


def available(profile: params.Profile) -> list[str]:
    """What there is to be evaluated on: -st, and what this stage has written."""
    found = [*KINDS, "rt-ellipse", *map(turned, ANGLES)]
    return ["st", *(kind for kind in found if (profile.runs / "warped" / f"{kind}.json").is_file())]


def draw_map(kind: str, size: tuple[int, int], rng, settings: params.Warp) -> tuple[torch.Tensor, tuple[int, int]]:
    """A map (2, 3) from a photo of `size` (w, h) to the new one, and the new one's size; random, but for the sweep.

    "cr" is moved by a fraction of a pixel along x and y, drawn at random, within the margin. A turned photo's pixels
    are interpolated at all such fractions, which blurs it, and that alone costs some AP. So -cr is blurred alike, and
    what -rt loses beside it is due to the turn.
    """
    if kind.startswith("turn"):
        angle = crop = float(kind.removeprefix("turn"))
    else:
        crop = rng.uniform(-settings.angle, settings.angle)
        angle = crop if kind == "rt" else 0.0
    if kind == "tr":  # whole pixels, so that nothing is resampled
        dx, dy = (round(share * side) for share, side in zip(rng.uniform(-settings.shift, settings.shift, 2), size))
        return torch.tensor([[1, 0, min(dx, 0)], [0, 1, min(dy, 0)]], dtype=torch.float64), (
            max(1, size[0] - abs(dx)), max(1, size[1] - abs(dy)))
    # what a turn by `crop` leaves without empty border, with an even margin: -cr, moved by less than one, stays inside
    fits = [math.floor(side + 1e-6) for side in largest_crop(*size, crop)]
    width, height = (max(1, fit - (side - fit) % 2) for side, fit in zip(size, fits))
    whole = torch.tensor(size, dtype=torch.float64)
    margin = (whole - torch.tensor([width, height])) / 2
    if kind == "cr":
        margin -= torch.from_numpy(rng.uniform(size=2)) * margin.clamp(max=1)
    return rigid(torch.tensor(angle, dtype=torch.float64), -margin, whole / 2), (width, height)


def warp_image(image, T: torch.Tensor, size: tuple[int, int]):
    """A PIL image through T (2, 3), cut to `size` (w, h) from the top left."""
    pixels = pil_to_tensor(image)[None].double()
    # a plane that holds the photo as well as its turned self, which may be taller or wider
    extra = [max(0, new - old) for new, old in zip(size, image.size)]
    plane = torch.nn.functional.pad(pixels, (0, extra[0], 0, extra[1]))
    warped = warp_images(plane, T[None], torch.tensor([image.size]), "reflect", torch.tensor([size]))[0]
    # at 30 or 45° many values are halves but for the last digits, which differ from processor to processor
    return to_pil_image(warped[:, :size[1], :size[0]].round(decimals=6).round().clamp(0, 255).byte())


def warp_sample(sample: datasets.Sample, T: torch.Tensor, size: tuple[int, int], min_area: float,
                ellipse: bool = False) -> datasets.Sample:
    """The sample's annotations through T, cut to the frame (0, 0, w, h); objects that left it are dropped.

    ellipse: where no outline is known, the box of the transformed inscribed ellipse, not that of the corners. If T
    does nothing, the sample comes back as it is.
    """
    if size == sample.size and torch.equal(T, torch.eye(2, 3).to(T)):
        return sample

    def move(points):
        return transform(T, torch.from_numpy(np.asarray(points, np.float64))).numpy()

    source = torch.from_numpy(sample.boxes.astype(np.float64))
    corner = transform(T, corners(source))
    loose = enclosing(corner).numpy()
    tight = ellipse_boxes(T.expand(len(source), 2, 3), source).numpy() if ellipse else loose
    rows, crowds = [], {}
    for index, (ring, box, inner, label, ignore, parts) in enumerate(zip(
            corner.numpy(), loose, tight, sample.labels, sample.ignore, sample.polygons)):
        crowd = sample.crowds.get(index)
        if crowd:
            whole = shapely.make_valid(shapely.transform(trace(coco.decode(crowd, sample.size)), move))
        else:
            whole = polygon([move(part) for part in parts])
        known = whole.area > 0  # else the outline is no more than a line
        if not known:
            whole = shapely.Polygon(ring)
        # without the lines and points where an outline runs along the frame
        left = shapely.MultiPolygon([part for part in shapely.get_parts(whole.intersection(shapely.box(0, 0, *size)))
                                     if part.geom_type == "Polygon"])
        box, inner = np.tile(left.bounds, (2, 1)) if known else np.clip((box, inner), 0, np.tile(size, 2))
        if left.area == 0 or (box[2:] - box[:2]).min() < 0.02:  # nothing left, to the hundredths that files keep
            continue
        if crowd:
            crowds[len(rows)] = coco.encode(shapely.contains_xy(left, *np.meshgrid(
                np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)))
        rows.append((inner if (inner[2:] - inner[:2]).min() >= 0.02 else box, label,
                     ignore or left.area < min_area * whole.area,
                     # twice, for the reason that `warp_image` has
                     [np.round(np.round(ring, 9), 2) for ring in coco.rings(left)] if known and not crowd else []))
    return datasets.Sample.of(sample.path, size, rows, id=sample.id, crowds=crowds)


def test_set(profile: params.Profile, kind: str) -> datasets.DataSet:
    """The photos and the ground truth of one kind."""
    if kind == "st":
        return datasets.load(profile, profile.test_sets)
    warped = profile.runs / "warped"
    return coco.load(warped / f"{kind}.json", warped / kind.removesuffix("-ellipse"))


def write(profile: params.Profile, kind: str, warped: Path) -> None:
    """One warped copy of all test sets of the profile, in the folder `warped`; of the sweep, the first photos of each.
    "rt-ellipse" takes the photos that "rt" has written."""
    settings, shape = profile.warp, kind.removesuffix("-ellipse")
    photos = warped / shape
    count = settings.sweep if kind.startswith("turn") else None
    samples, maps = [], {}
    photos.mkdir(parents=True, exist_ok=True)
    for name in profile.test_sets:
        dataset = datasets.load(profile, [name])
        for index, sample in enumerate(tqdm(dataset.samples[:count], f"{name}, {NAMES.get(kind, kind)}", disable=None)):
            rng = np.random.default_rng([settings.seed, index])
            T, size = draw_map(shape, sample.size, rng, settings)
            T = T.round(decimals=12)  # for the reason that `warp_image` has
            moved = warp_sample(sample, T, size, settings.min_area, kind == "rt-ellipse")
            samples.append(replace(moved, path=photos / f"{len(samples) + 1:06}-{Path(sample.path).stem}.jpg"))
            maps[str(sample.id)] = T.tolist()
            if kind == shape:
                image = warp_image(sample.image(), T, size)
                with files.writing(samples[-1].path):
                    image.save(samples[-1].path, quality=95)
    files.write_json(photos / "maps.json", maps)
    coco.write(warped / f"{kind}.json", replace(dataset, samples=samples), photos)


def main() -> None:
    profile, _ = params.load()
    upright = test_set(profile, "st")
    with files.whole(profile.runs / "warped") as warped:
        coco.write(warped / "st.json", upright, profile.data)
        for kind in [*KINDS, *(map(turned, ANGLES) if profile.warp.sweep else ())]:
            write(profile, kind, warped)
        if any(not parts and not ignored for sample in upright.samples
               for parts, ignored in zip(sample.polygons, sample.ignore)):
            write(profile, "rt-ellipse", warped)


if __name__ == "__main__":
    command(main)
