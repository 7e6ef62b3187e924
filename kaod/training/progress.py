"""What a training shows of itself: a bar or lines, TensorBoard's curves, and the stop at a loss that is not finite."""

import math
import time
from pathlib import Path

import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from ..data import files
from ..data.samples import below

LINES = 30  # seconds between two of them, where there is no bar


class Progress:
    """The clock of a training on rank 0. `tensorboard --logdir scratch` draws its curves while it runs."""

    def __init__(self, start: int, steps: int, device: str, folder: Path | None = None):
        self.steps, self.device, self.name = steps, torch.device(device), folder.name if folder else "training"
        self.began = self.last = time.monotonic()
        self.waited = self.now_waited = 0.0
        self.done = self.photos = 0
        self.said = -math.inf
        self.bar = tqdm(range(start, steps), self.name, total=steps, initial=start, disable=None)
        # what a run that was killed had drawn beyond its last checkpoint is drawn anew
        self.writer = None
        if folder:
            with files.writing(folder / "tensorboard"):
                self.writer = SummaryWriter(folder / "tensorboard", purge_step=start + 1)

    def wait(self, photos):
        """The next batch."""
        asked = time.monotonic()
        batch = next(photos)
        self.now_waited = time.monotonic() - asked
        self.waited += self.now_waited
        return batch

    def step(self, row: dict, photos: int) -> None:
        """A step has ended, with so many photos on all ranks; row: its line of the log."""
        now = time.monotonic()
        seconds, self.last = max(now - self.last, 1e-9), now
        self.done, self.photos = self.done + 1, self.photos + photos
        if self.writer:
            memory = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else 0
            with files.writing(self.writer.log_dir):
                for name, value in (row | {"images_per_second": photos / seconds, "gpu_mib": memory >> 20,
                                           "data_wait": self.now_waited / seconds}).items():
                    self.writer.add_scalar(name, value, row["step"])
                self.writer.flush()
        share = self.waited / (now - self.began) if now > self.began else 0
        self.bar.set_postfix({"loss": f"{row['loss']:.3f}", "waiting": f"{share:.0%}"}, refresh=False)
        self.bar.update()
        if self.bar.disable and (row["step"] == self.steps or now - self.said >= LINES):
            self.said, each = now, (now - self.began) / self.done
            print(f"{self.name}: step {row['step']} of {self.steps}: loss {row['loss']:.3f}, {each:.2f} s a step, "
                  f"{share:.0%} of it waiting for data, {each * (self.steps - row['step']) / 60:.1f} min to go",
                  flush=True)

    def end(self) -> None:
        seconds = max(self.last - self.began, 1e-9)
        self.bar.close()
        if self.writer:
            self.writer.close()
        print(f"{self.name}: {self.done} steps in {seconds / 60:.1f} min: {self.photos / seconds:.1f} photos a second, "
              f"{self.waited / seconds:.1%} of the time waiting for data", flush=True)


class Silent:
    """The same on the other ranks, which show nothing."""

    wait, step, end = staticmethod(next), staticmethod(lambda row, photos: None), staticmethod(lambda: None)


def check_finite(step: int, row: dict[str, float], samples: list) -> None:
    """Raises ValueError where the loss or the gradient's norm is not finite: step, loss terms, photos."""
    for key, words in (("loss", "the loss"), ("gradient_norm", "the gradient's norm")):
        if not math.isfinite(row[key]):
            terms = {name: value for name, value in row.items() if name not in ("loss", "gradient_norm")}
            folder, names = below([sample.path for sample in samples])
            raise ValueError(f"step {step}: {words} is {row[key]}: {terms}; photos: {', '.join(map(str, names))} in "
                             f"{folder}")
