"""Counts the vertices of the objects' outlines and picks K, the number of keypoints, from their median.

The paper: "the median number of vertices of VOC's masks is 17", hence K = 16 and its multiples.

`python -m kaod.data.vertices` writes runs/<profile>/vertices.json and runs/<profile>/k.json.
"""

import sys

import numpy as np
import shapely

from .. import params
from ..geometry import polygon
from . import datasets, files

TOLERANCE = 0.0085
"""Of Douglas-Peucker, as a share of the perimeter, where outlines were traced from pixel masks. The paper does not give
its own; with this one the median over VOC 2007's masks is the paper's 17."""
TOLERANCES = (0.0, 0.001, 0.002, 0.004, 0.006, TOLERANCE, 0.011, 0.015, 0.02)  # to see how much hangs on it
MOST = 20_000  # objects that this is tried on


def simplify(rings: list[np.ndarray], tolerance: float) -> list[np.ndarray]:
    """Closed outlines, each (V, 2), simplified by Douglas-Peucker to within `tolerance` times their length; what
    vanishes is left out."""
    polygons = [shapely.Polygon(ring) for ring in rings]
    found = [shapely.simplify(ring, tolerance * ring.length) for ring in polygons]
    return [shapely.get_coordinates(ring)[:-1] for ring in found if not ring.is_empty]


def count(parts: list[np.ndarray]) -> int:
    """The vertices of one object: the sum over its parts."""
    return sum(len(part) for part in parts)


def choose_k(median: float) -> int:
    """The multiple of 8 nearest to the median, ties down, at least 8."""
    return max(8, 8 * int(np.ceil(median / 8 - 0.5)))


def outlines(profile: params.Profile) -> list[tuple[str, int, list[np.ndarray]]]:
    """(class, vertices, outlines) of each object of the training sets whose outlines are known.

    Polygons count as they are; outlines traced from VOC's masks are simplified first. Raises ValueError where there
    are neither.
    """
    dataset = datasets.load(profile, profile.train_sets, traced=True)
    masks = profile.layout == "voc"
    known = [(dataset.classes[label - 1], parts) for sample in dataset.samples
             for label, parts in zip(sample.labels, sample.polygons) if parts]
    if not known:
        raise ValueError(f"{profile.data}: the training sets have neither polygons nor masks to count vertices of; "
                         f"set {profile.name}.vertices.k to a number in params.yaml")
    return [(name, count(simplify(parts, TOLERANCE) if masks else parts), parts if masks else [
        shapely.get_coordinates(part.exterior)[:-1] for part in shapely.get_parts(polygon(parts))])
        for name, parts in known]


def sensitivity(objects: list[list[np.ndarray]]) -> dict[str, float]:
    """The median vertex count of objects, each given by its outlines, by tolerance."""
    return {str(tolerance): float(np.median([count(simplify(rings, tolerance)) for rings in objects]))
            for tolerance in TOLERANCES}


def main() -> None:
    profile, _ = params.load()
    chosen = profile.vertices.k
    try:
        found = outlines(profile)
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
        "medians": sensitivity([parts for *_, parts in found[:MOST]]) if found else {}})
    print(f"median of {median} vertices over {len(found):,} objects: K = {k}")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"kaod.data.vertices: {error}")
