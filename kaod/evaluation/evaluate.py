"""Evaluates a model, or any detector's results, on the test set as it is, rotated, cropped, shifted, and the sweep.

`python -m kaod.evaluation.evaluate MODEL` writes what it found to runs/<profile>/MODEL/detections/KIND.json, in COCO's results
format (see `results`), and the metrics to results/<profile>/metrics/MODEL.json.
`torchrun --nproc-per-node N -m kaod.evaluation.evaluate MODEL` shares the photos out to N GPUs.
`python -m kaod.evaluation.evaluate NAME --results FOLDER` takes another detector's: FOLDER/st.json, rt.json, … as many as there
are, with the image ids of runs/<profile>/warped/KIND.json. It writes results/<profile>/detectors/NAME.json.

The metrics of each kind are those of `metrics.evaluate`; the sweep's stand under "sweep", by angle. -st has one more:
repeatability   of a model with keypoints: by angle, how far keypoints of a turned photo lie from those of the photo
                itself (`losses.repeatability`), in units of √(box area). Read it beside `spread`.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from .. import model, params
from ..data import datasets, files
from ..data.kinds import ANGLES, available
from ..training import distributed
from . import metrics, results


@torch.inference_mode()
def detect(detector, samples, batch: int, device: str = "cpu", workers: int = 0) -> list[dict[str, np.ndarray]]:
    """The model's detections on each sample, best first: boxes (n, 4), scores (n,), labels (n,), and
    keypoints (n, K, 2) if it has them, in the photo's pixels. workers: processes that decode the photos."""
    found = []
    photos = torch.utils.data.DataLoader(datasets.Photos(samples), batch, collate_fn=datasets.collate,
                                         num_workers=workers)
    for images, _ in tqdm(photos, "detecting", disable=None if distributed.rank() == 0 else True):
        images = [image.to(device).float() / 255 for image in images]
        found += [{key: value.cpu().numpy() for key, value in each.items()} for each in detector(images)]
    return found


def repeatability(detector: model.KAOD, samples, device: str = "cpu", most: int = 50) -> dict[str, float] | None:
    """The keypoints' repeatability under each angle of the sweep but 0, over the supervised locations of the first
    `most` samples with an object; None where there is none."""
    photos = [datasets.Photos(samples)[i] for i, sample in enumerate(samples) if not sample.ignore.all()][:most]
    if not photos:
        return None
    found = {}
    for angle in tqdm([angle for angle in ANGLES if angle], "turning", disable=None):
        values = [detector.repeatability([image.to(device).float() / 255],
                                         [{key: target[key].to(device) for key in ("boxes", "labels")}], angle)
                  for image, target in photos]
        values = torch.cat(values).double()
        found[str(angle)] = values.mean().item() if len(values) else None
    return found


def test_set(profile: params.Profile, kind: str) -> datasets.DataSet:
    """The photos and the ground truth of one kind."""
    return datasets.load(profile, profile.test_sets, None if kind == "st" else profile.runs / "warped" / kind)


def _nested(found: dict[str, dict]) -> dict[str, dict]:
    """The sweep's kinds, turn-90 …, under one key, by angle."""
    sweep = {str(int(kind.removeprefix("turn"))): found[kind] for kind in found if kind.startswith("turn")}
    return {kind: each for kind, each in found.items() if not kind.startswith("turn")} | (
        {"sweep": sweep} if sweep else {})


def evaluate_results(profile: params.Profile, name: str, folder: Path) -> dict[str, dict]:
    """The metrics of the results in a folder, on each kind that it has; prints one line for each.

    Raises ValueError where there are none, or that names the file and row that are wrong.
    """
    kinds = [kind for kind in available(profile) if (folder / f"{kind.removesuffix('-ellipse')}.json").is_file()]
    if not kinds:
        raise ValueError(f"{folder}: no results; expected one or more of "
                         f"{', '.join(f'{kind}.json' for kind in available(profile) if kind != 'rt-ellipse')}")
    strange = {path.name for path in folder.glob("*.json")} - {f"{kind}.json" for kind in kinds}
    if strange:
        raise ValueError(f"{folder}: {min(strange)} is of no test set that is there; expected some of "
                         f"{', '.join(f'{kind}.json' for kind in available(profile) if kind != 'rt-ellipse')}")
    found = {}
    for kind in kinds:
        dataset = test_set(profile, kind)
        # the photos of rt-ellipse are those of rt
        detections = results.read(folder / f"{kind.removesuffix('-ellipse')}.json", dataset)
        found[kind] = metrics.evaluate(dataset, detections, profile.layout, profile.evaluate.detections, kind)
        print(f"{name} -{kind}: AP50 {found[kind]['AP50']:.3f}", flush=True)
    return _nested(found)


def evaluate_all(profile: params.Profile, name: str, detector, folder: Path,
                 device: str = "cpu") -> dict[str, dict] | None:
    """The metrics of a model on every kind, from the results that it leaves in `folder`; None on all ranks but 0."""
    torch.set_num_threads(profile.train.threads)
    first, batch = distributed.rank() == 0, profile.evaluate.batch
    for kind in available(profile):
        if kind == "rt-ellipse":
            continue
        dataset = test_set(profile, kind)
        # whole batches are dealt out, since a photo's padding is that of its batch
        batches = [dataset.samples[i:i + batch] for i in range(0, len(dataset.samples), batch)]
        found = detect(detector, sum(batches[distributed.rank()::distributed.world()], []), batch, device,
                       profile.train.workers)
        found = sum(distributed.gathered([found[i:i + batch] for i in range(0, len(found), batch)]), [])
        if first:
            results.write(folder / f"{kind}.json", [row for sample, each in zip(dataset.samples, found)
                                                    for row in results.to_rows(each, sample.id, dataset.category_ids)])
    distributed.end()  # repeatability would wait for the others
    if not first:
        return None
    found = evaluate_results(profile, name, folder)
    found["st"]["repeatability"] = (repeatability(detector, test_set(profile, "st").samples, device)
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
        if Path(given.model).name != given.model:
            parser.error(f"expected a plain name; got {given.model}")
        files.write_json(profile.results / "detectors" / f"{given.model}.json",
                         evaluate_results(profile, given.model, given.results))
        return
    if given.model not in models:
        parser.error(f"expected one of {', '.join(models)}, or --results")
    folder = profile.runs / given.model
    device = distributed.start(given.device)
    detector, _, _ = model.load(folder / "model.pt", device, profile.evaluate)
    found = evaluate_all(profile, given.model, detector, folder / "detections", device)
    if found:
        files.write_json(profile.results / "metrics" / f"{given.model}.json", found)


if __name__ == "__main__":
    try:
        main()
    except (ValueError, RuntimeError, FileNotFoundError) as error:
        sys.exit(f"kaod.evaluation.evaluate: {error}")
