"""How well shapes are told: the AP of masks, and the IoU with outlines.

`mask_ap` and `shape_metrics` give, for the detections on one test set:
masks       AP, AP50 and AP75 of masks, classes aside, of four guesses: the keypoints' `hull`; the `box`, filled; the
            `ellipse` inscribed in it; and the `bound`, the true objects' own hulls. null where no outline is known.
shape       over the `objects` that were found: the mean IoU of the outline with those four guesses; and of its
            minimum-area rectangle with the keypoints' (`rectangle`) and with the box (`rectangle_box`), which is the
            inscribed ellipse's, too. The bound of a rectangle is 1. null where no outline is known.
spread      the collapse gauge, `losses.spread`, over the objects found. null without keypoints.
overhang    the share of the hull's area that lies outside the box, over the objects found. (The box is a soft extent,
            and smaller than the hard one.) null without keypoints.
"""

import numpy as np
import shapely
import torch
from pycocotools import mask as rle

from .. import geometry, losses
from ..data import coco, datasets
from .ap import coco_eval, means, overlaps

GUESSES = ("hull", "box", "ellipse", "bound")
GRID = 1e-9  # pixels, for `iou`: without a grid GEOS 3.14 gives some shapes that differ by the last bit no intersection
CIRCLE = np.stack([(np.cos(turn), np.sin(turn)) for turn in np.linspace(0, 2 * np.pi, 32, endpoint=False)])


def ground_truth(samples, kind: str) -> str:
    """What the boxes of a test set are: as annotated where nothing was moved; else those of the moved outlines, or,
    where (for some objects) no outline is known, of the moved boxes' corners or inscribed ellipses."""
    if kind in ("st", "turn+0"):
        return "as annotated"
    counted = [bool(parts) for sample in samples for parts, ignored in zip(sample.polygons, sample.ignore)
               if not ignored]
    loose = "ellipses" if kind == "rt-ellipse" else "corners"
    return "outlines" if all(counted) else loose if not any(counted) else (
        f"outlines; {loose} of {counted.count(False)} of {len(counted)} objects")


def ellipses(boxes: np.ndarray) -> np.ndarray:
    """The corners (n, 32, 2) of the ellipses inscribed in boxes (n, 4)."""
    half = (boxes[:, None, 2:] - boxes[:, None, :2]) / 2
    return boxes[:, None, :2] + half + half * CIRCLE


def guesses(kind: str, sample: datasets.Sample, found: dict[str, np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """The corners (n, 2) of one photo's masks of a kind (see GUESSES), and their scores."""
    boxes = found["boxes"].astype(float)
    if kind == "bound":
        known = [index for index, parts in enumerate(sample.polygons) if parts and not sample.ignore[index]]
        return [shapely.get_coordinates(geometry.polygon(sample.polygons[index]).convex_hull)[:-1]
                for index in known], np.ones(len(known))
    if kind == "hull":
        return geometry.hulls(found["keypoints"]), found["scores"]
    if kind == "box":
        return list(geometry.corners(boxes)), found["scores"]
    return list(ellipses(boxes)), found["scores"]


def mask_ap(dataset: datasets.DataSet, detections, kind: str, limit: int) -> dict | None:
    """AP, AP50 and AP75 of the masks of a kind (see GUESSES), by pycocotools.

    None where no outline is known, or, for the hull, where there are no keypoints. An object without a known outline
    is a crowd here: what is found there does not count.
    """
    if not any(map(any, (sample.polygons for sample in dataset.samples))):
        return None
    if kind == "hull" and not any("keypoints" in found for found in detections):
        return None
    content = coco.to_coco(dataset)
    for item in content["annotations"]:
        if not item["segmentation"]:
            x, y, width, height = item["bbox"]
            item |= {"segmentation": [[x, y, x + width, y, x + width, y + height, x, y + height]], "iscrowd": 1}
    rows = []
    for image, sample, found in zip(content["images"], dataset.samples, detections):
        width, height = sample.size
        empty = rle.encode(np.zeros((height, width, 1), np.uint8, "F"))[0]
        for ring, score in zip(*guesses(kind, sample, found)):
            # pycocotools draws what is outside as well, pixel by pixel: nothing is to be far out
            ring = ring.clip(-1000, np.array(sample.size) + 1000)
            mask = rle.frPyObjects([ring.flatten().tolist()], height, width)[0] if len(ring) > 2 else empty
            rows.append({"image_id": image["id"], "category_id": dataset.category_ids[0], "score": float(score),
                         "segmentation": mask, "area": 0})
    return means(coco_eval(content, rows, "segm", limit).eval["precision"])


def pairs(sample: datasets.Sample, found: dict[str, np.ndarray], least: float = 0.5) -> list[tuple[int, int]]:
    """(detection, object) of the objects that were found.

    Best score first, each detection is paired with the object of its class that it overlaps most and that has none
    yet. The IoU of their boxes is at least `least`.
    """
    table = overlaps(found["boxes"].astype(float), sample.boxes.astype(float))
    table[(found["labels"][:, None] != sample.labels) | sample.ignore] = 0
    taken = []
    for number in np.flatnonzero(table.max(1, initial=0) >= least):
        best = table[number].argmax()
        if table[number, best] >= least:
            taken.append((int(number), int(best)))
            table[:, best] = 0
    return taken


def iou(first: np.ndarray, second: np.ndarray, grid: float | None = None) -> np.ndarray:
    """IoU of pairs of shapely geometries; the first have an area. grid: pixels that corners are rounded to, if any."""
    shared = shapely.area(shapely.intersection(first, second, grid_size=grid))
    return shared / (shapely.area(first) + shapely.area(second) - shared)


def smallest_rectangles(shapes: np.ndarray) -> np.ndarray:
    """The smallest rectangle around each of the shapely geometries, however turned; without area where one is empty."""
    rings = [shapely.get_coordinates(hull) for hull in shapely.convex_hull(shapes)]
    return shapely.polygons([geometry.smallest_rectangle(ring) if len(ring) else np.zeros((4, 2)) for ring in rings])


def shape_metrics(samples, detections) -> dict:
    """`shape`, `spread` and `overhang`, as this module's docstring says; all None where nothing was found."""
    kept, truths, clouds, frames, spreads = [], [], [], [], []
    for sample, found in zip(samples, detections):
        of_photo = pairs(sample, found)
        detected = [detection for detection, _ in of_photo]
        kept += list(found["boxes"][detected].astype(float))
        truths += [geometry.polygon(sample.polygons[index]) for _, index in of_photo]
        frames += [shapely.box(0, 0, *sample.size)] * len(of_photo)
        if "keypoints" in found and of_photo:
            points = found["keypoints"][detected].astype(float)
            clouds += list(shapely.multipoints(list(points)))
            boxes = torch.from_numpy(found["boxes"][detected].astype(float))
            spreads += losses.spread(torch.from_numpy(points), boxes).tolist()
    metrics = {"shape": None, "spread": None, "overhang": None}
    if not kept:
        return metrics
    kept, truths = np.array(kept), np.array(truths)
    boxes = shapely.box(*kept.T)
    outlines = {"box": boxes, "bound": shapely.convex_hull(truths), "ellipse": shapely.polygons(ellipses(kept))}
    rectangles = {"rectangle_box": boxes}
    if clouds:
        # cut to the frame, as the box and the outline are
        hulls = outlines["hull"] = shapely.intersection(shapely.convex_hull(clouds), np.array(frames))
        rectangles["rectangle"] = smallest_rectangles(hulls)
        outside = shapely.area(hulls) - shapely.area(shapely.intersection(hulls, boxes))
        metrics |= {"spread": float(np.mean(spreads)),
                    "overhang": float(np.mean(outside / np.maximum(shapely.area(hulls), 1e-9)))}
    known = shapely.area(truths) > 0
    if known.any():
        true_rectangles = smallest_rectangles(truths[known])
        values = {name: iou(truths[known], each[known]) for name, each in outlines.items()} | {
            name: iou(true_rectangles, each[known]) for name, each in rectangles.items()}
        metrics["shape"] = {"objects": int(known.sum())} | {name: float(each.mean()) for name, each in values.items()}
    return metrics
