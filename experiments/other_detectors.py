"""torchvision's RetinaNet or Faster R-CNN on the selected profile: how other detectors are compared on -st, -rt, -tr.

`python experiments/other_detectors.py retinanet|faster-rcnn` trains it by the loop that trains FCOS, with the same
backbone, photos, steps, batch, optimizer and schedule. It writes runs/<profile>/NAME/detections/KIND.json, and
`python -m kaod.evaluation.evaluate NAME --results runs/<profile>/NAME/detections` evaluates them.
"""

import argparse
from dataclasses import replace

import torch
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from kaod import model, params, train
from kaod.data import datasets, warp
from kaod.evaluation import evaluate, results


def build(name: str, profile: params.Profile, classes: int) -> torch.nn.Module:
    """The detector with the profile's backbone and sizes; its anchors are scaled as FCOS's are."""
    settings, found = profile.model, profile.evaluate
    backbone, ratios = model.backbone(settings), (0.5, 1.0, 2.0)
    sizes = [stride * 4 * settings.anchor_scale for stride in model.STRIDES]
    sides = {"min_size": settings.min_size, "max_size": settings.max_size, "num_classes": classes + 1}
    if name == "retinanet":
        octaves = tuple(tuple(round(size * 2 ** (i / 3)) for i in range(3)) for size in sizes)
        return RetinaNet(backbone, **sides, anchor_generator=AnchorGenerator(octaves, (ratios,) * len(sizes)),
                         score_thresh=found.score_thresh, detections_per_img=found.detections)
    anchors = AnchorGenerator(tuple((round(size),) for size in sizes), (ratios,) * len(sizes))
    return FasterRCNN(backbone, **sides, rpn_anchor_generator=anchors, box_detections_per_img=found.detections,
                      box_roi_pool=MultiScaleRoIAlign(["0", "1", "2"], 7, 2), box_score_thresh=found.score_thresh)


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains another detector and writes its results.")
    parser.add_argument("name", choices=("retinanet", "faster-rcnn"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()
    profile, _ = params.load()
    if given.name == "faster-rcnn":  # the loop's bf16 is for detectors that have a backbone and one head
        profile = replace(profile, train=replace(profile.train, bf16=False))
    torch.manual_seed(profile.train.seed)  # of the first weights
    dataset = datasets.load(profile, profile.train_sets)
    detector = build(given.name, profile, len(dataset.classes)).to(given.device)
    train.train(detector, profile, dataset.samples, device=given.device)
    detector.eval()
    for kind in warp.available(profile):
        if kind == "rt-ellipse":
            continue
        tested = evaluate.test_set(profile, kind)
        found = evaluate.detect(detector, tested.samples, profile.evaluate.batch, given.device)
        results.write(profile.runs / given.name / "detections" / f"{kind}.json",
                      results.all_rows(found, tested))


if __name__ == "__main__":
    main()
