"""The training loop.

`python -m kaod.train MODEL`, with MODEL one of params.yaml's models, writes runs/<profile>/MODEL/model.pt and
losses.tsv. Checkpoints to resume from are in scratch/<profile>/MODEL/, which Git and DVC ignore.

Everything random at step i is drawn from (seed, i) alone: the batch, the flips, the second views. So a run
that is resumed ends as one that was never interrupted, to the last bit on the CPU.
"""

import argparse
import hashlib
import io
import json
import math
import pickle
import sys
import time
from dataclasses import asdict

import torch
from torchvision.ops import box_area, clip_boxes_to_image
from torchvision.transforms.functional import hflip
from tqdm import tqdm

from . import ROOT, datasets, files, geometry, model, params

CODE = ("files", "params", "geometry", "datasets", "losses", "model", "train")  # what a trained model depends on


def batches(count: int, batch: int, seed: int, start: int, steps: int):
    """The photos' numbers of the steps start … steps − 1: each epoch a new order, cut into whole batches."""
    batch = min(batch, count)
    per_epoch = count // batch
    order, epoch = [], None
    for step in range(start, steps):
        if step // per_epoch != epoch:
            epoch = step // per_epoch
            order = torch.randperm(count, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch)).tolist()
        first = step % per_epoch * batch
        yield order[first:first + batch]


def learning_rate(step: int, settings: params.Train) -> float:
    """Linear warm-up, then half a cosine to zero."""
    if step < settings.warmup:
        return settings.lr * (step + 1) / settings.warmup
    return settings.lr * (1 + math.cos(math.pi * (step - settings.warmup) / (settings.steps - settings.warmup))) / 2


def flip(image, target):
    """Image and boxes, left to right."""
    boxes = target["boxes"].clone()
    boxes[:, [0, 2]] = image.shape[-1] - boxes[:, [2, 0]]
    return hflip(image), {**target, "boxes": boxes}


def turned_copy(image, target, keypoints: params.Keypoints, rotated_boxes: str):
    """What one would do instead of the keypoint loss: the image under a random T, and the boxes that go with it.

    Labels know no outlines, so the boxes are those of the turned ellipses or corners. What comes from outside is
    the image's mean colour: a reflection would show objects without labels. Objects with less than a
    quarter of their new box inside are dropped, as in the test sets.
    """
    size = torch.tensor([[image.shape[2], image.shape[1]]]).to(image)
    T = geometry.random_rigid(size, keypoints.angle, keypoints.shift)
    mean = image.mean((1, 2), keepdim=True)
    copy = geometry.warp_images((image - mean)[None], T, size, "constant")[0] + mean
    if rotated_boxes == "ellipse":
        boxes = geometry.ellipse_boxes(T, target["boxes"])
    else:
        boxes = geometry.enclosing(geometry.transform(T, geometry.corners(target["boxes"])))
    inside = clip_boxes_to_image(boxes, image.shape[1:])
    kept = box_area(inside) >= box_area(boxes) / 4
    return copy, {**target, "boxes": inside[kept], "labels": target["labels"][kept]}


def fingerprint(profile: params.Profile, variant: params.Variant, k: int) -> str:
    """A hash of all that a run depends on: settings, data and code. A checkpoint of another run is not resumed."""
    used = {"model": asdict(profile.model), "keypoints": asdict(profile.keypoints), "train": asdict(profile.train),
            "variant": asdict(variant), "k": k, "data": files.read_json(profile.folder / "manifest.json"),
            "code": [files.digest(ROOT / "kaod" / f"{name}.py") for name in CODE]}
    return hashlib.md5(json.dumps(used, sort_keys=True).encode()).hexdigest()


def resume(path, print_of_run: str, detector, optimizer) -> tuple[int, list[dict]]:
    """(the step to go on from, the log so far) after loading a checkpoint, or (0, []) where none fits."""
    if not path.exists():
        return 0, []
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        if saved["fingerprint"] != print_of_run:
            raise ValueError("of a run with other settings, data or code")
        detector.load_state_dict(saved["weights"])
        optimizer.load_state_dict(saved["optimizer"])
    except (RuntimeError, KeyError, EOFError, pickle.UnpicklingError, ValueError) as error:
        print(f"{path} is {error}: moved aside, starting over", flush=True)
        path.replace(path.with_suffix(".old"))
        return 0, []
    print(f"going on from step {saved['step']} ({path})", flush=True)
    return saved["step"], saved["log"]


def save(path, print_of_run: str, detector, optimizer, step: int, log: list[dict]) -> None:
    buffer = io.BytesIO()
    torch.save({"fingerprint": print_of_run, "weights": detector.state_dict(), "optimizer": optimizer.state_dict(),
                "step": step, "log": log}, buffer)
    files.write_bytes(path, buffer.getvalue())


def train(profile: params.Profile, variant: params.Variant, samples, classes: list[str], k: int, checkpoint=None,
          device: str = "cpu"):
    """A trained detector and its log, one dict a step: the losses, their sum, the gradient's norm, the rate.

    checkpoint: a file to resume from and to save to, or None. Raises ValueError on a loss that is not finite,
    naming the step, the photos and the losses.
    """
    settings = profile.train
    torch.manual_seed(settings.seed)
    torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(True, warn_only=device != "cpu")
    detector = model.build(profile.model, profile.keypoints, variant, len(classes), k).to(device).train()
    weights = [weight for weight in detector.parameters() if weight.requires_grad]
    if settings.optimizer == "adamw":
        optimizer = torch.optim.AdamW(weights, settings.lr, weight_decay=settings.weight_decay)
    else:
        optimizer = torch.optim.SGD(weights, settings.lr, momentum=0.9, weight_decay=settings.weight_decay)
    start, log = 0, []
    if checkpoint:
        print_of_run = fingerprint(profile, variant, k)
        start, log = resume(checkpoint, print_of_run, detector, optimizer)
    photos = torch.utils.data.DataLoader(
        datasets.Photos(samples), collate_fn=datasets.collate, num_workers=settings.workers,
        batch_sampler=list(batches(len(samples), settings.batch, settings.seed, start, settings.steps)))
    began = time.monotonic()
    bar = tqdm(photos, "training", total=settings.steps, initial=start, disable=None)
    for step, (images, targets) in enumerate(bar, start):
        torch.manual_seed(settings.seed * 1_000_003 + step)
        images = [image.to(device).float() / 255 for image in images]
        targets = [{key: value.to(device) for key, value in target.items() if key != "index"} | {
            "index": target["index"]} for target in targets]
        turned = torch.rand(len(images)) < settings.flip
        pairs = [flip(*pair) if turn else pair for turn, *pair in zip(turned, images, targets)]
        if settings.rotate:
            turned = torch.rand(len(images)) < settings.rotate
            pairs = [turned_copy(*pair, profile.keypoints, settings.rotated_boxes) if turn else pair
                     for turn, pair in zip(turned, pairs)]
        rate = learning_rate(step, settings)
        for group in optimizer.param_groups:
            group["lr"] = rate
        losses = detector(*map(list, zip(*pairs)))
        gauge = losses.pop("spread", None)
        total = sum(losses.values())
        row = {key: value.item() for key, value in losses.items()}
        if not math.isfinite(total.item()):
            names = ", ".join(samples[target["index"]].path.name for target in targets)
            raise ValueError(f"step {step}: the loss is {total.item()}: {row}; photos: {names}")
        optimizer.zero_grad()
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(weights, settings.clip).item()
        optimizer.step()
        row |= {} if gauge is None else {"spread": gauge.item()}
        log.append({"step": step + 1, "loss": total.item()} | row | {"gradient_norm": norm, "lr": rate})
        bar.set_postfix(loss=f"{total.item():.3f}")
        if (step + 1) % settings.save_every == 0 and step + 1 < settings.steps:
            if checkpoint:
                save(checkpoint, print_of_run, detector, optimizer, step + 1, log)
            if bar.disable:
                pace = (time.monotonic() - began) / (step + 1 - start)
                print(f"step {step + 1} of {settings.steps}: loss {total.item():.3f}, {pace:.2f} s a step, "
                      f"{pace * (settings.steps - step - 1) / 60:.1f} min to go", flush=True)
    return detector, log


def keypoint_count(profile: params.Profile) -> int:
    """K: a number from the settings, or what the vertices stage found."""
    k = profile.vertices.k
    return files.read_json(profile.runs / "k.json")["k"] if k == "auto" else k


def main() -> None:
    profile, models = params.load()
    parser = argparse.ArgumentParser(prog="python -m kaod.train", description="Trains one model of params.yaml.")
    parser.add_argument("model", choices=models)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()
    name = given.model
    profile = params.apply(profile, models[name])
    k = keypoint_count(profile)
    dataset = datasets.load(profile, profile.train_sets)
    scratch = ROOT / "scratch" / profile.name / name / "checkpoint.pt"
    detector, log = train(profile, models[name], dataset.samples, dataset.classes, k, scratch, given.device)
    files.write_tsv(profile.runs / name / "losses.tsv", log)
    files.write_bytes(profile.runs / name / "model.pt",
                      model.to_bytes(detector, profile, models[name], dataset, k))
    scratch.unlink(missing_ok=True)


if __name__ == "__main__":
    try:
        main()
    except (ValueError, RuntimeError) as error:
        sys.exit(f"kaod.train: {error}")
