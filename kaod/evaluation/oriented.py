"""Oriented AP, as the DOTA devkit counts it, and how well rotated boxes lie on the objects that were found.

`metrics` gives, for the detections on one test set; None where no outline is known:
objects     how many there are, by group: `all`; `round`, whose true rectangle is less than 1.3 times as long as wide,
            so that they have no angle; of the others `upright`, tilted by less than 10° from an axis, and `tilted`.
found       how many of them were found: objects and upright boxes are paired by `outlines.pairs`.
rotated     the figures of the detector's rotated boxes; None where it has none.
box         the same of its upright boxes as they are.
bound       the same of the true rectangle where an object was found, and of the upright box elsewhere.

Such figures are:
AP50, AP                 at an IoU of .5, and the mean over IoU .50:.05:.95; means over classes.
AP50_tilted, AP_tilted   with all objects ignored that are not `tilted`. None without one.
IoU                      by group, the mean IoU with the true rectangle over the objects found. None without one.

The true rectangle is the smallest one around an object's outlines. A rotated box that was annotated is an outline with
four corners, so that it is its own. An object without a known outline is ignored where its upright box is.

dota_evaluation_task1.py of the DOTA devkit (CAPTAIN-WHU/DOTA_devkit) is the VOC devkit's loop with IoUs of
quadrilaterals. Each detection is compared with the object that it overlaps most, found before or not. It does not count
where that one is `difficult`. The IoU has to be above the threshold, where VOC's may equal it. `main` takes the mean
over 11 recalls. It is all done so here. But where somebody's corners are no rectangle, the devkit compares them as they
are, and here it is the smallest rectangle around them.
"""

from dataclasses import replace

import numpy as np
import shapely

from .. import geometry
from ..data import datasets
from .ap import Compared, average_precision, compared, overlaps, voc_curve
from .outlines import GRID, iou, pairs

GUESSES = ("rotated", "box", "bound")
IOUS = np.linspace(0.5, 0.95, 10)
ROUND, TILT = 1.3, 10  # length by width; degrees


def truth(sample: datasets.Sample) -> tuple[np.ndarray, np.ndarray]:
    """The corners (m, 4, 2) of the objects' true rectangles, and which are known (m,); else they are the boxes'."""
    hulls = [shapely.get_coordinates(geometry.polygon(parts).convex_hull) for parts in sample.polygons]
    rings = [geometry.smallest_rectangle(hull) if len(hull) else box
             for hull, box in zip(hulls, geometry.corners(sample.boxes.astype(float)))]
    return np.array(rings).reshape(-1, 4, 2), np.array([len(hull) > 0 for hull in hulls], bool)


def groups(rings: np.ndarray) -> dict[str, np.ndarray]:
    """Which of the rectangles (m, 4, 2) are in each group, {name: (m,)}."""
    _, _, length, width, angle = geometry.rotated_boxes(rings)[1].T
    without_angle = length < ROUND * width
    upright = ~without_angle & (np.abs((angle + 45) % 90 - 45) < TILT)
    return {"all": np.ones(len(rings), bool), "round": without_angle, "upright": upright,
            "tilted": ~without_angle & ~upright}


def guess(kind: str, found: dict[str, np.ndarray], true: np.ndarray, paired: np.ndarray) -> np.ndarray | None:
    """The points (n, P, 2) of one photo's rotated boxes of a kind (see GUESSES): corners, but for "rotated", whose box
    is the smallest rectangle around them.

    true: (m, 4, 2). paired: (pairs, 2), detection and object.
    """
    if kind == "rotated":
        return found.get("rotated_corners", found.get("keypoints"))
    rings = geometry.corners(found["boxes"].astype(float))
    if kind == "bound":
        rings[paired[:, 0]] = true[paired[:, 1]]
    return rings


def table(kind: str, points: np.ndarray, true: np.ndarray, same: np.ndarray) -> np.ndarray:
    """IoU (n, m) of rotated boxes, given by their points as `guess` gives them, with true rectangles (m, 4, 2).

    same: (n, m), whether the classes are. It is 0 where they are not, and where points and object are apart: the
    points' hull fills half of its rectangle or more, so that this one's IoU is .5 at most, and never right.
    """
    first, second = (np.concatenate((each.min(1), each.max(1)), 1) for each in (points.astype(float), true))
    found = np.zeros(same.shape)
    rows, columns = np.nonzero(same & (overlaps(first, second) > 0))
    near, at = np.unique(rows, return_inverse=True)
    rings = geometry.rotated_boxes(points[near])[0] if kind == "rotated" else points[near]
    found[rows, columns] = iou(shapely.polygons(true)[columns], shapely.polygons(rings)[at], GRID)
    return found


def mean_ap(every: Compared, counted: np.ndarray) -> tuple[float, float] | tuple[None, None]:
    """AP50 and AP where only the `counted` objects (M,) are not ignored; None without one."""
    every = replace(every, ignore=~counted)
    labels = np.unique(every.object_labels[counted])
    if not len(labels):
        return None, None
    # an IoU above a threshold is at least the next number
    by_iou = [[average_precision(*voc_curve(every, label, np.nextafter(least, 1)), 11) for label in labels]
              for least in IOUS]
    return float(np.mean(by_iou[0])), float(np.mean(by_iou))


def metrics(samples, detections) -> dict | None:
    """The figures that this module's docstring names."""
    true, known = zip(*map(truth, samples))
    counted = np.concatenate(known) & ~np.concatenate([sample.ignore for sample in samples])
    if not counted.any():
        return None
    members = {name: counted & chosen for name, chosen in groups(np.concatenate(true)).items()}
    paired = [np.array(pairs(*each), int).reshape(-1, 2) for each in zip(samples, detections)]
    starts = np.cumsum([0, *map(len, known)])  # objects are numbered through all photos
    objects = np.concatenate([start + each[:, 1] for start, each in zip(starts, paired)])
    told = {"objects": {name: int(chosen.sum()) for name, chosen in members.items()},
            "found": {name: int(chosen[objects].sum()) for name, chosen in members.items()}}
    for kind in GUESSES:
        points = [guess(kind, *each) for each in zip(detections, true, paired)]
        if any(each is None or each.shape[1] < 3 for each in points):  # two keypoints span a line
            told[kind] = None
            continue
        tables = [table(kind, each, rings, found["labels"][:, None] == sample.labels)
                  for each, rings, found, sample in zip(points, true, detections, samples)]
        every = compared(samples, detections, tables)
        overlap = np.concatenate([each[tuple(at.T)] for each, at in zip(tables, paired)])
        told[kind] = dict(zip(("AP50", "AP", "AP50_tilted", "AP_tilted"), (
            *mean_ap(every, counted), *mean_ap(every, members["tilted"])))) | {
            "IoU": {name: float(overlap[chosen[objects]].mean()) if chosen[objects].any() else None
                    for name, chosen in members.items()}}
    return told
