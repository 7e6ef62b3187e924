"""Evaluates a model, or any detector's results, on the test set as it is, rotated, cropped, shifted, and the sweep.

`python -m kaod.evaluation.evaluate MODEL` writes
runs/<profile>/MODEL/detections/KIND.json   what it found, in COCO's results format (see `results`),
results/<profile>/details/MODEL.json        for each kind the figures of `evaluate`; the sweep's stand under "sweep", by
                                            angle. -st has one more, "turning", by angle (see `turning`),
results/<profile>/metrics/MODEL.json        their `summary`.
`torchrun --nproc-per-node N -m kaod.evaluation.evaluate MODEL` shares the photos out to N GPUs.

`python -m kaod.evaluation.evaluate NAME --results FOLDER` takes another detector's results: FOLDER/st.json, rt.json, …
as many as there are, with the image ids of runs/<profile>/warped/KIND.json. It writes their figures to
results/<profile>/detectors/NAME.json.
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from .. import command, geometry, losses, model, params
from ..data import datasets, files
from ..data.warp import ANGLES, KINDS, NAMES, available, test_set
from ..training import checkpoints, processes
from . import oriented, outlines, results, turning
from .ap import headline, strongest


@torch.inference_mode()
def detect(detector, samples, batch: int, device: str = "cpu", workers: int = 0) -> list[dict[str, np.ndarray]]:
    """The model's detections on each sample, best first: boxes (n, 4), scores (n,), labels (n,), and
    keypoints (n, K, 2) if it has them, in the photo's pixels. workers: processes that decode the photos."""
    found = []
    photos = torch.utils.data.DataLoader(datasets.Photos(samples), batch, collate_fn=datasets.collate,
                                         num_workers=workers)
    for images, _ in tqdm(photos, "detecting", disable=None if processes.rank() == 0 else True):
        images = [image.to(device).float() / 255 for image in images]
        found += [results.foreground({key: value.cpu().numpy() for key, value in each.items()})
                  for each in detector(images)]
    return found


@torch.inference_mode()
def turned(detector: model.KAOD, images: list[torch.Tensor], targets: list[dict], angle: float) -> dict:
    """What `turning.compare` takes, {name: (M, …)}: keypoints at each supervised location of the images and of these
    turned by `angle` degrees, the locations `o` and the `boxes` of their objects.

    It is measured alike for all models, however they were trained: on objects of which nine tenths stay in the frame,
    with a reflected border.
    """
    images, targets = detector.transform(images, targets)
    sizes = geometry.photo_sizes(images)
    T = geometry.rigid(sizes.new_full((len(sizes),), angle), torch.zeros_like(sizes), sizes / 2)
    views = detector.views(images, T, "reflect")
    _, matched = detector.matched_losses(targets, views.first, views)
    pairs = detector.pairs(views, matched, replace(detector.settings, locations="foreground", visible=0.9))
    return vars(pairs) | {"o": matched.o, "boxes": matched.boxes}


def turns(detector: model.KAOD, samples, device: str = "cpu", most: int = 50) -> dict[str, dict | None] | None:
    """By angle of the sweep above 0: `turning.compare` at the supervised locations of the first `most` samples with an
    object; None where there is none."""
    photos = [datasets.Photos(samples)[i] for i, sample in enumerate(samples) if not sample.ignore.all()][:most]
    if not photos:
        return None
    found = {}
    for angle in tqdm([angle for angle in ANGLES if angle > 0], "turning", disable=None):
        of_photos = [turned(detector, [image.to(device).float() / 255], [
            {key: target[key].to(device) for key in ("boxes", "labels")}], angle) for image, target in photos]
        joined = {name: torch.cat([each[name] for each in of_photos]) for name in of_photos[0]}
        o, boxes = joined.pop("o"), joined.pop("boxes")
        found[str(angle)] = turning.compare(losses.Pairs(**joined), o, boxes, angle)
    return found


def evaluate(dataset: datasets.DataSet, detections, ap: str, limit: int, kind: str = "st") -> dict:
    """The figures of the detections on one test set, of which the best `limit` of each photo count.

    Those of `ap.headline` (with ap "voc" or "coco") and of `outlines`; oriented: `oriented.metrics`, null for the sweep
    and rt-ellipse; truth: `outlines.ground_truth`; photos, objects: how many there are; counts: the objects by class.
    The sweep has no AP of masks. Ignored objects are not counted. Raises ValueError where there is no photo.
    """
    if not dataset.samples:
        raise ValueError("expected a test set with photos; got one without")
    detections = strongest(detections, limit)
    counts = np.bincount(np.concatenate([sample.labels[~sample.ignore] for sample in dataset.samples]),
                         minlength=len(dataset.classes) + 1)[1:]
    guesses = [] if kind.startswith("turn") else outlines.GUESSES  # nobody reads masks' AP by angle
    # pycocotools is plain Python: several processes of it take half as long
    with ProcessPoolExecutor(2, get_context("fork")) as pool:
        masks = {guess: pool.submit(outlines.mask_ap, dataset, detections, guess, limit) for guess in guesses}
        rotated = pool.submit(oriented.metrics, dataset.samples, detections) if kind in NAMES else None
        found = headline(dataset, detections, ap, limit) | outlines.shape_metrics(dataset.samples, detections)
        masks = {guess: future.result() for guess, future in masks.items() if future.result()}
    return found | {"masks": masks or None, "oriented": rotated and rotated.result(),
                    "truth": outlines.ground_truth(dataset.samples, kind),
                    "counts": dict(zip(dataset.classes, counts.tolist())), "photos": len(dataset.samples),
                    "objects": int(counts.sum())}


def summary(details: dict[str, dict]) -> dict[str, float | None]:
    """The figures of a model that `dvc metrics show` prints, from its details; None where unknown.

    AP and AP50 by kind. On -st: those of rotated boxes (`oriented`), and of upright boxes taken for rotated ones
    (`oriented-box`); the IoU of hull and rectangle, the spread, and by how many degrees keypoints turn, by index, where
    the photo turns by 30°.
    """
    st = details["st"]
    found = {f"{ap}-{kind}": details.get(kind, {}).get(ap) for ap in ("AP", "AP50") for kind in ("st", *KINDS)}
    for name, guess in (("oriented", "rotated"), ("oriented-box", "box")):
        figures = (st.get("oriented") or {}).get(guess) or {}
        found |= {f"{ap}-{name}": figures.get(ap) for ap in ("AP", "AP50")}
    found |= {guess: (st["shape"] or {}).get(guess) for guess in ("hull", "rectangle")}
    turn = (st.get("turning") or {}).get("30")
    return found | {"spread": st["spread"], "turn30": turn and turn["model"]["turn"]}


def evaluate_results(profile: params.Profile, name: str, folder: Path) -> dict[str, dict]:
    """The details of the results in a folder, on each kind that it has; prints one line for each.

    Raises ValueError that says what is missing, or names the file and row that are wrong.
    """
    # the photos of rt-ellipse are those of rt
    paths = {kind: folder / f"{kind.removesuffix('-ellipse')}.json" for kind in available(profile)}
    strange = set(folder.glob("*.json")) - set(paths.values())
    if strange or not any(path.is_file() for path in paths.values()):
        wrong = f"{min(strange).name} is of no test set that is there" if strange else "no results"
        raise ValueError(f"{folder}: {wrong}; expected one or more of "
                         f"{', '.join(dict.fromkeys(path.name for path in paths.values()))}")
    found, sweep = {}, {}
    for kind, path in paths.items():
        if path.is_file():
            dataset = test_set(profile, kind)
            figures = evaluate(dataset, results.read(path, dataset), profile.evaluate.ap, profile.evaluate.detections,
                               kind)
            ap50 = figures["AP50"]
            print(f"{name} -{kind}: AP50 {'–' if ap50 is None else f'{ap50:.3f}'}", flush=True)
            if kind.startswith("turn"):
                sweep[str(int(kind.removeprefix("turn")))] = figures
            else:
                found[kind] = figures
    return found | ({"sweep": sweep} if sweep else {})


def evaluate_all(profile: params.Profile, name: str, detector, folder: Path,
                 device: str = "cpu") -> dict[str, dict] | None:
    """The details of a model on every kind, from the results that it leaves in `folder`; None on all ranks but 0."""
    torch.set_num_threads(profile.train.threads)
    first, batch = processes.rank() == 0, profile.evaluate.batch
    for kind in available(profile):
        if kind == "rt-ellipse":
            continue
        dataset = test_set(profile, kind)
        # whole batches are dealt out, since a photo's padding is that of its batch
        batches = [dataset.samples[i:i + batch] for i in range(0, len(dataset.samples), batch)]
        found = detect(detector, sum(batches[processes.rank()::processes.world()], []), batch, device,
                       profile.train.workers)
        found = sum(processes.gathered([found[i:i + batch] for i in range(0, len(found), batch)]), [])
        if first:
            results.write(folder / f"{kind}.json", results.all_rows(found, dataset))
    processes.end()  # `turns` would wait for the others
    if not first:
        return None
    found = evaluate_results(profile, name, folder)
    found["st"]["turning"] = (turns(detector, test_set(profile, "st").samples, device)
                              if isinstance(detector, model.KAOD) else None)
    return found


def main() -> None:
    profile, models = params.load()
    parser = argparse.ArgumentParser(prog="python -m kaod.evaluation.evaluate", description="Evaluates a detector.")
    parser.add_argument("model", help=f"one of {', '.join(models)}; with --results any name")
    parser.add_argument("--results", type=Path, help="a folder with results in COCO's format: st.json, rt.json, …")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()
    if given.results:
        params.check_name(given.model, "--results")
        files.write_json(profile.results / "detectors" / f"{given.model}.json",
                         evaluate_results(profile, given.model, given.results))
        return
    if given.model not in models:
        parser.error(f"expected one of {', '.join(models)}, or --results")
    folder = profile.runs / given.model
    device = processes.start(given.device)
    detector, _, _ = checkpoints.load(folder / "model.pt", device, profile.evaluate)
    began = time.monotonic()
    if processes.rank():
        evaluate_all(profile, given.model, detector, folder, device)
        return
    with files.whole(folder / "detections") as detections:
        found = evaluate_all(profile, given.model, detector, detections, device)
        print(f"{given.model}: evaluated in {(time.monotonic() - began) / 60:.1f} min", flush=True)
        files.write_all({profile.results / "details" / f"{given.model}.json": files.to_json(found),
                         profile.results / "metrics" / f"{given.model}.json": files.to_json(summary(found))})


if __name__ == "__main__":
    command(main, RuntimeError)
