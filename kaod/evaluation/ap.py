"""Average precision of boxes: the VOC devkit's, and COCO's by pycocotools.

`headline` gives, for the detections on one test set:
AP          COCO's AP: the mean over IoU .50:.05:.95, and over classes.
AP50        the mean over classes of AP at IoU .5. "voc": the devkit's, over all points (from 2010 on). "coco":
            pycocotools'.
AP50_11     "voc" alone: the devkit's mean over 11 recalls (2007).
classes     by class, the AP50 ("voc") or the AP ("coco"). classes_11: as AP50_11.
coco        pycocotools' AP, AP50, AP75, and the AP of small (< 32² px), medium and large (> 96² px) objects. Ignored
            objects (VOC's `difficult`) are crowds here.
What has no object to be found, of a class, a size, or at all, is null.
"""

import contextlib
import io
from dataclasses import dataclass

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.ops import box_iou

from ..data import coco, datasets


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU (n, m) of boxes (n, 4) and (m, 4), in float64: float32 would decide ties."""
    return box_iou(torch.from_numpy(first), torch.from_numpy(second)).nan_to_num(0).numpy()  # no area: no overlap


def strongest(detections, limit: int) -> list[dict[str, np.ndarray]]:
    """The `limit` detections of each photo with the highest scores, the highest first."""
    return [{key: values[np.argsort(-found["scores"], kind="stable")[:limit]] for key, values in found.items()}
            for found in detections]


def average_precision(recall: np.ndarray, precision: np.ndarray, points: int | None = None) -> float:
    """The area under the best precision at each recall or above (VOC from 2010 on).

    points: the mean over so many recalls instead (11: VOC 2007).
    """
    recall, precision = np.append(recall, 1.0), np.append(precision, 0.0)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    if points:
        at = np.searchsorted(recall, np.linspace(0, 1, points) - 1e-12)
        return float(best[at].mean())
    return float(np.sum(np.diff(recall, prepend=0.0) * best))


@dataclass(frozen=True)
class Compared:
    """The D detections on a test set, best score first, each beside the object of its class that it overlaps most.

    labels, iou, objects: (D,), the object by its number through all photos; IoU -1 where there is none.
    object_labels, ignore: (M,), of all objects.
    """

    labels: np.ndarray
    iou: np.ndarray
    objects: np.ndarray
    object_labels: np.ndarray
    ignore: np.ndarray


def compared(samples, detections, tables=None) -> Compared:
    """tables: for each photo the IoU (n, m) of its detections with its objects; None: that of upright boxes."""
    ious, objects, start = [], [], 0
    for number, (sample, found) in enumerate(zip(samples, detections)):
        table = tables[number] if tables else overlaps(found["boxes"].astype(float), sample.boxes.astype(float))
        table = np.where(found["labels"][:, None] == sample.labels, table, -1.0)
        ious.append(table.max(1, initial=-1))
        objects.append(start + table.argmax(1) if table.size else np.full(len(table), -1))
        start += len(sample.labels)
    order = np.argsort(-np.concatenate([found["scores"] for found in detections]), kind="stable")
    labels = np.concatenate([found["labels"] for found in detections])
    return Compared(labels[order], np.concatenate(ious)[order], np.concatenate(objects)[order],
                    *(np.concatenate([getattr(sample, key) for sample in samples]) for key in ("labels", "ignore")))


def voc_curve(found: Compared, label: int, iou: float = 0.5) -> tuple[np.ndarray, np.ndarray] | None:
    """Recall and precision after each detection of one class, best first; None if no object of it counts.

    A detection is right at an IoU of at least `iou` with the object that it overlaps most, if that object was not
    found before. It does not count if that object is ignored.
    """
    positives = int(((found.object_labels == label) & ~found.ignore).sum())
    if positives == 0:
        return None
    of_class = found.labels == label
    hit, objects = found.iou[of_class] >= iou, found.objects[of_class]
    counted = ~(hit & found.ignore[objects])
    hit, objects = hit[counted], objects[counted]
    first = np.zeros(len(hit), bool)
    first[np.unique(np.where(hit, objects, -1), return_index=True)[1]] = True
    right = np.cumsum(hit & first)
    return right / positives, right / np.arange(1, len(hit) + 1)


def voc_metrics(dataset: datasets.DataSet, detections) -> dict:
    """The devkit's AP at IoU .5, by class and as means: all points, and 11."""
    every = compared(dataset.samples, detections)
    curves = {name: voc_curve(every, label) for label, name in enumerate(dataset.classes, 1)}
    found = {}
    for key, points in (("", None), ("_11", 11)):
        classes = {name: curve and average_precision(*curve, points) for name, curve in curves.items()}
        known = [value for value in classes.values() if value is not None]
        found |= {f"AP50{key}": float(np.mean(known)) if known else None, f"classes{key}": classes}
    return found


def coco_eval(content: dict, rows: list[dict], kind: str, limit: int) -> COCOeval:
    """pycocotools' evaluation of rows with image_id, category_id, score, area, and bbox or segmentation.

    content: that of an annotation file. kind: "bbox"; or "segm", where classes and sizes do not matter.
    limit: how many detections of a photo count (COCO: 100).
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


def valid_mean(precision: np.ndarray) -> float | None:
    """The mean of pycocotools' precisions but those that do not exist, which are -1; None if none does."""
    valid = precision[precision > -1]
    return float(valid.mean()) if valid.size else None


def means(precision: np.ndarray) -> dict[str, float | None]:
    """AP, AP50 and AP75 of pycocotools' precisions, whose first axis is the IoU; None where there is no object."""
    return {name: valid_mean(each)
            for name, each in (("AP", precision), ("AP50", precision[0]), ("AP75", precision[5]))}


def coco_metrics(dataset: datasets.DataSet, detections, limit: int) -> dict:
    """pycocotools' figures with up to `limit` detections a photo, and the AP of each class."""
    content = coco.to_coco(dataset)
    rows = [{"image_id": image["id"], "category_id": dataset.category_ids[label - 1], "score": score,
             "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
            for image, found in zip(content["images"], detections) for (x1, y1, x2, y2), score, label in zip(
                found["boxes"].astype(float).tolist(), found["scores"].tolist(), found["labels"].tolist())]
    run = coco_eval(content, rows, "bbox", limit)
    precision = run.eval["precision"][..., 0]  # (IoU, recall, class, size)
    by_class = {number: valid_mean(precision[:, :, i, 0]) for i, number in enumerate(run.params.catIds)}
    sizes = {f"AP_{size}": valid_mean(precision[..., i]) for i, size in enumerate(("small", "medium", "large"), 1)}
    return means(precision[..., 0]) | sizes | {
        "classes": {name: by_class[number] for number, name in zip(dataset.category_ids, dataset.classes)}}


def headline(dataset: datasets.DataSet, detections, ap: str, limit: int) -> dict:
    """The figures that this module's docstring names. ap: "voc" or "coco", whose AP50 and classes they are."""
    each = coco_metrics(dataset, detections, limit)
    found = {"AP": each["AP"], "AP50": each["AP50"], "classes": each.pop("classes"), "coco": each}
    return found | (voc_metrics(dataset, detections) if ap == "voc" else {})


def ap50(dataset: datasets.DataSet, detections, ap: str, limit: int) -> float | None:
    """The AP50 of `headline`, without the work for all the rest; the best `limit` detections of each photo count."""
    detections = strongest(detections, limit)
    return (voc_metrics(dataset, detections) if ap == "voc" else coco_metrics(dataset, detections, limit))["AP50"]
