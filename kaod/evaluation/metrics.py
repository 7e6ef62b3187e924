"""Metrics of detections: the VOC devkit's AP, COCO's by pycocotools, and how well shapes are told.

`evaluate` gives, for the detections on one test set:
AP50        the mean over classes of AP at IoU .5. VOC layout: the devkit's, all points (from 2010 on); AP50_11: its
            mean over 11 recalls (2007). COCO layout: pycocotools'.
coco        pycocotools' AP (the mean over IoU .50:.05:.95), AP50, AP75, and AP of small (< 32² px), medium and large
            (> 96² px) objects; null where there is no such object. In VOC's layout `difficult` objects are crowds here.
classes     by class: the AP50 (VOC) or the AP (COCO), `classes_11`, and `counts`, the objects that count. null for a
            class without objects.
masks       where outlines are known: AP, AP50 and AP75 of masks, classes aside: the keypoints' hull, the box filled,
            the ellipse inscribed in it; and `bound`, of the true objects' own hulls.
shape       where outlines are known, over the `objects` that were found: mean IoU of the outline with those four; and
            of its minimum-area rectangle with the keypoints' (`rectangle`) and with the box (`rectangle_box`), which is
            that of the inscribed ellipse, too; the true hull's is the rectangle itself, so that its bound is 1.
spread      the collapse gauge over the objects found; overhang: the share of the hull's area that is outside the box
            (which is a soft extent, smaller than the hard one). null without keypoints.
truth       what the ground truth is: see `ground_truth`. photos, objects: how many there are.
"""

import contextlib
import io
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import shapely
import torch
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from .. import geometry, losses
from ..data import datasets

CIRCLE = np.stack([(np.cos(turn), np.sin(turn)) for turn in np.linspace(0, 2 * np.pi, 32, endpoint=False)])


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU (n, m) of boxes (n, 4) and (m, 4). (torchvision's box_iou does the same, but its threads do not outlive a
    fork, and its float32 would decide ties.)"""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = (high - low).clip(0).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (first, second)]
    return shared / np.maximum(areas[0][:, None] + areas[1] - shared, 1e-12)


# ---------------------------------------------------------------- VOC

def average_precision(recall: np.ndarray, precision: np.ndarray, points: int | None = None) -> float:
    """The area under the precision that can be had at each recall or above (VOC 2010 on), or its mean over
    `points` recalls (11: VOC 2007)."""
    recall, precision = np.append(recall, 1.0), np.append(precision, 0.0)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    if points:
        at = np.searchsorted(recall, np.linspace(0, 1, points) - 1e-12)
        return float(best[at].mean())
    return float(np.sum(np.diff(recall, prepend=0.0) * best))


def voc_curve(samples, detections, label: int, iou: float = 0.5) -> tuple[np.ndarray, np.ndarray] | None:
    """Recall and precision after each detection of one class, best first; None if no object of it counts.

    Best score first, a detection is compared with the object that it overlaps most: right at IoU ≥ `iou` if
    that one was not found before (a second find is wrong), of no account if it is `difficult`.
    """
    positives, scores, hits = 0, [], []
    for sample, found in zip(samples, detections):
        of_class, chosen = sample.labels == label, found["labels"] == label
        ignore = sample.ignore[of_class]
        positives += int((~ignore).sum())
        if not chosen.any():
            continue
        table = overlaps(found["boxes"][chosen].astype(float), sample.boxes[of_class].astype(float))
        taken = np.zeros(len(ignore), bool)
        for score, row in sorted(zip(found["scores"][chosen], table), key=lambda pair: -pair[0]):
            best = row.argmax() if len(row) else -1
            hit = best >= 0 and row[best] >= iou
            if hit and ignore[best]:
                continue
            scores.append(score)
            hits.append(hit and not taken[best])
            if hit:
                taken[best] = True
    if positives == 0:
        return None
    hits = np.array(hits, bool)[np.argsort(-np.array(scores), kind="stable")]
    right = np.cumsum(hits)
    return right / positives, right / np.arange(1, len(hits) + 1)


def voc_metrics(dataset: datasets.DataSet, detections) -> dict:
    """The devkit's AP at IoU .5, by class and as means: all points, and 11."""
    curves = {name: voc_curve(dataset.samples, detections, label) for label, name in enumerate(dataset.classes, 1)}
    every = {name: curve and average_precision(*curve) for name, curve in curves.items()}
    eleven = {name: curve and average_precision(*curve, 11) for name, curve in curves.items()}
    return {"AP50": mean(every.values()), "AP50_11": mean(eleven.values()), "classes": every, "classes_11": eleven}


# ---------------------------------------------------------------- COCO

def _coco_eval(content: dict, rows: list[dict], kind: str, limit: int) -> COCOeval:
    """pycocotools' evaluation of rows with image_id, category_id, score, area, and bbox or segmentation.

    kind: "bbox", or "segm": classes aside, and all sizes in one.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = COCO(), COCO()
        truth.dataset = content
        truth.createIndex()
        # as loadRes does, which takes no empty list, and copies everything
        found.dataset = content | {"annotations": [row | {"id": number, "iscrowd": 0}
                                                   for number, row in enumerate(rows, 1)]}
        found.createIndex()
        run = COCOeval(truth, found, kind)
        run.params.maxDets = [limit]
        if kind == "segm":
            run.params.useCats = 0
            run.params.areaRng, run.params.areaRngLbl = run.params.areaRng[:1], run.params.areaRngLbl[:1]
        run.evaluate()
        run.accumulate()
    return run


def _valid_mean(precision: np.ndarray) -> float | None:
    """pycocotools marks what does not exist by -1."""
    valid = precision[precision > -1]
    return float(valid.mean()) if valid.size else None


def coco_metrics(dataset: datasets.DataSet, detections, limit: int) -> dict:
    """pycocotools' figures with up to `limit` detections a photo (COCO: 100), and the AP of each class."""
    content = datasets.to_coco(dataset)
    rows = [{"image_id": image["id"], "category_id": dataset.category_ids[label - 1], "score": score,
             "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
            for image, found in zip(content["images"], detections) for (x1, y1, x2, y2), score, label in zip(
                found["boxes"].astype(float).tolist(), found["scores"].tolist(), found["labels"].tolist())]
    run = _coco_eval(content, rows, "bbox", limit)
    precision = run.eval["precision"][..., 0]  # (IoU, recall, class, size)
    every = precision[..., 0]
    by_class = {number: _valid_mean(every[:, :, i]) for i, number in enumerate(run.params.catIds)}
    return {"AP": _valid_mean(every) or 0.0, "AP50": _valid_mean(every[0]) or 0.0,
            "AP75": _valid_mean(every[5]) or 0.0,
            **{f"AP_{size}": _valid_mean(precision[..., i]) for i, size in enumerate(("small", "medium", "large"), 1)},
            "classes": {name: by_class[number] for number, name in zip(dataset.category_ids, dataset.classes)}}


# ---------------------------------------------------------------- shapes

def mask_ap(dataset: datasets.DataSet, detections, kind: str, limit: int) -> dict | None:
    """AP of masks, classes aside, by pycocotools. kind: "hull" of the keypoints, "box", "ellipse", or "bound": the true
    objects' hulls, as if they had been detected. None where no outline is known, or there are no keypoints.

    Objects without a known outline are crowds here: what is found there counts neither way.
    """
    if not any(map(any, (sample.polygons for sample in dataset.samples))):
        return None
    if kind == "hull" and not any("keypoints" in found for found in detections):
        return None
    content = datasets.to_coco(dataset)
    for item in content["annotations"]:
        if not item["segmentation"]:
            x, y, width, height = item["bbox"]
            item |= {"segmentation": [[x, y, x + width, y, x + width, y + height, x, y + height]], "iscrowd": 1}
    rows = []
    for image, sample, found in zip(content["images"], dataset.samples, detections):
        scores, boxes = found["scores"], found["boxes"].astype(float)
        if kind == "bound":
            known = [index for index, parts in enumerate(sample.polygons) if parts and not sample.ignore[index]]
            scores = np.ones(len(known))
            rings = [shapely.get_coordinates(geometry.polygon(sample.polygons[index]).convex_hull)[:-1]
                     for index in known]
        elif kind == "hull":
            rings = geometry.hulls(found["keypoints"])
        elif kind == "box":
            rings = [np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)]) for x1, y1, x2, y2 in boxes]
        else:
            rings = [(box[:2] + box[2:]) / 2 + CIRCLE * (box[2:] - box[:2]) / 2 for box in boxes]
        width, height = sample.size
        empty = rle.encode(np.zeros((height, width, 1), np.uint8, "F"))[0]
        # pycocotools draws what is outside as well, pixel by pixel: nothing is to be far out
        rings = [ring.clip(-1000, np.array(sample.size) + 1000) for ring in rings]
        solid = [number for number, ring in enumerate(rings) if len(ring) > 2]
        masks = dict(zip(solid, rle.frPyObjects([rings[number].flatten().tolist() for number in solid], height, width)
                         if solid else []))
        rows += [{"image_id": image["id"], "category_id": dataset.category_ids[0], "score": float(score),
                  "segmentation": masks.get(number, empty), "area": 0} for number, score in enumerate(scores)]
    precision = _coco_eval(content, rows, "segm", limit).eval["precision"]
    return {"AP": _valid_mean(precision) or 0.0, "AP50": _valid_mean(precision[0]) or 0.0,
            "AP75": _valid_mean(precision[5]) or 0.0}


def pairs(sample: datasets.Sample, found: dict[str, np.ndarray], least: float = 0.5) -> list[tuple[int, int]]:
    """(detection, object) of the objects that were found. Best score first, each detection is paired with the
    object of its class that it overlaps most and that has none yet, at an IoU of boxes of at least `least`."""
    table = overlaps(found["boxes"].astype(float), sample.boxes.astype(float))
    table[(found["labels"][:, None] != sample.labels) | sample.ignore] = 0
    taken = []
    for number in np.flatnonzero(table.max(1, initial=0) >= least):
        best = table[number].argmax()
        if table[number, best] >= least:
            taken.append((int(number), int(best)))
            table[:, best] = 0
    return taken


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU of pairs of shapely geometries; the first have an area."""
    shared = shapely.area(shapely.intersection(first, second))
    return shared / (shapely.area(first) + shapely.area(second) - shared)


def shape_metrics(samples, detections) -> dict:
    """`shape`, `spread` and `overhang`, as this module's docstring says, over the objects that were found."""
    corners, truths, clouds, frames, spreads = [], [], [], [], []
    for sample, found in zip(samples, detections):
        of_photo = pairs(sample, found)
        detected = [detection for detection, _ in of_photo]
        corners += list(found["boxes"][detected].astype(float))
        truths += [geometry.polygon(sample.polygons[index]) for _, index in of_photo]
        frames += [shapely.box(0, 0, *sample.size)] * len(of_photo)
        if "keypoints" in found and of_photo:
            points = found["keypoints"][detected].astype(float)
            clouds += list(shapely.multipoints(list(points)))
            boxes = torch.from_numpy(found["boxes"][detected].astype(float))
            spreads += losses.spread(torch.from_numpy(points), boxes).tolist()
    if not corners:
        return {"shape": None, "spread": None, "overhang": None}
    corners, truths = np.array(corners), np.array(truths)
    boxes = shapely.box(*corners.T)
    metrics = {"spread": None, "overhang": None}
    half = (corners[:, None, 2:] - corners[:, None, :2]) / 2
    guesses = {"box": boxes, "bound": shapely.convex_hull(truths),
               "ellipse": shapely.polygons(corners[:, None, :2] + half + half * CIRCLE)}
    rectangles = {"rectangle_box": boxes}
    if clouds:
        # cut to the frame, as the box and the outline are
        hulls = guesses["hull"] = shapely.intersection(shapely.convex_hull(clouds), np.array(frames))
        rectangles["rectangle"] = shapely.oriented_envelope(hulls)
        outside = shapely.area(hulls) - shapely.area(shapely.intersection(hulls, boxes))
        metrics = {"spread": float(np.mean(spreads)),
                   "overhang": float(np.mean(outside / np.maximum(shapely.area(hulls), 1e-9)))}
    known = shapely.area(truths) > 0
    if not known.any():
        return metrics | {"shape": None}
    true_rectangles = shapely.oriented_envelope(truths[known])
    shape = {name: iou(truths[known], each[known]) for name, each in guesses.items()} | {
        name: iou(true_rectangles, each[known]) for name, each in rectangles.items()}
    return metrics | {"shape": {"objects": int(known.sum())} | {
        name: float(values.mean()) for name, values in sorted(shape.items())}}


# ---------------------------------------------------------------- all of them

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


def mean(values) -> float:
    """The mean of what is not None, 0 if there is nothing."""
    values = [value for value in values if value is not None]
    return float(np.mean(values)) if values else 0.0


def strongest(detections, limit: int) -> list[dict[str, np.ndarray]]:
    """The `limit` detections of each photo with the highest scores, the highest first."""
    return [{key: values[np.argsort(-found["scores"], kind="stable")[:limit]] for key, values in found.items()}
            for found in detections]


def ap50(dataset: datasets.DataSet, detections, layout: str, limit: int) -> float:
    """The AP50 that `evaluate` gives, without the work for all the rest."""
    detections = strongest(detections, limit)
    found = voc_metrics(dataset, detections) if layout == "voc" else coco_metrics(dataset, detections, limit)
    return found["AP50"]


def evaluate(dataset: datasets.DataSet, detections, layout: str, limit: int, kind: str = "st") -> dict:
    """All metrics of the detections on one test set, of which the best `limit` of each photo count.

    Raises ValueError where there is no photo.
    """
    if not dataset.samples:
        raise ValueError("expected a test set with photos; got one without")
    detections = strongest(detections, limit)
    # pycocotools is plain Python: two processes of it take half as long
    with ProcessPoolExecutor(2, get_context("fork")) as pool:
        coco = pool.submit(coco_metrics, dataset, detections, limit)
        masks = {guess: pool.submit(mask_ap, dataset, detections, guess, limit)
                 for guess in ("hull", "box", "ellipse", "bound")}
        shape = shape_metrics(dataset.samples, detections)
        voc = voc_metrics(dataset, detections) if layout == "voc" else None
        coco = coco.result()
        masks = {guess: future.result() for guess, future in masks.items() if future.result()}
    classes = coco.pop("classes")
    counts = np.bincount(np.concatenate([sample.labels[~sample.ignore] for sample in dataset.samples]),
                         minlength=len(dataset.classes) + 1)[1:]
    return (voc or {"AP50": coco["AP50"], "AP": coco["AP"], "classes": classes}) | {
        "coco": coco, "counts": dict(zip(dataset.classes, counts.tolist())), **shape, "masks": masks or None,
        "truth": ground_truth(dataset.samples, kind), "photos": len(dataset.samples), "objects": int(counts.sum())}
