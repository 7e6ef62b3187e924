"""Metrics of a trained model on the test set as it is (-st), rotated (-rt), cropped (-cr) and shifted (-tr).

`python -m kaod.evaluate MODEL` writes results/<profile>/metrics/MODEL.json: for each test set
AP50    VOC layout: the devkit's average precision at IoU .5, all points, the mean over classes.
        COCO layout: pycocotools' AP at IoU .5.
AP      COCO layout only: pycocotools' mean over IoU .50:.05:.95.
classes the AP50 of each class (VOC) or the AP (COCO); null for a class without objects.
shape   where objects' true outlines are known, over the objects that were found: the mean IoU of the outline
        with the detection's box filled, with the ellipse inscribed in it, and, for a model with keypoints, with
        their hull; `bound` is the IoU of the true outline's own hull. `spread` is the collapse gauge, `overhang`
        the share of the hull's area that is outside its box (the box is a soft extent, smaller than the hard one).
repeatability   of a model with keypoints, for -st: by angle, how far keypoints of a turned photo lie from those of
        the photo itself (`losses.repeatability`), in units of √(box area). Read it beside `spread`.
"""

import argparse
import contextlib
import io
import sys

import numpy as np
import shapely
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.ops import box_iou
from tqdm import tqdm

from . import datasets, files, geometry, losses, model, params, warp


@torch.inference_mode()
def detect(detector, samples, batch: int, device: str = "cpu") -> list[dict[str, np.ndarray]]:
    """The model's detections on each sample, best first: boxes (n, 4), scores (n,), labels (n,), and
    keypoints (n, K, 2) if it has them, in the photo's pixels."""
    found = []
    photos = datasets.Photos(samples)
    for start in tqdm(range(0, len(samples), batch), "detecting", disable=None):
        images = [photos[i][0].to(device).float() / 255 for i in range(start, min(start + batch, len(samples)))]
        found += [{key: value.cpu().numpy() for key, value in each.items()} for each in detector(images)]
    return found


def average_precision(recall: np.ndarray, precision: np.ndarray, points: int | None = None) -> float:
    """The area under the precision that can be had at each recall or above (VOC 2010 on), or its mean over
    `points` recalls (11: VOC 2007)."""
    recall, precision = np.append(recall, 1.0), np.append(precision, 0.0)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    if points:
        at = np.searchsorted(recall, np.linspace(0, 1, points) - 1e-12)
        return float(best[at].mean())
    return float(np.sum(np.diff(recall, prepend=0.0) * best))


def voc_ap(samples, detections, label: int, iou: float = 0.5, points: int | None = None) -> float | None:
    """The VOC devkit's AP of one class, None if it has no object that counts.

    Best score first, a detection is compared with the object that it overlaps most: right at IoU ≥ `iou` if
    that one was not found before (a second find is wrong), of no account if it is `difficult`.
    """
    positives, scores, hits = 0, [], []
    for sample, found in zip(samples, detections):
        of_class = sample.labels == label
        boxes, ignore = torch.from_numpy(sample.boxes[of_class]), sample.ignore[of_class]
        positives += int((~ignore).sum())
        chosen = found["labels"] == label
        overlaps = box_iou(torch.from_numpy(found["boxes"][chosen]), boxes).numpy()
        taken = np.zeros(len(boxes), bool)
        for score, row in sorted(zip(found["scores"][chosen], overlaps), key=lambda pair: -pair[0]):
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
    return average_precision(right / positives, right / np.arange(1, len(hits) + 1), points)


def voc_metrics(dataset: datasets.DataSet, detections) -> dict:
    classes = {name: voc_ap(dataset.samples, detections, label) for label, name in enumerate(dataset.classes, 1)}
    return {"AP50": _mean(classes.values()), "classes": classes}


def coco_metrics(dataset: datasets.DataSet, detections, limit: int) -> dict:
    """pycocotools' figures with up to `limit` detections a photo (COCO: 100)."""
    results = [{"image_id": number, "category_id": dataset.category_ids[label - 1], "score": float(score),
                "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)]}
               for number, found in enumerate(detections, 1)
               for (x1, y1, x2, y2), score, label in zip(found["boxes"], found["scores"], found["labels"])]
    names = dict(zip(dataset.category_ids, dataset.classes))
    if not results:
        return {"AP": 0.0, "AP50": 0.0, "classes": dict.fromkeys(dataset.classes, 0.0)}
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = datasets.to_coco(dataset)
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(results), "bbox")
        run.params.maxDets = [1, 10, limit]
        run.evaluate()
        run.accumulate()
    precision = run.eval["precision"][:, :, :, 0, -1]  # (IoU, recall, class): all sizes, `limit` detections
    by_class = [_mean(values[values > -1]) if (values > -1).any() else None for values in precision.transpose(2, 0, 1)]
    return {"AP": _mean(precision[precision > -1]), "AP50": _mean(precision[0][precision[0] > -1]),
            "classes": {names[number]: value for number, value in zip(run.params.catIds, by_class)}}


def shape_metrics(samples, detections, least: float = 0.5) -> dict | None:
    """How well detections tell the objects' shapes; None where no object with a known outline was found.

    Over the objects that count. Best score first, each detection is paired with the object of its class that it
    overlaps most and that has none yet, at an IoU of boxes of at least `least`.
    """
    rows = []
    for sample, found in zip(samples, detections):
        free = ~sample.ignore & np.array([bool(parts) for parts in sample.polygons], bool)
        overlaps = box_iou(torch.from_numpy(found["boxes"]), torch.from_numpy(sample.boxes)).numpy()
        for number, (box, label) in enumerate(zip(found["boxes"].astype(float), found["labels"])):
            fits = np.where(free & (sample.labels == label), overlaps[number], 0.0)
            if not fits.size or fits.max() < least:
                continue
            free[fits.argmax()] = False
            truth = geometry.polygon(sample.polygons[fits.argmax()])
            if truth.area == 0:
                continue
            turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
            center, radii = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
            guesses = {"box": shapely.box(*box), "bound": shapely.convex_hull(truth),
                       "ellipse": shapely.Polygon(center + radii * np.stack((np.cos(turn), np.sin(turn)), 1))}
            values = {}
            if "keypoints" in found:
                points = found["keypoints"][number]
                hull = shapely.convex_hull(shapely.multipoints(points)).intersection(shapely.box(0, 0, *sample.size))
                guesses["hull"] = hull  # cut to the frame, as the box and the outline are
                values["overhang"] = 1 - hull.intersection(guesses["box"]).area / max(hull.area, 1e-9)
                values["spread"] = losses.spread(torch.from_numpy(points[None]), torch.from_numpy(box[None])).item()
            rows.append(values | {name: truth.intersection(guess).area / truth.union(guess).area
                                  for name, guess in guesses.items()})
    if not rows:
        return None
    return {"objects": len(rows)} | {name: _mean([row[name] for row in rows]) for name in sorted(rows[0])}


ANGLES = (-90, -60, -30, -15, 15, 30, 60, 90)


def repeatability(detector: model.KAOD, samples, device: str = "cpu", most: int = 50) -> dict[str, float] | None:
    """The keypoints' repeatability under each of ANGLES, over the supervised locations of the first `most` samples
    with an object; None where there is none."""
    photos = [datasets.Photos(samples)[i] for i, sample in enumerate(samples) if not sample.ignore.all()][:most]
    if not photos:
        return None
    found = {}
    for angle in tqdm(ANGLES, "turning", disable=None):
        values = [detector.repeatability([image.to(device).float() / 255],
                                         [{key: target[key].to(device) for key in ("boxes", "labels")}], angle)
                  for image, target in photos]
        found[str(angle)] = torch.cat(values).double().mean().item()
    return found


def _mean(values) -> float:
    """The mean of what is not None, 0 if there is nothing."""
    values = [value for value in values if value is not None]
    return float(np.mean(values)) if len(values) else 0.0


def evaluate(profile: params.Profile, detector, kind: str, device: str = "cpu") -> dict:
    """All metrics of one test set: "st", or one of warp.KINDS."""
    root = None if kind == "st" else profile.runs / "warped" / kind
    dataset = datasets.load(profile, profile.test_sets, root)
    detections = detect(detector, dataset.samples, profile.evaluate.batch, device)
    metrics = (voc_metrics(dataset, detections) if profile.layout == "voc"
               else coco_metrics(dataset, detections, profile.evaluate.detections))
    if kind == "st":
        metrics["repeatability"] = (repeatability(detector, dataset.samples, device)
                                    if isinstance(detector, model.KAOD) else None)
    return metrics | {"shape": shape_metrics(dataset.samples, detections), "photos": len(dataset.samples),
                      "objects": int(sum((~sample.ignore).sum() for sample in dataset.samples))}


def evaluate_all(profile: params.Profile, name: str, detector, device: str = "cpu") -> dict[str, dict]:
    """The metrics of every test set; prints one line for each. name: the model's, for the lines."""
    torch.set_num_threads(profile.train.threads)
    metrics = {}
    for kind in ("st", *warp.KINDS):
        metrics[kind] = evaluate(profile, detector, kind, device)
        print(f"{name} -{kind}: AP50 {metrics[kind]['AP50']:.3f}", flush=True)
    return metrics


def main() -> None:
    profile, models = params.load()
    parser = argparse.ArgumentParser(prog="python -m kaod.evaluate", description="Evaluates a trained model.")
    parser.add_argument("model", choices=models)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()
    detector, _, _ = model.load(profile.runs / given.model / "model.pt", given.device, profile.evaluate)
    files.write_json(profile.results / "metrics" / f"{given.model}.json",
                     evaluate_all(profile, given.model, detector, given.device))


if __name__ == "__main__":
    try:
        main()
    except (ValueError, RuntimeError) as error:
        sys.exit(f"kaod.evaluate: {error}")
