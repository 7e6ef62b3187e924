"""Detections in COCO's results format, and back: so that any detector can be evaluated here, and ours elsewhere.

A row: {"image_id", "category_id", "bbox": [x, y, width, height], "score"}, and, where the detector has them,
"keypoints": [x1, y1, v1, x2, …], in the photo's pixels. Those with a rotated box have
"rotated_box": [x, y, width, height, angle], its centre and the angle in degrees, clockwise on the screen; or "corners":
[x1, y1, …, x4, y4]. More keys are allowed.
"""

import json
from pathlib import Path

import numpy as np

from .. import geometry
from ..data import datasets, files

DIGITS = 2  # of coordinates: hundredths of a pixel
TURNED = {"rotated_box": ("x", "y", "width", "height", "angle"),  # a rotated box's numbers under either key
          "corners": ("x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4")}
LARGEST = 1e5  # pixels: what lies farther out is a mistake (NaN is not below it, either)


def foreground(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One photo's detections without those of label 0, background, which an untrained model gives."""
    return {key: values[found["labels"] > 0] for key, values in found.items()}


def to_rows(found: dict[str, np.ndarray], image_id: int, category_ids: list[int]) -> list[dict]:
    """One photo's detections (see `evaluate.detect`) but those of background, in their order."""
    found = foreground(found)
    x1, y1, x2, y2 = np.round(found["boxes"].astype(float), DIGITS).T.reshape(4, -1)
    boxes = np.round(np.stack((x1, y1, x2 - x1, y2 - y1), 1), DIGITS).tolist()
    rows = [{"image_id": image_id, "category_id": category_ids[label - 1], "bbox": box, "score": round(score, 6)}
            for label, box, score in zip(found["labels"].tolist(), boxes, found["scores"].astype(float).tolist())]
    if "keypoints" in found:
        points = np.round(found["keypoints"].astype(float), DIGITS)
        seen = np.full((*points.shape[:2], 1), 2.0)  # COCO's flag for labelled and visible
        for row, each in zip(rows, np.concatenate((points, seen), 2).reshape(len(rows), 3 * points.shape[1]).tolist()):
            row["keypoints"] = each
    return rows


def all_rows(found: list[dict[str, np.ndarray]], dataset: datasets.DataSet) -> list[dict]:
    """The rows of the detections on each sample of a data set; `from_rows` takes them back."""
    return [row for sample, each in zip(dataset.samples, found)
            for row in to_rows(each, sample.id, dataset.category_ids)]


def from_rows(rows: list[dict], dataset: datasets.DataSet, where="results") -> list[dict[str, np.ndarray]]:
    """The detections on each sample of a data set, best first: boxes (n, 4), scores, labels (n,), and, if the rows
    have them, keypoints (n, K, 2) and rotated_corners (n, 4, 2).

    Raises ValueError that names `where` they stand, the row and what was expected.
    """
    numbers = {number + 1 if sample.id is None else sample.id: number for number, sample in enumerate(dataset.samples)}
    labels = {category: label for label, category in enumerate(dataset.category_ids, 1)}
    first = rows[0] if rows and isinstance(rows[0], dict) else {}
    length, turned = len(first.get("keypoints") or ()), next((key for key in TURNED if first.get(key)), None)
    found = [{"boxes": [], "scores": [], "labels": [], "keypoints": [], "turned": []} for _ in dataset.samples]
    for number, row in enumerate(rows, 1):
        expected = _missing(row, numbers, labels, length, turned)
        if expected:
            raise ValueError(f"{where}: row {number}: expected {expected}; got {str(row)[:200]}")
        (x, y, width, height), of_photo = row["bbox"], found[numbers[row["image_id"]]]
        of_photo["boxes"].append((x, y, x + width, y + height))
        of_photo["scores"].append(row["score"])
        of_photo["labels"].append(labels[row["category_id"]])
        of_photo["keypoints"].append(row.get("keypoints") or ())
        of_photo["turned"].append(row.get(turned))
    return [_arrays(each, length // 3, turned) for each in found]


def _missing(row, numbers, labels, length: int, turned: str | None) -> str:
    """What a row should have and has not; "" where it is whole."""
    if not isinstance(row, dict):
        return "an object with image_id, category_id, bbox and score"
    if not isinstance(row.get("image_id"), (int, str)) or row["image_id"] not in numbers:
        return "the image_id of a photo of this test set"
    if not isinstance(row.get("category_id"), int) or row["category_id"] not in labels:
        return f"a category_id of {', '.join(map(str, labels))}"
    if not _numbers(row.get("bbox"), 4) or min(row["bbox"][2:]) < 0:
        return f"a bbox of [x, y, width, height], below {LARGEST:g} pixels"
    if not _numbers([row.get("score")], 1):
        return "a score, a finite number"
    if length % 3 or length == 3 or not _numbers(row.get("keypoints") or (), length):
        return f"{length // 3} keypoints of x, y and a flag, as in row 1, two at least"
    if turned is None and any(row.get(key) for key in TURNED):
        return f"neither {' nor '.join(TURNED)}, as in row 1"
    if turned and (not _numbers(row.get(turned), len(TURNED[turned]))
                   or turned == "rotated_box" and min(row[turned][2:4]) < 0):
        return f"{turned} [{', '.join(TURNED[turned])}], as in row 1"
    return ""


def _numbers(values, count: int) -> bool:
    return isinstance(values, (list, tuple)) and len(values) == count and all(
        isinstance(value, (int, float)) and abs(value) < LARGEST for value in values)


def _arrays(found: dict[str, list], k: int, turned: str | None) -> dict[str, np.ndarray]:
    scores = np.array(found["scores"], np.float64)
    order = np.argsort(-scores, kind="stable")
    arrays = {"boxes": np.array(found["boxes"], np.float64).reshape(-1, 4)[order], "scores": scores[order],
              "labels": np.array(found["labels"], np.int64)[order]}
    if k:
        arrays["keypoints"] = np.array(found["keypoints"], np.float64).reshape(-1, k, 3)[order, :, :2]
    if turned:
        values = np.array(found["turned"], np.float64).reshape(-1, len(TURNED[turned]))[order]
        arrays["rotated_corners"] = (geometry.rotated_corners(values) if turned == "rotated_box" else
                                     values.reshape(-1, 4, 2))
    return arrays


def write(path: Path, rows: list[dict]) -> None:
    files.write_bytes(path, json.dumps(rows, separators=(",", ":")).encode())


def read(path: Path, dataset: datasets.DataSet) -> list[dict[str, np.ndarray]]:
    """A results file, as `from_rows` gives it."""
    rows = files.read_json(path)
    if not isinstance(rows, list):
        raise ValueError(f"{path}: expected a list of detections in COCO's results format")
    return from_rows(rows, dataset, path)
