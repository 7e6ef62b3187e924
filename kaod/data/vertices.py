"""Counts the vertices of the objects' outlines and picks K, the number of keypoints, from their median.

The paper: "the median number of vertices of VOC's masks is 17", hence K = 16 and its multiples.

`python -m kaod.data.vertices` writes runs/<profile>/vertices.json and runs/<profile>/k.json.
"""


import numpy as np
import shapely

from .. import command, params
from . import datasets, files

TOLERANCE = 0.0085
"""Of Douglas-Peucker, as a share of the perimeter, where outlines were traced from pixel masks. The paper does not give
its own; with this one the median over VOC 2007's masks is the paper's 17."""

BOXES_ONLY = 16
"""K where no outline is known: the paper's, from the outlines of VOC's masks."""


def count(parts: list[np.ndarray], tolerance: float = 0) -> int:
    """The vertices of an object's outlines, each (V, 2); with a tolerance, after Douglas-Peucker to within that share
    of an outline's length."""
    if not tolerance:
        return sum(map(len, parts))
    rings = shapely.polygons([shapely.linearrings(part) for part in parts])
    left = shapely.simplify(rings, tolerance * shapely.length(rings))
    return int((shapely.get_num_coordinates(left) - 1).sum())  # a ring's first point is its last, too


def choose_k(median: float) -> int:
    """The multiple of 8 nearest to the median, ties down, at least 8."""
    return max(8, 8 * int(np.ceil(median / 8 - 0.5)))


def by_class(profile: params.Profile) -> dict[str, list[int]]:
    """The vertices of each object of the training sets whose outlines are known: polygons as they are, outlines traced
    from VOC's masks simplified."""
    dataset = datasets.load(profile, profile.train_sets, traced=True)
    tolerance = TOLERANCE if profile.layout == "voc" else 0
    found: dict[str, list[int]] = {}
    for sample in dataset.samples:
        for label, parts in zip(sample.labels, sample.polygons):
            if parts:
                found.setdefault(dataset.classes[label - 1], []).append(count(parts, tolerance))
    return found


def main() -> None:
    profile, _ = params.load()
    found, k = by_class(profile), profile.vertices.k
    counts = sum(found.values(), [])
    median = float(np.median(counts)) if counts else None
    if k == "auto":
        k = choose_k(median) if counts else BOXES_ONLY
    files.write_all({profile.runs / "vertices.json": files.to_json(found), profile.runs / "k.json": files.to_json({
        "k": k, "median": median, "objects": len(counts), "also": [k // 2, 2 * k, 3 * k],
        "chosen": profile.vertices.k})})
    print(f"median of {median} vertices over {len(counts):,} objects: K = {k}" if counts else
          f"the training sets have no outlines to count vertices of: K = {k}")


if __name__ == "__main__":
    command(main)
