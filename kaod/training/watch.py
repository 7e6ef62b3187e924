"""What a training shows of itself: its pace, log.tsv line by line, and the stop at a loss that is not finite."""

import math
import time

import torch

from ..data import files


class Pace:
    """The clock of a training: photos a second, and the share of the time that it waits for them."""

    def __init__(self, device: str):
        self.device = torch.device(device)
        self.began = self.last = time.monotonic()
        self.waited = self.waited_now = self.seconds_now = 0.0
        self.steps = self.photos = self.photos_now = 0
        self.said = -math.inf

    def wait(self, photos):
        """The next batch."""
        asked = time.monotonic()
        batch = next(photos)
        self.waited_now = time.monotonic() - asked
        self.waited += self.waited_now
        return batch

    def step(self, photos: int) -> None:
        """A step has ended, with so many photos on all ranks."""
        now = time.monotonic()
        self.seconds_now, self.last = now - self.last, now
        self.steps, self.photos, self.photos_now = self.steps + 1, self.photos + photos, photos

    def row(self) -> dict:
        """Of the last step: photos a second, the share of waiting for data, and the GPU memory's peak so far, MiB."""
        memory = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else 0
        return {"images_per_second": round(self.photos_now / self.seconds_now, 2),
                "data_wait": round(self.waited_now / self.seconds_now, 4), "gpu_mib": memory >> 20}

    def shown(self, loss: float) -> dict[str, str]:
        """Beside the progress bar."""
        return {"loss": f"{loss:.3f}", "waiting": f"{self.waited / (self.last - self.began):.0%}"}

    def due(self, every: float = 30) -> bool:
        """Whether it is time for a line: after the first step, then not more often than so many seconds."""
        if self.last - self.said < every:
            return False
        self.said = self.last
        return True

    def line(self, step: int, steps: int, loss: float) -> str:
        """Where there is no bar."""
        each = (self.last - self.began) / self.steps
        return (f"step {step} of {steps}: loss {loss:.3f}, {each:.2f} s a step, "
                f"{self.waited / (self.last - self.began):.0%} of it waiting for data, "
                f"{each * (steps - step) / 60:.1f} min to go")

    def total(self) -> str:
        seconds = max(self.last - self.began, 1e-9)
        return (f"{self.steps} steps in {seconds / 60:.1f} min: {self.photos / seconds:.1f} photos a second, "
                f"{self.waited / seconds:.1%} of the time waiting for data")


def check_finite(step: int, row: dict[str, float], samples: list) -> None:
    """Raises ValueError where the loss or the gradient's norm is not finite: step, loss terms, photos."""
    for key, words in (("loss", "the loss"), ("gradient_norm", "the gradient's norm")):
        if not math.isfinite(row[key]):
            terms = {name: value for name, value in row.items() if name not in ("loss", "gradient_norm")}
            names = ", ".join(sample.path.name for sample in samples)
            raise ValueError(f"step {step}: {words} is {row[key]}: {terms}; photos: {names}")


def columns(log: list[dict]) -> dict:
    """The log as a checkpoint keeps it: compact, and exact."""
    return {"keys": list(log[0]), "values": torch.tensor([list(row.values()) for row in log], dtype=torch.float64)}


def rows(saved: dict) -> list[dict]:
    """The log again."""
    return [dict(zip(saved["keys"], row)) | {"step": int(row[0])} for row in saved["values"].tolist()]


def cut(path, step: int) -> None:
    """Leaves of a table that a training wrote line by line what comes up to `step`; what follows was never saved."""
    if not path.exists():
        return
    header, *lines = path.read_text().splitlines() or [""]
    kept = [line for line in lines if line.count("\t") == header.count("\t") and int(line.split("\t")[0]) <= step]
    if kept:
        files.write_bytes(path, "\n".join([header, *kept, ""]).encode())
    else:
        path.unlink()


def append(path, row: dict) -> None:
    """Adds a line to a table, so that others read it as it grows; the header first, where there is no file yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with open(path, "a") as file:
        file.write(("\t".join(row) + "\n" if new else "") + "\t".join(map(str, row.values())) + "\n")
