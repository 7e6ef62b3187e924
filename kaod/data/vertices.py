"""Counts the vertices of the objects' outlines and picks K, the number of keypoints, from their median.

The paper: "the median number of vertices of VOC's masks is 17", hence K = 16 and its multiples.

`python -m kaod.data.vertices` writes runs/<profile>/vertices.json and runs/<profile>/k.json.
"""

import sys

import numpy as np
import shapely
from PIL import Image
from tqdm import tqdm

from .. import params
from ..geometry import polygon, trace
from . import datasets, files

VOID = 255
TOLERANCES = (0.0, 0.001, 0.002, 0.004, 0.006, 0.0085, 0.011, 0.015, 0.02)  # to see how much hangs on it
MOST = 20_000  # objects that this is tried on


def simplify(outline: shapely.Geometry, tolerance: float) -> list[np.ndarray]:
    """The outer rings (V, 2) of an outline, each simplified by Douglas-Peucker to within `tolerance` times its
    length; parts that vanish are left out."""
    rings = [part.exterior for part in shapely.get_parts(outline)]
    rings = [shapely.simplify(shapely.Polygon(ring), tolerance * ring.length) for ring in rings]
    return [shapely.get_coordinates(ring)[:-1] for ring in rings if not ring.is_empty]


def outlines(path) -> dict[int, shapely.Geometry]:
    """{instance: outline} of a mask of the VOC devkit. Instance i is the i-th object of the photo's annotation; some
    objects have no pixel of their own. 0 is background; the rim of void, 255, belongs to no object."""
    try:
        values = np.asarray(Image.open(path))
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path}: not a readable mask ({error})") from None
    if values.ndim != 2:
        raise ValueError(f"{path}: expected one channel of instance numbers, got shape {values.shape}")
    return {int(value): trace(values == value) for value in np.unique(values) if value not in (0, VOID)}


def count(parts: list[np.ndarray]) -> int:
    """The vertices of one object: the sum over its parts."""
    return sum(len(part) for part in parts)


def choose_k(median: float) -> int:
    """The multiple of 8 nearest to the median, ties down, at least 8."""
    return max(8, 8 * int(np.ceil(median / 8 - 0.5)))


def traced(profile: params.Profile) -> list[tuple[str, int, shapely.Geometry]]:
    """(class, vertices, outline) of each object of the training sets.

    From polygons where the data set has them, as they are; else from the masks in SegmentationObject, simplified.
    Raises ValueError where it has neither.
    """
    dataset = datasets.load(profile, profile.train_sets)
    # a photo's masks are numbered as its objects are, so none may have been left out
    faulty = {line.partition(": ")[0] for line in files.read_json(profile.folder / "manifest.json")["faults"]}
    found = []
    for sample in tqdm(dataset.samples, "counting vertices", disable=None):
        names = [dataset.classes[label - 1] for label in sample.labels]
        mask = sample.path.parents[1] / "SegmentationObject" / f"{sample.name}.png"
        if any(sample.polygons):
            found += [(name, count(parts), polygon(parts)) for name, parts in zip(names, sample.polygons) if parts]
        elif profile.layout == "voc" and mask.is_file() and str(
                mask.parents[1] / "Annotations" / f"{mask.stem}.xml") not in faulty:
            found += [(names[instance - 1], count(simplify(outline, profile.vertices.tolerance)), outline)
                      for instance, outline in outlines(mask).items() if instance <= len(names)]
    if not found:
        raise ValueError(f"{profile.data}: the training sets have neither polygons nor masks to count vertices of; "
                         f"set {profile.name}.vertices.k to a number in params.yaml")
    return found


def sensitivity(shapes: list[shapely.Geometry]) -> dict[str, float]:
    """The median vertex count by tolerance."""
    return {str(tolerance): float(np.median([count(simplify(shape, tolerance)) for shape in shapes]))
            for tolerance in TOLERANCES}


def main() -> None:
    profile, _ = params.load()
    chosen = profile.vertices.k
    try:
        found = traced(profile)
    except ValueError:
        if chosen == "auto":
            raise
        found = []  # K is given, so nothing depends on the counts
    median = float(np.median([number for _, number, _ in found])) if found else None
    k = choose_k(median) if chosen == "auto" else chosen
    by_class = {}
    for name, number, _ in found:
        by_class.setdefault(name, []).append(number)
    files.write_json(profile.runs / "vertices.json", by_class)
    files.write_json(profile.runs / "k.json", {
        "k": k, "median": median, "objects": len(found), "also": [k // 2, 2 * k, 3 * k], "chosen": chosen,
        "medians": sensitivity([shape for *_, shape in found[:MOST]]) if found else {}})
    print(f"median of {median} vertices over {len(found):,} objects: K = {k}")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"kaod.data.vertices: {error}")
