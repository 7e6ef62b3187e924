"""torchvision's RetinaNet or Faster R-CNN on the selected profile: how other detectors are compared on -st, -rt, -tr.

`python experiments/other_detectors.py retinanet|faster-rcnn` trains it as the profile trains FCOS (the same backbone,
photos, steps, batch, optimizer and schedule) and writes runs/<profile>/NAME/detections/KIND.json, which
`python -m kaod.evaluation.evaluate NAME --results runs/<profile>/NAME/detections` evaluates.
"""

import argparse
import math

import torch
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign
from tqdm import tqdm

from kaod import model, params, train
from kaod.data import datasets, kinds
from kaod.evaluation import evaluate, results
from kaod.training import augment


def build(name: str, profile: params.Profile, classes: int) -> torch.nn.Module:
    """The detector with the profile's backbone and sizes; its anchors are scaled as FCOS's are."""
    settings, given = profile.model, {}
    sizes = [stride * 4 * settings.anchor_scale for stride in model.STRIDES]
    sides = {"min_size": settings.min_size, "max_size": settings.max_size, "num_classes": classes + 1}
    if name == "retinanet":
        octaves = tuple(tuple(round(size * 2 ** (i / 3)) for i in range(3)) for size in sizes)
        given = {"anchor_generator": AnchorGenerator(octaves, ((0.5, 1.0, 2.0),) * len(sizes)),
                 "score_thresh": profile.evaluate.score_thresh, "detections_per_img": profile.evaluate.detections}
        return RetinaNet(model.backbone(settings), **sides, **given)
    given = {"rpn_anchor_generator": AnchorGenerator(tuple((round(size),) for size in sizes),
                                                     ((0.5, 1.0, 2.0),) * len(sizes)),
             "box_roi_pool": MultiScaleRoIAlign(["0", "1", "2"], 7, 2),
             "box_score_thresh": profile.evaluate.score_thresh,
             "box_detections_per_img": profile.evaluate.detections}
    return FasterRCNN(model.backbone(settings), **sides, **given)


def fit(detector, samples, settings: params.Train, device: str) -> None:
    """The profile's optimizer and schedule: steps, batches, flips, warm-up, decay, clipping; no more of `train`."""
    weights = [weight for weight in detector.parameters() if weight.requires_grad]
    optimizer = train.optimizer_of(weights, settings, None)
    photos = torch.utils.data.DataLoader(
        datasets.Photos(samples), collate_fn=datasets.collate,
        batch_sampler=list(train.batches([sample.size[0] > sample.size[1] for sample in samples], settings.batch,
                                         settings.seed, 0, settings.steps)))
    for step, (images, targets) in enumerate(tqdm(photos, "training", disable=None)):
        torch.manual_seed(settings.seed * 1_000_003 + step)
        pairs = [(image.to(device).float() / 255, {key: target[key].to(device) for key in ("boxes", "labels")})
                 for image, target in zip(images, targets)]
        turned = torch.rand(len(pairs)) < settings.flip
        pairs = [augment.flip(*pair) if turn else pair for turn, pair in zip(turned, pairs)]
        for group in optimizer.param_groups:
            group["lr"] = train.learning_rate(step, settings)
        loss = sum(detector(*map(list, zip(*pairs))).values())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, settings.clip or math.inf)
        optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains another detector and writes its results.")
    parser.add_argument("name", choices=("retinanet", "faster-rcnn"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()
    profile, _ = params.load()
    torch.manual_seed(profile.train.seed)
    torch.set_num_threads(profile.train.threads)
    dataset = datasets.load(profile, profile.train_sets)
    detector = build(given.name, profile, len(dataset.classes)).to(given.device).train()
    fit(detector, dataset.samples, profile.train, given.device)
    detector.eval()
    for kind in kinds.available(profile):
        if kind == "rt-ellipse":
            continue
        tested = evaluate.test_set(profile, kind)
        found = evaluate.detect(detector, tested.samples, profile.evaluate.batch, given.device)
        results.write(profile.runs / given.name / "detections" / f"{kind}.json", [
            row for sample, each in zip(tested.samples, found)
            for row in results.to_rows(each, sample.id, tested.category_ids)])


if __name__ == "__main__":
    main()
