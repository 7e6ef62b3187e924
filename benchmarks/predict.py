"""How many photos a second `kaod.predict` does, beside torchvision's FCOS alone.

`python benchmarks/predict.py` takes a minute, after `make repro` → results/benchmarks/predict.json. Both take the test
set's photos from their files, eight at a time, and turns, batch by batch. `kaod`: the pipeline's `kaod`, with all that
`predict` gives: boxes, keypoints, rotated boxes and masks. `torchvision`: the pipeline's `fcos` as a plain
`torchvision.models.detection.FCOS`, its photos read by torchvision, to boxes.
"""

import json
import statistics
import time

import torch
from torchvision.io import ImageReadMode, decode_image
from torchvision.models.detection import FCOS

import kaod
from experiments import grid
from kaod import ROOT, params
from kaod.data import files
from kaod.evaluation import compare, evaluate

BATCH, ROUNDS = 8, 3  # rounds through the test set; the first warms up


def main() -> None:
    commit = compare.commit()  # of what is about to run
    profile, _ = params.load()
    torch.set_num_threads(profile.train.threads)
    ours, theirs = (kaod.load(profile.runs / name / "model.pt") for name in ("kaod", "fcos"))
    assert type(theirs.detector) is FCOS
    paths = [str(sample.path) for sample in evaluate.test_set(profile, "st").samples]
    batches = [paths[start:start + BATCH] for start in range(0, len(paths), BATCH)]

    @torch.inference_mode()
    def plain(batch):
        return theirs.detector([decode_image(path, ImageReadMode.RGB).float() / 255 for path in batch])

    seconds = {"kaod": [], "torchvision": []}
    for number in range(ROUNDS):
        for batch in batches:
            for name, run in (("kaod", ours.predict), ("torchvision", plain)):
                began = time.perf_counter()
                run(batch)
                seconds[name] += [time.perf_counter() - began] if number else []
    found = {
        "photos": len(paths), "photos_per_second": {name: BATCH / statistics.median(each)
                                                    for name, each in seconds.items()},
        "ratio": statistics.median(a / b for a, b in zip(seconds["kaod"], seconds["torchvision"])),
        "hardware": grid.hardware("cpu"), "command": "python benchmarks/predict.py", "commit": commit}
    files.write_json(ROOT / "results" / "benchmarks" / "predict.json", found)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
