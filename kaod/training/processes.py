"""Training and evaluation by several processes, one for each GPU: which part of a batch is this one's, and what all
have together. torchrun starts them; without it there is one, and everything here leaves its input as it is.
"""

import os
from types import SimpleNamespace

import torch
import torch.distributed as dist
from torch import Tensor


def start(device: str) -> str:
    """Joins the processes that torchrun started, by NCCL on GPUs and gloo on CPUs. Returns this one's device."""
    if not dist.is_torchelastic_launched():
        return device
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    dist.init_process_group("gloo" if device == "cpu" else "nccl")
    return device


def end() -> None:
    """Leaves the other processes, once all are here: torchrun ends them all when one of them fails, and the first
    one may still be writing."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def world() -> int:
    """The number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process' number; 0 is the one that writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def part(whole):
    """This rank's equal share of a batch: a list or a tensor whose length is a multiple of the number of ranks."""
    count = len(whole) // world()
    return whole[rank() * count:(rank() + 1) * count]


def rand(count: int, *shape: int) -> Tensor:
    """torch.rand(count, *shape) for this rank's `count` photos of a batch.

    Every rank draws for the whole batch from the same state of the generator and takes its part, so that a photo
    gets the same numbers however many ranks there are.
    """
    return part(torch.rand(count * world(), *shape))


def draw_for_others(transform, photos: tuple, result) -> None:
    """Keeps all ranks' generators alike: torchvision's transform draws a number for each photo of its rank alone."""
    if transform.training:
        torch.rand(len(photos[0]) * (world() - 1))


def share(count: Tensor) -> Tensor | int:
    """What a mean over this rank's `count` values is multiplied by so that the mean over the ranks, which
    DistributedDataParallel takes of the gradients, is the mean over the values of all ranks.

    FCOS divides its losses by the number of foreground locations: its own, not that of all ranks.
    """
    return count.clamp(min=1) / mean(count).clamp(min=1 / world()) if dist.is_initialized() else 1


def attach(detector) -> None:
    """Makes the losses of a detector those of all processes together: see `model.ALONE`."""
    for each in detector.modules():
        if hasattr(each, "processes"):
            each.processes = SimpleNamespace(world=world, share=share, rand=rand)
    if world() > 1 and hasattr(detector, "transform"):
        detector.transform.register_forward_hook(draw_for_others)


def mean(values: Tensor) -> Tensor:
    """The mean over the ranks."""
    if not dist.is_initialized():
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total / world()


def gathered(values: list) -> list:
    """All ranks' values, of a list that was dealt out as values[rank()::world()], in its order; on every rank."""
    if not dist.is_initialized():
        return values
    parts = [None] * world()
    dist.all_gather_object(parts, values)
    return [parts[number % world()][number // world()] for number in range(sum(map(len, parts)))]


def from_first(value):
    """Rank 0's value, on every rank."""
    values = [value]
    if dist.is_initialized():
        dist.broadcast_object_list(values)
    return values[0]
