"""Which photos a step sees, at what rate it learns, and when weights are kept to look at."""

import math

import torch

from .. import params


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


def optimizer_of(detector, settings: params.Train) -> torch.optim.Optimizer:
    """AdamW, or SGD with momentum; fused, in one kernel for all weights, which torch would not choose on a CPU."""
    weights = [weight for weight in detector.parameters() if weight.requires_grad]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(weights, settings.lr, weight_decay=settings.weight_decay, fused=True)
    return torch.optim.SGD(weights, settings.lr, momentum=0.9, weight_decay=settings.weight_decay, fused=True)
