"""The training loop.

`python -m kaod.train MODEL`, with MODEL one of params.yaml's models, writes runs/<profile>/MODEL/model.pt, losses.tsv
and snapshots/STEP.pt, weights of moments before the end. `torchrun --nproc-per-node N -m kaod.train MODEL` does it
with N GPUs, and `batch` is then that of all of them together. Checkpoints to resume from, and TensorBoard's curves,
are in scratch/<profile>/MODEL/, which Git and DVC ignore.

Everything random at step i is drawn from (seed, i) alone: the batch, the flips, the second views. So a
run that is resumed ends as one that was never interrupted, to the last bit on the CPU, and several processes
together do what one would do, to rounding (where photos differ in size, each pads to the largest of its own).
"""

import argparse
import contextlib
import math
import shutil
import signal
import threading
import time
from dataclasses import replace

import torch
from torch.nn.parallel import DistributedDataParallel

from . import ROOT, command, model, params
from .data import datasets, files
from .training import checkpoints, processes
from .training.augment import augment
from .training.progress import Progress, Silent, check_finite
from .training.schedule import batches, learning_rate, moments, optimizer_of


@contextlib.contextmanager
def signals():
    """A list of the SIGTERM or Ctrl-C that came, for the loop to stop at its next step; one more, two seconds later or
    more, acts at once. What comes sooner is the same one: torchrun passes on what a cluster has sent to all."""
    caught, first = [], math.inf
    usual = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def note(number, _):
        nonlocal first
        caught.append(number)
        first = min(first, time.monotonic())
        if time.monotonic() - first > 2:
            signal.signal(number, usual[number])
            signal.raise_signal(number)

    for number in usual:
        signal.signal(number, note)
    try:
        yield caught
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


def ignore_signals(_) -> None:
    """For the workers: Ctrl-C reaches them, too, but the step that is under way needs them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def in_bf16(forward, device: str):
    """The forward of a backbone or a head under autocast ("cuda" or "cpu"), with outputs in float32.

    Eight bits round by up to 0.4 %: little for a distance from the location, but not for a place in the photo. So
    anchors (torchvision gives them the features' type), targets, boxes, matching and losses stay in float32.
    """
    def run(given):
        with torch.autocast(device, torch.bfloat16):
            return {key: value.float() for key, value in forward(given).items()}

    return run


@contextlib.contextmanager
def as_trained(detector, settings: params.Train, device: str):
    """The detector's layers in bf16, where that is wanted and there is a GPU. As it was when the training is over."""
    parts, kind = [detector.backbone, detector.head] if settings.bf16 else [], torch.device(device).type
    for part in parts if kind == "cuda" else []:  # most CPUs are slower with it
        part.forward = in_bf16(part.forward, kind)
    try:
        yield
    finally:
        for part in parts:
            part.__dict__.pop("forward", None)


def on_device(images: list, targets: list, device: str) -> tuple[list, list]:
    """Photos from bytes to 0…1, on the device; of the targets, what is learned."""
    return ([image.to(device, non_blocking=True).float() / 255 for image in images],
            [{key: value.to(device, non_blocking=True) for key, value in target.items() if key != "index"}
             for target in targets])


def backward(losses: dict, optimizer, clip: float, stop: int = 0) -> dict[str, float]:
    """Gradients of the losses' sum, clipped. Returns the means over the ranks: loss, its terms, the gauge, the
    gradient's norm before clipping, and `stop`, so that all ranks stop where one is to."""
    gauge = {"spread": losses.pop("spread")} if "spread" in losses else {}
    total = sum(losses.values())
    optimizer.zero_grad()
    total.backward()
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    norm = torch.nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None])
    # clip_grad_norm_ would multiply them all by 1, too; on a GPU that is cheaper than to wait for the norm
    if clip and (norm.is_cuda or norm + 1e-6 > clip):
        torch.nn.utils.clip_grads_with_norm_(weights, clip, norm)
    terms = {"loss": total, **losses, **gauge, "gradient_norm": norm, "stop": norm.new_tensor(stop)}
    # one transfer for all of them; with several ranks, each waits here for the others
    values = processes.mean(torch.stack([each.detach() for each in terms.values()]))
    return dict(zip(terms, values.tolist()))


def loader(photos: datasets.Photos, order: list[list[int]], workers: int, pinned: bool):
    """This rank's photos of each batch in turn, as `datasets.collate` gives them: one pass for all steps."""
    return iter(torch.utils.data.DataLoader(
        photos, collate_fn=datasets.collate, num_workers=workers, pin_memory=pinned,
        worker_init_fn=ignore_signals, batch_sampler=[processes.part(batch) for batch in order]))


def train(detector, profile: params.Profile, samples, device: str = "cpu", run: checkpoints.Run | None = None,
          snapshot=None) -> list[dict]:
    """Trains a detector in place, any that gives losses as torchvision's do. Returns the log, one dict a step: the
    losses, their sum, the gradient's norm, the rate.

    run: where to resume from and save to; or None. snapshot(step, detector): is called before each of the steps of
    `moments`. SIGTERM and Ctrl-C end the step, save, and raise SystemExit. Raises ValueError on a loss or a gradient
    that is not finite, naming the step, the photos and the losses, and OSError where the disk is full.
    """
    settings, first, on_cpu = profile.train, processes.rank() == 0, torch.device(device).type == "cpu"
    if min(settings.batch, len(samples)) % processes.world():
        raise ValueError(f"train.batch: expected a multiple of the {processes.world()} processes; "
                         f"got {settings.batch} ({len(samples)} photos)")
    torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(on_cpu)  # on a GPU they are slow, and some do not exist
    torch.utils.deterministic.fill_uninitialized_memory = False  # it finds bugs, and takes 3 % of a step
    detector.train()
    if settings.channels_last:
        detector.to(memory_format=torch.channels_last)
    processes.attach(detector)
    optimizer = optimizer_of(detector, settings)
    log = run.resume(detector, optimizer) if run else []
    order = list(batches([sample.size[0] > sample.size[1] for sample in samples], settings.batch, settings.seed,
                         len(log), settings.steps))
    outlines = bool(settings.rotate) and settings.rotated_boxes == "outline"
    photos = loader(datasets.Photos(samples, outlines), order, settings.workers, not on_cpu)
    progress = Progress(len(log), settings.steps, device, run.folder if run else None) if first else Silent
    with signals() as caught, as_trained(detector, settings, device):
        network = DistributedDataParallel(detector, broadcast_buffers=False) if processes.world() > 1 else detector
        for step, batch in enumerate(order, len(log)):
            if snapshot and first and step in moments(settings):
                snapshot(step, detector)
            images, targets = progress.wait(photos)
            torch.manual_seed(settings.seed * 1_000_003 + step)
            images, targets = augment(*on_device(images, targets, device), settings, profile.keypoints)
            rate = learning_rate(step, settings)
            for group in optimizer.param_groups:
                group["lr"] = rate
            row = backward(network(images, targets), optimizer, settings.clip, len(caught))
            stop = row.pop("stop") > 0 and step + 1 < settings.steps
            check_finite(step, row, [samples[i] for i in batch])
            optimizer.step()
            log.append({"step": step + 1} | row | {"lr": rate})
            progress.step(log[-1], len(batch))
            if run and step + 1 < settings.steps and (stop or (step + 1) % settings.save_every == 0):
                run.save(detector, optimizer, log)
            if stop:
                processes.end()
                if first:
                    print(f"stopped after step {step + 1}; the same command goes on from there", flush=True)
                raise SystemExit(128 + (caught or [signal.SIGTERM])[0])
    progress.end()
    return log


def taught(samples: list[datasets.Sample], settings: params.Train) -> list[datasets.Sample]:
    """The samples without what no training sees: each process and worker would hold all outlines."""
    bare = {"areas": None, "crowds": {}} | ({} if settings.rotated_boxes == "outline" else {"polygons": []})
    return [replace(sample, **bare) for sample in samples]


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
    # TensorBoard's thread hands an error of the disk to the next step, and need not print it, too
    usual = threading.excepthook
    threading.excepthook = lambda raised: issubclass(raised.exc_type, OSError) or usual(raised)
    device, scratch = processes.start(given.device), ROOT / "scratch" / profile.name / given.model
    profile, target = params.apply(profile, models[given.model]), profile.runs / given.model
    k = keypoint_count(profile)
    dataset = datasets.load(profile, profile.train_sets)
    torch.manual_seed(profile.train.seed)
    detector = model.build(profile.model, profile.keypoints, len(dataset.classes), k).to(device)
    run = checkpoints.Run(scratch, checkpoints.fingerprint(profile, k))

    def snapshot(step, detector):
        files.write_bytes(scratch / "snapshots" / f"{step:07}.pt",
                          checkpoints.to_bytes(detector, profile, dataset, k, half=True))

    log = train(detector, profile, taught(dataset.samples, profile.train), device, run, snapshot)
    if processes.rank() == 0:
        with files.whole(target / "snapshots") as folder:
            for step in moments(profile.train):
                kept = f"{step:07}.pt"
                files.write_bytes(folder / kept, (scratch / "snapshots" / kept).read_bytes())
            files.write_all({target / "losses.tsv": files.to_tsv(log),
                             target / "model.pt": checkpoints.to_bytes(detector, profile, dataset, k)})
        run.clear()
        shutil.rmtree(scratch / "snapshots", ignore_errors=True)
    processes.end()


if __name__ == "__main__":
    command(main, RuntimeError)
