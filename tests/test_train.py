from dataclasses import replace

import pytest
import torch
from PIL import Image

from kaod import datasets, files, train


@pytest.fixture
def run(tiny, drawn, repository):
    """Trains on eight photos; keywords change the settings."""
    profile, models = tiny
    files.write_json(profile.folder / "manifest.json", {})
    for name in train.CODE:
        files.write_bytes(repository / "kaod" / f"{name}.py", b"")

    def go(checkpoint=None, model="kaod", **changes):
        changed = replace(profile, train=replace(profile.train, **changes))
        return train.train(changed, models[model], *drawn, 8, checkpoint)

    return go


def same(first, second) -> bool:
    return all(torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items())


def test_each_epoch_shows_every_photo_once():
    shown = list(train.batches(10, 5, seed=0, start=0, steps=6))
    epochs = [sorted(shown[i] + shown[i + 1]) for i in (0, 2, 4)]
    assert epochs == [list(range(10))] * 3 and shown[:2] != shown[2:4]
    assert list(train.batches(10, 5, seed=0, start=3, steps=6)) == shown[3:]
    assert [len(each) for each in train.batches(3, 16, 0, 0, 2)] == [3, 3]


def test_the_rate_warms_up_and_ends_near_zero(tiny):
    settings = replace(tiny[0].train, steps=100, warmup=10, lr=1.0)
    rates = [train.learning_rate(step, settings) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == 1 and rates[-1] < 0.01
    assert rates[:10] == sorted(rates[:10]) and rates[10:] == sorted(rates[10:], reverse=True)


def test_flipping_twice_changes_nothing(drawn):
    image, target = datasets.Photos(drawn[0])[0]
    flipped, moved = train.flip(image, target)
    assert (moved["boxes"][:, 2:] > moved["boxes"][:, :2]).all() and not torch.equal(flipped, image)
    again, back = train.flip(flipped, moved)
    assert torch.equal(again, image) and torch.allclose(back["boxes"], target["boxes"], atol=1e-4)


def test_a_turned_copy_has_the_boxes_of_its_objects(tiny):
    """A bright disc: the ellipse's box fits its turned self, the corners' box is too large."""
    keypoints = replace(tiny[0].keypoints, angle=40.0, shift=0.05)
    ys, xs = torch.meshgrid(torch.arange(100) + 0.5, torch.arange(140) + 0.5, indexing="ij")
    image = 0.2 + 0.6 * ((((xs - 60) / 30) ** 2 + ((ys - 50) / 12) ** 2) < 1).float().expand(3, -1, -1)
    target = {"boxes": torch.tensor([[30.0, 38, 90, 62]]), "labels": torch.tensor([1])}
    for seed in range(5):
        torch.manual_seed(seed)
        copy, moved = train.turned_copy(image, target, keypoints, "ellipse")
        rows, columns = (copy[0] > 0.5).nonzero(as_tuple=True)
        seen = torch.stack((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)).float()
        assert (moved["boxes"][0] - seen).abs().max() < 1.5 and copy.shape == image.shape
        torch.manual_seed(seed)
        _, loose = train.turned_copy(image, target, keypoints, "corners")
        assert (loose["boxes"][0, :2] <= moved["boxes"][0, :2] + 1e-4).all()
        assert (loose["boxes"][0, 2:] >= moved["boxes"][0, 2:] - 1e-4).all()
    away = {"boxes": torch.tensor([[-50.0, 0, 4, 10]]), "labels": torch.tensor([1])}
    assert len(train.turned_copy(image, away, keypoints, "corners")[1]["boxes"]) == 0


@pytest.mark.parametrize("model", ["fcos", "kaod"])
def test_the_same_run_gives_the_same_bits(run, model):
    first, log = run(model=model)
    second, again = run(model=model)
    assert same(first, second) and log == again and [row["step"] for row in log] == [1, 2, 3, 4, 5, 6]
    assert not same(first, run(model=model, seed=1)[0])


def test_turned_copies_train(run):
    log = run(model="fcos", rotate=0.5)[1]
    assert log != run(model="fcos")[1] and log == run(model="fcos", rotate=0.5)[1]


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_an_interrupted_run_ends_as_a_whole_one(run, tmp_path, monkeypatch, stop):
    whole, log = run()
    checkpoint = tmp_path / "checkpoint.pt"
    calls = []

    class Killed(BaseException):
        pass

    def rate(step, settings):
        if step == stop and not calls:
            calls.append(step)
            raise Killed
        return original(step, settings)

    original = train.learning_rate
    monkeypatch.setattr(train, "learning_rate", rate)
    with pytest.raises(Killed):
        run(checkpoint)
    assert checkpoint.exists() == (stop > 2)  # saved every two steps
    resumed, again = run(checkpoint)
    assert same(whole, resumed) and log == again


def test_a_checkpoint_of_other_settings_is_moved_aside(run, tmp_path, capsys):
    checkpoint = tmp_path / "checkpoint.pt"
    run(checkpoint)
    assert checkpoint.exists()
    changed, _ = run(checkpoint, lr=0.002)
    assert "other settings" in capsys.readouterr().out and checkpoint.with_suffix(".old").exists()
    assert same(changed, run(lr=0.002)[0])
    checkpoint.write_bytes(b"half a checkpoint")
    assert same(changed, run(checkpoint, lr=0.002)[0])


def test_a_loss_that_is_not_finite_names_step_and_photos(run, drawn, monkeypatch):
    def infinite(self, *_, **__):
        return {"classification": torch.tensor(float("nan"), requires_grad=True)}

    monkeypatch.setattr(train.model.KAOD, "forward", infinite)
    with pytest.raises(ValueError, match=r"step 0: the loss is nan: \{'classification': nan\}; photos: 0000"):
        run()


def test_a_broken_photo_stops_with_its_name(run, drawn):
    drawn[0][0].path.write_bytes(b"no photo")
    with pytest.raises(ValueError, match=drawn[0][0].path.name):
        run()
    Image.new("RGB", (9, 9)).save(drawn[0][0].path)
    with pytest.raises(ValueError, match="9×9 pixels"):
        run()


def test_written_files_are_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "file.json"
    files.write_json(path, {"a": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_json(path, {"a": 2})
    assert files.read_json(path) == {"a": 1} and [each.name for each in path.parent.iterdir()] == ["file.json"]
