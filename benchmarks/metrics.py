"""How long all metrics of a test set of COCO's size take: 5,000 photos, 36,000 objects, 100 detections a photo.

`python benchmarks/metrics.py` → results/benchmarks/metrics.json. Objects and detections are made up; half of the
detections are near an object. The target: under two minutes on two cores.
"""

import time

import numpy as np

from experiments import grid
from kaod import ROOT
from kaod.data import datasets, files
from kaod.evaluation import compare, evaluate

PHOTOS, OBJECTS, DETECTIONS, CLASSES, K = 5000, 36_000, 100, 80, 16
SIZE = np.array((640, 480))


def boxes(rng, count: int) -> np.ndarray:
    """Random boxes (count, 4), 8 to 400 pixels a side, inside the photo."""
    size = np.exp(rng.normal(4, 1, (count, 2))).clip(8, 400)
    low = rng.uniform(0, 1, (count, 2)) * (SIZE - size)
    return np.concatenate((low, low + size), 1)


def rings(rng, boxes: np.ndarray, count: int) -> np.ndarray:
    """An uneven ring of points (n, count, 2) in each box."""
    turn = np.linspace(0, 2 * np.pi, count, endpoint=False)
    half = (boxes[:, None, 2:] - boxes[:, None, :2]) / 2
    return boxes[:, None, :2] + half + half * rng.uniform(0.6, 1, (len(boxes), count, 1)) * np.stack(
        (np.cos(turn), np.sin(turn)), 1)


def make(rng) -> tuple[datasets.DataSet, list[dict]]:
    samples, detections = [], []
    for number, count in enumerate(rng.multinomial(OBJECTS, np.ones(PHOTOS) / PHOTOS), 1):
        objects, labels = boxes(rng, count), rng.integers(1, CLASSES + 1, count)
        polygons = [[ring] for ring in rings(rng, objects, 17)]
        samples.append(datasets.Sample(f"{number}.jpg", tuple(SIZE.tolist()), objects.astype(np.float32), labels,
                                       np.zeros(count, bool), polygons, number))
        near = np.repeat(np.arange(count), 7)[:DETECTIONS // 2]
        found = np.concatenate((objects[near] + rng.normal(0, 5, (len(near), 4)), boxes(rng, DETECTIONS - len(near))))
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 4)
        detections.append({
            "boxes": found, "scores": np.sort(rng.random(DETECTIONS))[::-1].copy(),
            "labels": np.concatenate((labels[near], rng.integers(1, CLASSES + 1, DETECTIONS - len(near)))),
            "keypoints": rings(rng, found, K)})
    dataset = datasets.DataSet([str(i) for i in range(CLASSES)], list(range(1, CLASSES + 1)), samples)
    return dataset, detections


def main() -> None:
    commit = compare.commit()  # of what is about to run
    dataset, detections = make(np.random.default_rng(0))
    seconds = {}
    for ap in ("coco", "voc"):
        began = time.monotonic()
        evaluate.evaluate(dataset, detections, ap, DETECTIONS)
        seconds[ap] = round(time.monotonic() - began, 1)
        print(f"{ap}: {seconds[ap]:.1f} s", flush=True)
    files.write_json(ROOT / "results" / "benchmarks" / "metrics.json", {
        "photos": PHOTOS, "objects": OBJECTS, "detections": DETECTIONS, "seconds": seconds,
        "hardware": grid.hardware("cpu"), "command": "python benchmarks/metrics.py", "commit": commit})


if __name__ == "__main__":
    main()
