"""What a training step costs: KAOD against FCOS, K, locations, matching; and our FCOS against torchvision's recipe.

`python benchmarks/train_step.py` takes under ten minutes, on two cores as on a GPU. It writes to results/benchmarks/
the figures (train_step-cpu.json or train_step-gpu.json), where the time of a step goes (.png, and torch's profile as
.txt), and prints the table.

All variants take turns on the same photos, step by step, so that whatever else the machine does hits all alike.
A ratio is the median over the rounds of two variants' times in the same round; `low` is the ratio of the least times,
`work` on the CPU that of the processor's seconds (of all threads), which other programs change the least.
The photos are in memory, as the workers leave them: ours as decoded bytes. `theirs` is what references/detection of
torchvision does: its workers flip the photos and make floats of them, and those go to the device one by one; SGD, and
`--amp` on a GPU. Ours are padded to multiples of 128 pixels, theirs to multiples of 32: for photos of 800 pixels that
is 896 against 800, a quarter more of them for us to work through (`pixels` in the JSON; 128 pixels are 128 for both).
"""

import argparse
import contextlib
import json
import multiprocessing
import platform
import re
import shlex
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch
import torchvision
from torch.profiler import ProfilerActivity, profile, record_function
from torchvision.models.detection import FCOS
from torchvision.models.detection.fcos import FCOSHead
from torchvision.ops import FrozenBatchNorm2d

from experiments import grid
from kaod import ROOT, losses, model, params, train
from kaod.data import coco, datasets, files, shapes
from kaod.evaluation import compare
from kaod.training import augment, schedule

FCOS_HEAD = {"model": {"head": "fcos"}}


def two_views(**changes) -> dict:
    """The paper's: labels on the first view, the keypoint loss between them."""
    return {"keypoints": {"labels": "first", "kpl": True, "fill": "reflect", "chance": 1, **changes}}


VARIANTS = {  # name: (K, what it changes in the profile)
    "kaod-16": (16, two_views()), "kaod-32": (32, two_views()), "kaod-48": (48, two_views()),
    "kpl-16": (16, two_views(hm=False)), "all-16": (16, two_views(locations="all")),
    "no-kpl-16": (16, two_views(kpl=False)), "turned-16": (16, {"keypoints": {"labels": "turned", "kpl": False}}),
    "fcos": (16, FCOS_HEAD), "fcos-two-views": (16, FCOS_HEAD), "theirs": (16, FCOS_HEAD),
}
RATIOS = {  # what: (variant, reference, bound on the CPU, bound on a GPU)
    "labels turned back, one view / FCOS": ("turned-16", "fcos", 1.05, 1.05),
    "KAOD-16 / FCOS on the same two views": ("kaod-16", "fcos-two-views", 1.10, 1.10),
    "K = 32 / K = 16": ("kaod-32", "kaod-16", 1.05, 1.05),
    "K = 48 / K = 16": ("kaod-48", "kaod-16", 1.10, 1.10),
    "all locations / foreground": ("all-16", "kaod-16", None, None),
    "matching / index to index": ("kaod-16", "kpl-16", None, None),
    "keypoint loss / none": ("kaod-16", "no-kpl-16", None, None),
    "our FCOS / torchvision's recipe": ("fcos", "theirs", 1.03, 0.75),
}
MEMORY = "KAOD-16 / FCOS on the same two views"
PARTS = {  # what a step consists of: (owner, function); the rest is in between
    "second view": (model, "warp_images"), "backbone": (model.FCOS, "backbone"), "head": (model.FCOS, "head"),
    "FCOS's targets and losses": (model.KAOD, "matched_losses"), "keypoint pairs": (model.KAOD, "pairs"),
    "keypoint loss": (losses, "keypoint_loss"), "matching": (losses, "batch_linear_assignment"),
}


def settings(device: str) -> params.Profile:
    """On the CPU the profile `shapes`; on a GPU `coco`, with weights from nowhere, as the machine may be offline."""
    found = params.load("shapes" if device == "cpu" else "coco")[0]
    drawn = params.Draw(seed=0, train=2 * found.train.batch, test=1, size=128 if device == "cpu" else 800)
    return replace(found, draw=drawn, train=replace(
        found.train, optimizer="sgd", lr=1e-5, channels_last=device != "cpu"))


def photos(chosen: params.Profile, folder: Path) -> list:
    """[(image (3, H, W) uint8, target)], two batches of them."""
    name = "annotations/instances_train.json"
    shapes.write(folder, chosen.draw, [name, "annotations/instances_test.json"])
    loaded = datasets.Photos(coco.load(folder / name, coco.photo_folder(folder, name)).samples)
    return [loaded[i] for i in range(len(loaded))]


def build(name: str, chosen: params.Profile, device: str):
    """A detector with the same first weights for all of one kind, and its optimizer."""
    k, changes = VARIANTS[name]
    chosen = params.apply(chosen, changes)
    torch.manual_seed(0)
    detector = model.build(chosen.model, chosen.keypoints, len(shapes.OUTLINES), k, fetch=False)
    for part, layer in detector.named_modules():
        if part.endswith("bn3"):  # random weights without normalisation grow with each block, and half precision ends
            layer.weight.fill_(0.2)
    if name == "theirs":
        ours = detector
        for layer in ours.backbone.modules():
            if isinstance(layer, FrozenBatchNorm2d):  # with torchvision's own, half precision ends at the first one
                layer.forward = partial(FrozenBatchNorm2d.forward, layer)
        head = FCOSHead(ours.backbone.out_channels, 1, len(shapes.OUTLINES) + 1, chosen.model.head_convs)
        detector = FCOS(ours.backbone, len(shapes.OUTLINES) + 1, min_size=chosen.model.min_size,
                        max_size=chosen.model.max_size, anchor_generator=ours.anchor_generator, head=head,
                        center_sampling_radius=ours.center_sampling_radius)
        detector.load_state_dict(ours.state_dict())
    detector = detector.to(device).train()
    if name != "theirs" and chosen.train.channels_last:
        detector = detector.to(memory_format=torch.channels_last)
    if name == "theirs":
        return detector, torch.optim.SGD(detector.parameters(), chosen.train.lr, momentum=0.9,
                                         weight_decay=chosen.train.weight_decay)
    return detector, schedule.optimizer_of(detector, chosen.train)


def turned(batch: list, keypoints: params.Keypoints) -> list:
    """The second views of a batch, with boxes, for FCOS to learn from as from the first."""
    return [((copy * 255).to(torch.uint8), target) for copy, target in (
        augment.turned_copy(image.float() / 255, target, keypoints, "ellipse") for image, target in batch)]


def ready(name: str, batch: list, chosen: params.Profile, device: str) -> tuple[list, list]:
    """A batch's images and targets as the workers leave them: to ours bytes, to torchvision's script flipped floats."""
    if name == "theirs":
        turn = torch.rand(len(batch)) < chosen.train.flip
        batch = [augment.flip(*pair) if each else pair for each, pair in zip(turn, batch)]
        batch = [(image.float() / 255, target) for image, target in batch]
    elif device != "cpu":
        batch = [(image.pin_memory(), target) for image, target in batch]
    return tuple(map(list, zip(*batch)))


def step(name: str, detector, optimizer, images: list, targets: list, chosen: params.Profile, device: str,
         scaler) -> None:
    """One step from what the workers leave to new weights."""
    if name != "theirs":
        given = augment.augment(*train.on_device(images, targets, device), chosen.train, chosen.keypoints)
        train.backward(detector(*given), optimizer, chosen.train.clip)
        optimizer.step()
        return
    images = [image.to(device) for image in images]
    targets = [{key: target[key].to(device) for key in ("boxes", "labels")} for target in targets]
    with torch.autocast("cuda", enabled=device != "cpu"):
        total = sum(detector(images, targets).values())
    total.item()
    optimizer.zero_grad()
    scaler.scale(total).backward()
    scaler.step(optimizer)
    scaler.update()


def timed(run, device: str):
    """(what `run` returns, seconds, seconds of the processor's time over all threads)."""
    if device != "cpu":
        torch.cuda.synchronize()
    began, worked = time.perf_counter(), time.process_time()
    found = run()
    if device != "cpu":
        torch.cuda.synchronize()
    return found, time.perf_counter() - began, time.process_time() - worked


@contextlib.contextmanager
def as_trained(detectors: list, settings: params.Train, device: str):
    """All detectors as `train.as_trained` makes them, at the same time."""
    with contextlib.ExitStack() as stack:
        for detector in detectors:
            stack.enter_context(train.as_trained(detector, settings, device))
        yield


def measure(chosen: params.Profile, data: list, device: str, rounds: int):
    """By variant: seconds, one a round; the processor's seconds; on a GPU bytes at the peak; pixels of a step's photos,
    padded, in all views. And how many seconds it took to warm up."""
    size = chosen.train.batch
    batches = [data[:size], data[size:]]
    both = [batch + turned(batch, chosen.keypoints) for batch in batches]
    scaler = torch.amp.GradScaler("cuda", enabled=device != "cpu")
    seconds, work = {name: [] for name in VARIANTS}, {name: [] for name in VARIANTS}
    peaks, pixels = {}, {}
    began, warm_up = time.perf_counter(), 0
    made = {name: build(name, chosen, device) for name in VARIANTS}
    for name, (detector, _) in made.items():
        detector.backbone.register_forward_pre_hook(
            lambda _, given, name=name: pixels.update({name: given[0][:, 0].numel()}))
    with as_trained([detector for name, (detector, _) in made.items() if name != "theirs"], chosen.train, device):
        for count in range(-2, rounds):  # the first two warm up
            if count == 0:
                warm_up = time.perf_counter() - began
                print(f"ready after {warm_up:.0f} s", flush=True)
            for name, pair in made.items():
                torch.manual_seed(count + 2)
                given = ready(name, (both if name == "fcos-two-views" else batches)[count % 2], chosen, device)
                if device != "cpu":
                    held = torch.cuda.memory_allocated()
                    torch.cuda.reset_peak_memory_stats()
                _, spent, worked = timed(partial(step, name, *pair, *given, chosen, device, scaler), device)
                if count >= 0:
                    seconds[name].append(spent)
                    work[name].append(worked)
                    if device != "cpu":  # its own weights are held before, but so they are for all
                        peaks[name] = max(peaks.get(name, 0), torch.cuda.max_memory_allocated() - held)
    return seconds, work, peaks, pixels, warm_up


def resident(field: str) -> int:
    """Bytes of memory that this process holds (VmRSS) or has held at most (VmHWM). (getrusage would give the
    parent's peak to a child.)"""
    return 1024 * int(re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def peak_memory(name: str, chosen: params.Profile) -> int:
    """Bytes at the peak of two CPU steps of one variant, beyond what this process holds before it builds it."""
    torch.set_num_threads(chosen.train.threads)
    with tempfile.TemporaryDirectory() as folder:
        batch = photos(chosen, Path(folder))[:chosen.train.batch]
    batch = batch + turned(batch, chosen.keypoints) if name == "fcos-two-views" else batch
    given = ready(name, batch, chosen, "cpu")
    before = resident("VmRSS")
    pair = build(name, chosen, "cpu")
    for _ in range(2):
        step(name, *pair, *given, chosen, "cpu", None)
    return resident("VmHWM") - before


def profiled(chosen: params.Profile, batch: list, device: str, target: Path) -> dict[str, float]:
    """Milliseconds of each part of the fastest of four KAOD-16 steps; torch's own table and a picture go to files."""
    detector, optimizer = build("kaod-16", chosen, device)
    took = {}

    def labelled(function, label):
        def run(*given, **named):
            with record_function(label):
                found, spent, _ = timed(lambda: function(*given, **named), device)
            took[label] = spent * 1e3
            return found
        return run

    usual = []
    for label, (owner, name) in PARTS.items():
        if owner is model.FCOS:
            part = getattr(detector, name)
            part.forward = labelled(part.forward, label)
        else:
            usual.append((owner, name, getattr(owner, name)))
            setattr(owner, name, labelled(getattr(owner, name), label))
    usual.append((torch.Tensor, "backward", torch.Tensor.backward))
    torch.Tensor.backward = labelled(torch.Tensor.backward, "backward")
    optimizer.step = labelled(optimizer.step, "optimizer")
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device != "cpu" else [])
    found, given = [], ready("kaod-16", batch, chosen, device)
    with train.as_trained(detector, chosen.train, device):
        for count in range(6):
            torch.manual_seed(count)
            with profile(activities=activities, acc_events=True) if count == 5 else contextlib.nullcontext() as kept:
                _, spent, _ = timed(
                    partial(step, "kaod-16", detector, optimizer, *given, chosen, device, None), device)
            took["keypoint loss"] -= took["matching"]  # it lies within
            found.append((spent, took | {"all else": spent * 1e3 - sum(took.values())}))
    for owner, name, function in usual:
        setattr(owner, name, function)
    took = min(found[1:5], key=lambda each: each[0])[1]  # the first one warms up, the last one is profiled
    order = "self_cpu_time_total" if device == "cpu" else "self_device_time_total"
    files.write_bytes(target.with_suffix(".txt"), kept.key_averages().table(sort_by=order, row_limit=20,
                                                                            max_name_column_width=40).encode())
    draw(took, f"Where a KAOD-16 step goes: {len(batch)} photos of {chosen.model.min_size} pixels\n"
         f"{grid.hardware(device)}", target.with_suffix(".png"))
    return took


def draw(parts: dict[str, float], title: str, path: Path) -> None:
    """Where the time of a step goes, as bars."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(list(parts), list(parts.values()), color="#4477aa")
    shares = [value / sum(parts.values()) for value in parts.values()]
    axes.bar_label(bars, [f"{value:.1f} ms, " + (f"{share:.0%}" if share >= 0.005 else "under 1%")
                          for value, share in zip(parts.values(), shares)], padding=3)
    axes.invert_yaxis()
    axes.set(title=title, xlabel="milliseconds", xlim=(0, 1.3 * max(parts.values())))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def ratio(first: list[float], second: list[float]) -> dict[str, float]:
    return {"median": statistics.median(a / b for a, b in zip(first, second)), "low": min(first) / min(second)}


def table(found: dict) -> str:
    """The ratios as Markdown."""
    lines = [f"| {found['hardware']} | ratio | of least times | of work | bound | |", "|---|---|---|---|---|---|"]
    rows = [(f"{what}, time", each) for what, each in found["ratios"].items()]
    rows += [(f"{MEMORY}, peak memory", found["memory"])]
    for what, each in rows:
        bound = "–" if each["bound"] is None else f"≤ {each['bound']:.2f}"
        verdict = "" if each["bound"] is None else "met" if each["median"] <= each["bound"] else "missed"
        low, work = (f"{each[key]:.2f}" if key in each else "–" for key in ("low", "work"))
        lines.append(f"| {what} | {each['median']:.2f} | {low} | {work} | {bound} | {verdict} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures training steps; see the top of this file.")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=21)
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error(f"--rounds: expected at least 1; got {given.rounds}")
    device = given.device
    on_cpu = device == "cpu"
    commit = compare.commit()  # before files are written
    target = ROOT / "results" / "benchmarks" / f"train_step-{'cpu' if on_cpu else 'gpu'}.json"
    chosen = settings(device)
    torch.set_num_threads(chosen.train.threads)
    with tempfile.TemporaryDirectory() as folder:
        data = photos(chosen, Path(folder))
    parts = profiled(chosen, data[:chosen.train.batch], device, target)
    seconds, work, peaks, pixels, warm_up = measure(chosen, data, device, given.rounds)
    if on_cpu:
        for name in RATIOS[MEMORY][:2]:  # each in a new process, since this one's peak is behind it
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                peaks[name] = pool.submit(peak_memory, name, chosen).result()
    first, second, bound, _ = RATIOS[MEMORY]
    found = {
        "hardware": grid.hardware(device), "load": "read ratios, not seconds",
        "commit": commit,
        "command": shlex.join(["python", "benchmarks/train_step.py", *sys.argv[1:]]),
        "versions": {"python": platform.python_version(), "torch": torch.__version__,
                     "torchvision": torchvision.__version__}, "rounds": given.rounds,
        "batch": chosen.train.batch, "size": chosen.draw.size, "model": asdict(chosen.model),
        "bf16": chosen.train.bf16 and not on_cpu, "channels_last": chosen.train.channels_last,
        "warm_up_seconds": warm_up, "pixels": pixels,
        "seconds": {name: {"median": statistics.median(each), "least": min(each)} for name, each in seconds.items()},
        "ratios": {what: ratio(seconds[a], seconds[b]) | {"bound": cpu if on_cpu else gpu}
                   | ({"work": ratio(work[a], work[b])["median"]} if on_cpu else {})
                   for what, (a, b, cpu, gpu) in RATIOS.items()},
        "peak_bytes": peaks, "memory": {"median": peaks[first] / peaks[second], "bound": bound},
        "parts_ms": parts}
    files.write_json(target, json.loads(json.dumps(found)))
    print(table(files.read_json(target)))


if __name__ == "__main__":
    main()
