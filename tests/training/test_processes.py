"""Training as a user starts it: killed and started again, and by two processes."""

import copy
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas
import psutil
import pytest
import torch
import yaml
from conftest import built
from tensorboard.backend.event_processing import event_file_loader

from kaod import ROOT, params, train
from kaod.data import datasets, files, shapes
from kaod.training import checkpoints, processes

WHOLE = ("-m", "kaod.train")
TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "kaod.train")


def rows(table: bytes) -> list[dict]:
    """Those of a table with one header line, as training writes its losses."""
    return pandas.read_csv(io.BytesIO(table), sep="\t").to_dict("records")


class Repository:
    """A copy of the code with eight drawn photos and small settings, whose commands are processes of their own."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.settings = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"profile": "tiny"}
        self.settings["tiny"]["draw"] |= {"train": 8, "test": 6}
        self.set()

    def fill(self):
        for path in (ROOT / "kaod").rglob("*.py"):
            files.write_bytes(self.folder / path.relative_to(ROOT), path.read_bytes())
        self("-m", "kaod.data.download")
        files.write_json(self.folder / "runs" / "tiny" / "k.json", {"k": 8})

    def set(self, **changes):
        """Small layers, and these settings, in the profile `tiny` of params.yaml."""
        settings = copy.deepcopy(self.settings)
        for key, value in {"fpn_channels": 32, "head_convs": 1, "threads": 1, **changes}.items():
            section = next(each for each in settings["tiny"].values() if isinstance(each, dict) and key in each)
            section[key] = value
        files.write_bytes(self.folder / "params.yaml", yaml.safe_dump(settings).encode())

    def start(self, *command) -> subprocess.Popen:
        environment = {**os.environ, "PYTHONPATH": str(self.folder), "OMP_NUM_THREADS": "1",
                       "CUDA_VISIBLE_DEVICES": ""}
        self.started = time.time()
        return subprocess.Popen([sys.executable, *command], cwd=self.folder, env=environment, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def __call__(self, *command) -> str:
        process = self.start(*command)
        said = process.communicate(timeout=120)[0]
        assert process.returncode == 0, said
        return said

    def here(self, monkeypatch, model: str) -> tuple[bytes, bytes]:
        """What training makes in this process, which has torch at hand."""
        for module in ("params", "train", "training.checkpoints"):
            monkeypatch.setattr(f"kaod.{module}.ROOT", self.folder)
        monkeypatch.setattr("sys.argv", ["train", model, "--device", "cpu"])
        train.main()
        return self.made(model)

    def wait(self, process: subprocess.Popen, step: int, model: str = "kaod"):
        """Until this training, and not an earlier one, has drawn the curves of so many steps."""
        folder = self.folder / "scratch" / "tiny" / model / "tensorboard"
        for _ in range(1200):
            mine = [path for path in folder.glob("*") if path.stat().st_mtime > self.started]
            if mine and max((event.step for path in mine for event in event_file_loader.EventFileLoader(
                    str(path)).Load()), default=0) >= step:
                return
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.1)
        raise AssertionError(f"no step {step} within two minutes")

    def made(self, model: str = "kaod") -> tuple[bytes, bytes]:
        """Weights and losses, and away with them."""
        folder = self.folder / "runs" / "tiny" / model
        found = tuple((folder / name).read_bytes() for name in ("model.pt", "losses.tsv",
                                                                *map(str, sorted(folder.glob("snapshots/*.pt")))))
        shutil.rmtree(folder)
        return found


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("filled")
    Repository(folder).fill()
    return folder


@pytest.fixture
def repository(filled, tmp_path):
    shutil.copytree(filled, tmp_path / "repository")
    return Repository(tmp_path / "repository")


def weights(content: bytes, tmp_path) -> dict[str, torch.Tensor]:
    files.write_bytes(tmp_path / "model.pt", content)
    return torch.load(tmp_path / "model.pt", weights_only=True)["weights"]


def test_a_run_killed_and_ended_ends_as_one_that_was_not(repository):
    """SIGKILL after step 3 and SIGTERM after step 5, when it goes on from step 2: the same bytes in the end."""
    repository.set(steps=12, save_every=2, workers=1, snapshots=3)
    repository(*WHOLE, "kaod")
    whole = repository.made()
    for step, number in ((3, signal.SIGKILL), (5, signal.SIGTERM)):
        process = repository.start(*WHOLE, "kaod")
        repository.wait(process, step)
        process.send_signal(number)
        said = process.communicate(timeout=60)[0]
        assert process.returncode == (-9 if number == signal.SIGKILL else 128 + number), said
    assert "stopped after step" in said and not (repository.folder / "runs" / "tiny" / "kaod").exists()
    said = repository(*WHOLE, "kaod")
    assert "going on from step" in said and repository.made() == whole
    scratch = repository.folder / "scratch" / "tiny" / "kaod"
    assert [path.name for path in scratch.iterdir()] == ["tensorboard"]


@pytest.mark.parametrize("model, changes", [pytest.param("fcos", {"rotate": 0.5}, marks=pytest.mark.slow),
                                            ("kaod", {"labels": "both", "kpl": True, "chance": 0.5, "reduction": "sum",
                                                      "beta": 0.01, "separation": 0.1, "box_loss": "iou"})])
def test_two_processes_learn_what_one_does(repository, tmp_path, monkeypatch, model, changes):
    """The same losses and weights, to rounding, though the ranks' photos have unlike numbers of objects."""
    repository.set(optimizer="sgd", lr=0.003, steps=3, **changes)
    one, log, *_ = repository.here(monkeypatch, model)
    repository(*TWO, model)
    two, log_of_two, *_ = repository.made(model)
    for row, found in zip(rows(log), rows(log_of_two), strict=True):
        # rounding moves some values across a ReLU's or a pooling's edge, where slopes jump: losses do not feel it
        assert found.pop("gradient_norm") == pytest.approx(row.pop("gradient_norm"), rel=1e-3)
        assert found == pytest.approx(row, rel=1e-4, abs=1e-6)
    expected = weights(one, tmp_path)
    for name, value in weights(two, tmp_path).items():
        assert torch.allclose(value, expected[name], rtol=1e-3, atol=1e-5), name


def test_two_processes_evaluate_as_one(repository):
    repository.set(score_thresh=0)
    detector, profile = built(*params.load("tiny"), "kaod", len(shapes.OUTLINES), 8)
    dataset = datasets.DataSet(list(shapes.OUTLINES), list(range(1, len(shapes.OUTLINES) + 1)), [])
    files.write_bytes(repository.folder / "runs" / "tiny" / "kaod" / "model.pt",
                      checkpoints.to_bytes(detector, profile, dataset, 8))
    found = []
    for command in (("-m", "kaod.evaluation.evaluate"), (*TWO[:-1], "kaod.evaluation.evaluate")):
        assert repository(*command, "kaod").count("kaod -st: AP50") == 1
        found.append([files.read_json(repository.folder / path) for path in
                      ("runs/tiny/kaod/detections/st.json", "results/tiny/metrics/kaod.json")])
    (rows, one), (again, two) = found
    assert rows == again and 400 < len(rows) <= 600 and one == two  # without background


def test_two_processes_stop_together_and_go_on_as_one(repository, tmp_path, monkeypatch):
    repository.set(optimizer="sgd", lr=0.003, steps=6, save_every=100, snapshots=0)
    one, _, *snapshots = repository.here(monkeypatch, "kaod")
    expected = weights(one, tmp_path)
    assert not snapshots
    process = repository.start(*TWO, "kaod")
    repository.wait(process, 2)
    for each in (psutil.Process(process.pid), *psutil.Process(process.pid).children()):
        each.send_signal(signal.SIGTERM)  # to all, as a cluster does; torchrun sends it to the others once more
    said = process.communicate(timeout=120)[0]
    assert process.returncode != 0 and said.count("stopped after step") == 1, said
    said = repository(*WHOLE, "kaod")
    assert "going on from step" in said
    for name, value in weights(repository.made()[0], tmp_path).items():
        assert torch.allclose(value, expected[name], rtol=1e-3, atol=1e-5), name


def test_alone_nothing_is_shared():
    torch.manual_seed(0)
    expected = torch.rand(4, 3)
    torch.manual_seed(0)
    assert torch.equal(processes.rand(4, 3), expected) and processes.part([1, 2, 3]) == [1, 2, 3]
    assert processes.share(torch.tensor(3)) == 1 and processes.world() == 1 and processes.rank() == 0
    assert processes.mean(expected) is expected and processes.from_first(expected) is expected


def test_shares_make_the_mean_over_ranks_the_mean_over_all(monkeypatch):
    """Of 3 values here and 5 there, the ranks' means weighted by their shares average to the mean of the 8."""
    values = torch.rand(3), torch.rand(5)
    monkeypatch.setattr(processes.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(processes.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(processes.dist, "all_reduce", lambda total: total.fill_(8))
    shares = [processes.share(torch.tensor(len(each))) for each in values]
    mean = sum(share * each.mean() for share, each in zip(shares, values)) / 2
    assert mean == pytest.approx(torch.cat(values).mean().item())
    monkeypatch.setattr(processes.dist, "all_reduce", lambda total: total.fill_(0))
    assert torch.isfinite(processes.share(torch.tensor(0)))


@pytest.mark.cuda
def test_a_gpu_trains_in_bf16_and_to_the_cpus_losses(repository, tmp_path):
    repository(*WHOLE, "kaod")
    expected = rows(repository.made()[1])
    for fast in (False, True):
        repository.set(bf16=fast, channels_last=fast)
        process = subprocess.run([sys.executable, *WHOLE, "kaod"], cwd=repository.folder, text=True,
                                 env={**os.environ, "PYTHONPATH": str(repository.folder),
                                      "NVIDIA_TF32_OVERRIDE": "0"}, capture_output=True)
        assert process.returncode == 0, process.stdout + process.stderr
        found = rows(repository.made()[1])
        assert found[0]["loss"] == pytest.approx(expected[0]["loss"], rel=0.03 if fast else 1e-3)
