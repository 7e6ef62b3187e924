from dataclasses import replace

import pytest
import readme
import torch
from conftest import built

from kaod import ROOT, params
from kaod.data import datasets, files
from kaod.training import checkpoints


@pytest.fixture
def benchmark(monkeypatch, tmp_path):
    """benchmarks/train_step.py with two photos a step and a small network, writing to a folder of its own."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")  # by name, so that its own processes find it, too
    import train_step

    usual = train_step.settings

    def small(device):
        found = usual(device)
        return replace(found, model=replace(found.model, fpn_channels=32, head_convs=1, min_size=128, max_size=128),
                       train=replace(found.train, batch=2, threads=1), draw=replace(found.draw, train=4, size=128))

    monkeypatch.setattr(train_step, "settings", small)
    monkeypatch.setattr(train_step, "ROOT", tmp_path)
    return train_step


def figures(benchmark, monkeypatch, capsys, tmp_path, device: str) -> dict:
    """What one round writes, looked at for what holds anywhere."""
    monkeypatch.setattr("sys.argv", ["train_step.py", "--device", device, "--rounds", "1"])
    benchmark.main()
    folder, name = tmp_path / "results" / "benchmarks", "train_step-cpu" if device == "cpu" else "train_step-gpu"
    found = files.read_json(folder / f"{name}.json")
    assert sorted(path.name for path in folder.iterdir()) == [f"{name}.json", f"{name}.png", f"{name}.txt"]
    assert benchmark.table(found) in capsys.readouterr().out
    assert found["commit"] and found["hardware"] and found["versions"]["torch"] == torch.__version__
    assert found["rounds"] == 1 and found["command"].endswith(f"--device {device} --rounds 1")
    assert set(found["ratios"]) == set(benchmark.RATIOS) and set(found["seconds"]) == set(benchmark.VARIANTS)
    assert all(each["median"] > 0 for each in (*found["ratios"].values(), found["memory"]))
    assert set(benchmark.PARTS) < set(found["parts_ms"])
    assert found["pixels"] == {name: 128 * 128 * (2 if name in ("fcos", "no-kpl-16", "turned-16", "theirs") else 4)
                               for name in benchmark.VARIANTS}
    return found


@pytest.mark.slow
def test_one_round_writes_all_figures(benchmark, monkeypatch, capsys, tmp_path):
    found = figures(benchmark, monkeypatch, capsys, tmp_path, "cpu")
    assert set(found["peak_bytes"]) == set(benchmark.RATIOS[benchmark.MEMORY][:2])


@pytest.mark.cuda
@pytest.mark.slow
def test_a_gpu_writes_all_figures(benchmark, monkeypatch, capsys, tmp_path):
    found = figures(benchmark, monkeypatch, capsys, tmp_path, "cuda")
    assert found["bf16"] and set(found["peak_bytes"]) == set(benchmark.VARIANTS)


def test_torchvisions_recipe_gets_floats_and_ours_bytes(benchmark, tmp_path):
    """Flipped or not, they are the same photos and as many objects."""
    chosen = benchmark.settings("cpu")
    batch = benchmark.photos(chosen, tmp_path)[:2]
    ours, _ = benchmark.ready("fcos", batch, chosen, "cpu")
    theirs, targets = benchmark.ready("theirs", batch, chosen, "cpu")
    assert all(image.dtype == torch.uint8 for image in ours)
    for (image, target), given, kept in zip(batch, theirs, targets):
        assert given.dtype == torch.float32 and given.max() <= 1 and len(kept["boxes"]) == len(target["boxes"])
        assert any(torch.equal(each, (given * 255).round().to(torch.uint8)) for each in (image, image.flip(2)))


def test_the_metrics_of_a_few_photos_are_timed(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import metrics

    for name, value in {"ROOT": tmp_path, "PHOTOS": 5, "OBJECTS": 36, "DETECTIONS": 10}.items():
        monkeypatch.setattr(metrics, name, value)
    metrics.main()
    found = files.read_json(tmp_path / "results" / "benchmarks" / "metrics.json")
    assert set(found["seconds"]) == {"coco", "voc"} and found["photos"] == 5 and found["detections"] == 10
    assert found["command"] == "python benchmarks/metrics.py" and found["hardware"] and found["commit"]


def test_the_pages_have_the_benchmarks_table(benchmark):
    found = list((ROOT / "results" / "benchmarks").glob("train_step-*.json"))
    assert found and all(benchmark.table(files.read_json(path)) == readme.table("docs/results.md", "table: step")
                         for path in found)


def test_predict_is_timed_beside_torchvision(monkeypatch, repository, drawn, tiny):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import predict

    samples, classes = drawn
    dataset = datasets.DataSet(classes, list(range(1, len(classes) + 1)), samples)
    profile = params.load()[0]
    for name in ("kaod", "fcos"):
        detector, applied = built(*tiny, name, len(classes), 8)
        files.write_bytes(profile.runs / name / "model.pt", checkpoints.to_bytes(detector, applied, dataset, 8))
    for name, value in {"ROOT": repository, "BATCH": 3, "ROUNDS": 2}.items():
        monkeypatch.setattr(predict, name, value)
    monkeypatch.setattr(predict.evaluate, "test_set", lambda profile, kind: dataset)
    predict.main()
    found = files.read_json(repository / "results" / "benchmarks" / "predict.json")
    speeds = found["photos_per_second"]
    assert found["photos"] == 8 and speeds.keys() == {"kaod", "torchvision"} and min(speeds.values()) > 0
    assert found["ratio"] > 0 and found["command"] == "python benchmarks/predict.py"
