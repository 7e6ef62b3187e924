"""The training loop.

`python -m kaod.train MODEL`, with MODEL one of params.yaml's models, writes runs/<profile>/MODEL/model.pt, losses.tsv
and snapshots/STEP.pt, weights of moments before the end. `torchrun --nproc-per-node N -m kaod.train MODEL` does it
with N GPUs, and `batch` is then that of all of them together. Checkpoints to resume from, and log.tsv, which grows
with every step, are in scratch/<profile>/MODEL/, which Git and DVC ignore.

Everything random at step i is drawn from (seed, i) alone: the batch, the flips, the sizes, the second views. So a
run that is resumed ends as one that was never interrupted, to the last bit on the CPU, and several processes
together do what one would do, to rounding (where photos differ in size, each pads to the largest of its own).
"""

import argparse
import contextlib
import math
import shutil
import signal
import sys
import time
from dataclasses import replace

import torch
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from . import ROOT, model, params
from .data import datasets, files
from .training import checkpoint, distributed, watch
from .training.augment import augment


def batches(wide: list[bool], batch: int, seed: int, start: int, steps: int):
    """The photos' numbers of the steps start … steps − 1: each epoch a new order, cut into whole batches.

    wide: for each photo, whether it is wider than high. A batch has photos of one kind (but the last of an epoch, which
    takes what is left), since it is padded to its widest and its highest.
    """
    batch = min(batch, len(wide))
    per_epoch = len(wide) // batch
    cut, epoch = [], None
    for step in range(start, steps):
        if step // per_epoch != epoch:
            epoch = step // per_epoch
            generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
            cut, open_batches = [], {True: [], False: []}
            for number in torch.randperm(len(wide), generator=generator).tolist():
                open_batches[wide[number]].append(number)
                if len(open_batches[wide[number]]) == batch:
                    cut.append(open_batches[wide[number]])
                    open_batches[wide[number]] = []
            cut.append(sum(open_batches.values(), [])[:batch])
        yield cut[step % per_epoch]


def learning_rate(step: int, settings: params.Train) -> float:
    """Warm-up, linear or at a constant share; then half a cosine to zero, or a tenth after each step of `decay`."""
    if step < settings.warmup:
        if settings.warmup_factor == "linear":
            return settings.lr * (step + 1) / settings.warmup
        return settings.lr * settings.warmup_factor
    if settings.decay == "cosine":
        return settings.lr * (1 + math.cos(math.pi * (step - settings.warmup)
                                           / (settings.steps - settings.warmup))) / 2
    return settings.lr * 0.1 ** sum(step >= each for each in settings.decay)


def moments(settings: params.Train) -> list[int]:
    """The steps before which snapshots are taken: evenly spread, from the first step on."""
    return sorted({settings.steps * i // settings.snapshots for i in range(settings.snapshots)})


def optimizer_of(weights, settings: params.Train, fused: bool | None) -> torch.optim.Optimizer:
    """AdamW, or SGD with momentum. fused: one kernel for all weights; None leaves the choice to torch."""
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(weights, settings.lr, weight_decay=settings.weight_decay, fused=fused)
    return torch.optim.SGD(weights, settings.lr, momentum=0.9, weight_decay=settings.weight_decay, fused=fused)


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


@contextlib.contextmanager
def tuned(detector, settings: params.Train, canvas: int, device: str):
    """The detector's backbone and head as they are trained: in bf16, compiled. As it was when the training is over.

    canvas: pixels, the side of a square batch.
    """
    parts, kind = (detector.backbone, detector.head), torch.device(device).type

    def use(forwards):
        for part, forward in zip(parts, forwards):
            bf16 = settings.bf16 and kind == "cuda"  # most CPUs are slower with it
            part.forward = model.in_bf16(forward, kind) if bf16 else forward

    plain = [part.forward for part in parts]
    use(plain)
    if settings.compile:
        try:
            use([torch.compile(forward) for forward in plain])
            for width in (256, 384):  # of a second size, a graph is compiled that takes all
                trial = torch.zeros(2, 3, 256, width, device=device)
                sum(each.sum() for each in detector.head(list(detector.backbone(trial).values())).values()).backward()
        except Exception as error:  # of whatever kind this machine's compilers raise
            use(plain)
            print(f"train.compile: torch.compile does not work here ({' '.join(str(error).split())[:100]}); "
                  "going on without it", flush=True)
        detector.zero_grad()
    transform = detector.transform
    usual = transform.min_size, transform.size_divisible
    if settings.pad == "square":
        transform.size_divisible = canvas
    torch.backends.cudnn.benchmark = settings.pad == "square"
    try:
        yield
    finally:
        for part in parts:
            part.__dict__.pop("forward", None)
        transform.min_size, transform.size_divisible = usual


def on_device(images: list, targets: list, device: str) -> tuple[list, list]:
    """Photos from bytes to 0…1, on the device; of the targets, what is learned."""
    return ([image.to(device, non_blocking=True).float() / 255 for image in images],
            [{key: target[key].to(device, non_blocking=True) for key in ("boxes", "labels")} for target in targets])


def gradients(network, optimizer, images: list, targets: list, settings: params.Train, stop: int = 0) -> dict:
    """Forward, backward and clipping. Returns the means over the ranks: loss, its terms, the gauge, the gradient's
    norm before clipping, and `stop`, so that all ranks stop where one is to."""
    losses = network(images, targets)
    gauge = {"spread": losses.pop("spread")} if "spread" in losses else {}
    total = sum(losses.values())
    optimizer.zero_grad()
    total.backward()
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    norm = torch.nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None])
    # clip_grad_norm_ would multiply them all by 1, too; on a GPU that is cheaper than to wait for the norm
    if settings.clip and (norm.is_cuda or norm + 1e-6 > settings.clip):
        torch.nn.utils.clip_grads_with_norm_(weights, settings.clip, norm)
    terms = {"loss": total, **losses, **gauge, "gradient_norm": norm, "stop": norm.new_tensor(stop)}
    # one transfer for all of them; with several ranks, each waits here for the others
    values = distributed.mean(torch.stack([each.detach() for each in terms.values()]))
    return dict(zip(terms, values.tolist()))


def train(profile: params.Profile, variant: params.Variant, samples, classes: list[str], k: int, scratch=None,
          device: str = "cpu", snapshot=None):
    """A trained detector and its log, one dict a step: the losses, their sum, the gradient's norm, the rate.

    scratch: a folder for checkpoints and log.tsv, to resume from what is there; or None. snapshot(step, detector): is
    called before each of the steps of `moments`. SIGTERM and Ctrl-C end the step, save, and raise SystemExit. Raises
    ValueError on a loss or a gradient that is not finite, naming the step, the photos and the losses, and OSError where
    the disk is full.
    """
    settings = profile.train
    if min(settings.batch, len(samples)) % distributed.world():
        raise ValueError(f"train.batch: expected a multiple of the {distributed.world()} processes; "
                         f"got {settings.batch} ({len(samples)} photos)")
    first = distributed.rank() == 0
    on_cpu = torch.device(device).type == "cpu"
    torch.manual_seed(settings.seed)
    torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(on_cpu)  # on a GPU they are slow, and some do not exist
    detector = model.build(profile.model, profile.keypoints, variant, len(classes), k).to(device).train()
    if settings.channels_last:
        detector = detector.to(memory_format=torch.channels_last)
    average = AveragedModel(detector, multi_avg_fn=get_ema_multi_avg_fn(settings.ema)) if settings.ema else None
    weights = [weight for weight in detector.parameters() if weight.requires_grad]
    optimizer = optimizer_of(weights, settings, None if on_cpu else True)
    start, log = 0, []
    if scratch:
        print_of_run = checkpoint.fingerprint(profile, variant, k)
        saved = distributed.from_first(checkpoint.resume(scratch, print_of_run) if first else None)
        if saved:
            start, log = saved["step"], watch.rows(saved["log"])
            detector.load_state_dict(saved["weights"])
            optimizer.load_state_dict(saved["optimizer"])
            if average:
                average.load_state_dict(saved["average"])
        if first:
            watch.cut(scratch / "log.tsv", start)

    def save(step):
        if scratch and first:
            checkpoint.save(scratch, print_of_run, step, {
                "weights": detector.state_dict(), "optimizer": optimizer.state_dict(), "log": watch.columns(log),
                "average": average.state_dict() if average else None}, settings.keep)

    wide = [sample.size[0] > sample.size[1] for sample in samples]
    order = list(batches(wide, settings.batch, settings.seed, start, settings.steps))
    photos = iter(torch.utils.data.DataLoader(  # one pass for all steps: its workers live as long as the run
        datasets.Photos(samples), collate_fn=datasets.collate, num_workers=settings.workers, pin_memory=not on_cpu,
        worker_init_fn=ignore_signals, batch_sampler=[distributed.part(batch) for batch in order]))
    canvas = math.ceil(profile.model.max_size / 128) * 128
    pace = watch.Pace(device)
    with signals() as caught, tuned(detector, settings, canvas, device):
        network = DistributedDataParallel(detector, broadcast_buffers=False) if distributed.world() > 1 else detector
        bar = tqdm(range(start, settings.steps), "training", total=settings.steps, initial=start,
                   disable=None if first else True)
        for step in bar:
            if snapshot and first and step in moments(settings):
                snapshot(step, average.module if average else detector)
            images, targets = pace.wait(photos)
            torch.manual_seed(settings.seed * 1_000_003 + step)
            images, targets = augment(*on_device(images, targets, device), settings, profile.keypoints)
            if settings.scale < 1:  # one size a step, so that a batch needs little padding
                share = settings.scale + (1 - settings.scale) * torch.rand(1).item()
                detector.transform.min_size = (round(share * profile.model.min_size),)
            rate = learning_rate(step, settings)
            for group in optimizer.param_groups:
                group["lr"] = rate
            row = gradients(network, optimizer, images, targets, settings, len(caught))
            stop = row.pop("stop") > 0
            watch.check_finite(step, row, [samples[i] for i in order[step - start]])
            optimizer.step()
            if average:
                average.update_parameters(detector)
            log.append({"step": step + 1} | row | {"lr": rate})
            pace.step(len(order[step - start]))
            bar.set_postfix(pace.shown(row["loss"]), refresh=False)
            if scratch and first:
                watch.append(scratch / "log.tsv", log[-1] | pace.row())
            done = step + 1
            if done < settings.steps and (stop or done % settings.save_every == 0):
                save(done)
            if bar.disable and first and (done == settings.steps or pace.due()):
                print(pace.line(done, settings.steps, row["loss"]), flush=True)
            if stop and done < settings.steps:
                distributed.end()
                if first:
                    print(f"stopped after step {done}; the same command goes on from there", flush=True)
                raise SystemExit(128 + (caught or [signal.SIGTERM])[0])
    if first:
        print(pace.total(), flush=True)
    return average.module if average else detector, log


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
    device = distributed.start(given.device)
    profile = params.apply(profile, models[name])
    k = keypoint_count(profile)
    dataset = datasets.load(profile, profile.train_sets)
    # training sees boxes only, and each process and worker would hold all outlines
    dataset = replace(dataset, samples=[replace(sample, polygons=[], areas=None, crowds={})
                                        for sample in dataset.samples])
    scratch = ROOT / "scratch" / profile.name / name

    def snapshot(step, detector):
        files.write_bytes(scratch / "snapshots" / f"{step:07}.pt",
                          model.to_bytes(detector, profile, models[name], dataset, k, half=True))

    detector, log = train(profile, models[name], dataset.samples, dataset.classes, k, scratch, device, snapshot)
    if distributed.rank() == 0:
        target = profile.runs / name
        shutil.rmtree(target / "snapshots", ignore_errors=True)
        (target / "snapshots").mkdir(parents=True)
        for step in moments(profile.train):
            shutil.copy(scratch / "snapshots" / f"{step:07}.pt", target / "snapshots")
        files.write_tsv(target / "losses.tsv", log)
        files.write_bytes(target / "model.pt", model.to_bytes(detector, profile, models[name], dataset, k))
        checkpoint.clear(scratch)
        shutil.rmtree(scratch / "snapshots", ignore_errors=True)
    distributed.end()


if __name__ == "__main__":
    try:
        main()
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(f"kaod.train: {error}")
