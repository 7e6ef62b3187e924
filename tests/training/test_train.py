import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import shapely
import torch
import yaml
from conftest import built, sample
from PIL import Image
from shapely import affinity
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kaod import ROOT, geometry, model, params, train
from kaod.data import datasets, files
from kaod.training import augment, checkpoints, processes, progress, schedule


@pytest.fixture
def run(tiny, drawn, repository):
    """Trains on eight photos, two a step; keywords change the settings. (detector, log)."""
    profile, models = tiny
    profile = replace(profile, model=replace(profile.model, fpn_channels=32, head_convs=1),
                      train=replace(profile.train, batch=2))
    files.write_json(profile.folder / "manifest.json", {})

    def go(scratch=None, name="kaod", **changes):
        changed = params.apply(replace(profile, train=replace(profile.train, **changes)), models[name])
        torch.manual_seed(changed.train.seed)
        detector = model.build(changed.model, changed.keypoints, len(drawn[1]), 8)
        resumed = checkpoints.Run(scratch, checkpoints.fingerprint(changed, 8)) if scratch else None
        return detector, train.train(detector, changed, drawn[0], run=resumed)

    return go


WHOLE = {}


def whole(run, name: str = "kaod"):
    """A run of the usual settings that nothing interrupts, as it is compared with others: trained once for them all."""
    if name not in WHOLE:
        WHOLE[name] = run(name=name)
    return WHOLE[name]


def saved(scratch) -> list[str]:
    return [path.name for path in checkpoints.Run(scratch, "").steps()]


def drawn_curves(scratch) -> dict[str, list]:
    """TensorBoard's curves: {name: its events}."""
    events = EventAccumulator(str(scratch / "tensorboard"))
    events.Reload()
    return {name: events.Scalars(name) for name in events.Tags()["scalars"]}


def same(first, second) -> bool:
    return all(torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items())


def test_each_epoch_shows_every_photo_once():
    shown = list(schedule.batches([True] * 10, 5, seed=0, start=0, steps=6))
    epochs = [sorted(shown[i] + shown[i + 1]) for i in (0, 2, 4)]
    assert epochs == [list(range(10))] * 3 and shown[:2] != shown[2:4]
    assert list(schedule.batches([True] * 10, 5, seed=0, start=3, steps=6)) == shown[3:]
    assert [len(each) for each in schedule.batches([True] * 3, 16, 0, 0, 2)] == [3, 3]


def test_a_batch_is_of_wide_or_of_high_photos():
    """But the last one of an epoch; as many batches as if they were mixed, and no photo twice."""
    wide = [number % 3 > 0 for number in range(31)]
    shown = list(schedule.batches(wide, 4, seed=0, start=0, steps=14))
    for epoch in (shown[:7], shown[7:]):
        assert len(set(sum(epoch, []))) == 28 and all(len(each) == 4 for each in epoch)
        assert all(len({wide[number] for number in each}) == 1 for each in epoch[:6])
    assert len({wide[batch[0]] for batch in shown[:3]}) == 2  # in no order


def test_the_rate_warms_up_and_ends_near_zero(tiny):
    settings = replace(tiny[0].train, steps=100, warmup=10, lr=1.0)
    rates = [schedule.learning_rate(step, settings) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == 1 and rates[-1] < 0.01
    assert rates[:10] == sorted(rates[:10]) and rates[10:] == sorted(rates[10:], reverse=True)


def test_flipping_twice_changes_nothing(drawn):
    image, target = datasets.Photos(drawn[0])[0]
    flipped, moved = augment.flip(image, target)
    assert (moved["boxes"][:, 2:] > moved["boxes"][:, :2]).all() and not torch.equal(flipped, image)
    again, back = augment.flip(flipped, moved)
    assert torch.equal(again, image) and torch.allclose(back["boxes"], target["boxes"], atol=1e-4)


def test_a_flipped_box_is_where_its_pixels_went():
    image, target = torch.zeros(3, 20, 50), {"boxes": torch.tensor([[4.0, 3, 15, 9]])}
    image[:, 3:9, 4:15] = 1
    flipped, moved = augment.flip(image, target)
    x1, y1, x2, y2 = moved["boxes"][0].int()
    assert flipped[:, y1:y2, x1:x2].min() == 1 and flipped.sum() == image.sum() == 3 * (x2 - x1) * (y2 - y1)


@pytest.mark.parametrize("chance", [0.0, 0.3, 1.0])
def test_as_many_photos_are_flipped_as_the_setting_says(tiny, chance):
    image = torch.eye(3)[:, None]
    flipped, _ = augment.augment([image] * 500, [{"boxes": torch.zeros(0, 4)}] * 500,
                                 replace(tiny[0].train, flip=chance), tiny[0].keypoints)
    assert sum(not torch.equal(each, image) for each in flipped) / 500 == pytest.approx(chance, abs=0.08)


def test_a_turned_copy_is_shifted_keeps_what_is_a_quarter_inside_and_is_filled_with_the_photos_colour(tiny):
    keypoints, image = replace(tiny[0].keypoints, angle=0.0, shift=0.3), torch.rand(3, 60, 80)
    torch.manual_seed(0)
    dx, dy = geometry.random_rigid(torch.tensor([[80.0, 60]]), 0.0, 0.3)[0, :, 2].tolist()
    left, top = -dx, -dy  # the frame of the copy, on the photo
    boxes = torch.tensor([[left + 10 * share - 10, top + 20, left + 10 * share, top + 30] for share in (0.2, 0.3, 2)])
    torch.manual_seed(0)
    copy, moved = augment.turned_copy(image, {"boxes": boxes, "labels": torch.tensor([1, 2, 3])}, keypoints, "ellipse")
    assert moved["labels"].tolist() == [2, 3] and moved["boxes"].tolist() == [
        pytest.approx(box, abs=1e-3) for box in ([0, 20, 3, 30], [10, 20, 20, 30])]
    outside = copy[:, 0 if dy > 0 else -1, :]
    assert abs(dy) > 1 and torch.allclose(outside, image.mean((1, 2))[:, None].expand(3, 80))


def test_a_turned_copy_has_the_boxes_of_its_objects(tiny):
    """A bright disc: the ellipse's box fits its turned self, the corners' box is too large."""
    keypoints = replace(tiny[0].keypoints, angle=40.0, shift=0.05)
    ys, xs = torch.meshgrid(torch.arange(100) + 0.5, torch.arange(140) + 0.5, indexing="ij")
    image = 0.2 + 0.6 * ((((xs - 60) / 30) ** 2 + ((ys - 50) / 12) ** 2) < 1).float().expand(3, -1, -1)
    target, apart = {"boxes": torch.tensor([[30.0, 38, 90, 62]]), "labels": torch.tensor([1])}, []
    for seed in range(5):
        torch.manual_seed(seed)
        copy, moved = augment.turned_copy(image, target, keypoints, "ellipse")
        rows, columns = (copy[0] > 0.5).nonzero(as_tuple=True)
        seen = torch.stack((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)).float()
        assert (moved["boxes"][0] - seen).abs().max() < 1.5 and copy.shape == image.shape
        torch.manual_seed(seed)
        _, loose = augment.turned_copy(image, target, keypoints, "corners")
        assert (loose["boxes"][0, :2] <= moved["boxes"][0, :2] + 1e-4).all()
        assert (loose["boxes"][0, 2:] >= moved["boxes"][0, 2:] - 1e-4).all()
        apart.append((loose["boxes"] - moved["boxes"]).abs().max().item())
    assert max(apart) > 4
    away = {"boxes": torch.tensor([[-50.0, 0, 4, 10]]), "labels": torch.tensor([1])}
    assert len(augment.turned_copy(image, away, keypoints, "corners")[1]["boxes"]) == 0


def test_outlines_tell_the_boxes_of_turned_copies(tiny, drawn):
    """After a flip and a turn, the box is that of the outline turned by shapely, and no other way gives it."""
    keypoints = replace(tiny[0].keypoints, angle=40.0, shift=0.0)
    image, target = datasets.Photos(drawn[0], outlines=True)[0]
    outlines = [shapely.Polygon(np.concatenate(parts)) for parts in drawn[0][0].polygons]
    torch.manual_seed(3)
    _, moved = augment.turned_copy(*augment.flip(image / 255, target), keypoints, "outline")
    torch.manual_seed(3)
    T = geometry.random_rigid(torch.tensor([[128.0, 128.0]]), 40.0, 0.0)[0].tolist()
    for outline, box in zip(outlines, moved["boxes"].tolist(), strict=True):  # all are in view
        mirrored = affinity.affine_transform(outline, [-1, 0, 0, 1, 128, 0])
        turned = affinity.affine_transform(mirrored, [*T[0][:2], *T[1][:2], T[0][2], T[1][2]])
        assert box == pytest.approx(np.clip(turned.bounds, 0, 128), abs=1e-3)
    with pytest.raises(ValueError, match="000000.jpg: expected an outline"):
        datasets.Photos([replace(drawn[0][0], polygons=[[] for _ in outlines])], outlines=True)[0]


@pytest.mark.parametrize("name", ["fcos", "kaod", "kaod-paper"])
def test_the_same_run_gives_the_same_bits(run, name):
    first, log = whole(run, name)
    second, again = run(name=name)
    assert same(first, second) and log == again and [row["step"] for row in log] == [1, 2, 3, 4, 5, 6]
    assert not same(first, run(name=name, seed=1)[0])


def test_turned_copies_train(run):
    log = run(name="fcos", rotate=0.5, steps=2)[1]
    assert log != run(name="fcos", steps=2)[1] and log == run(name="fcos", rotate=0.5, steps=2)[1]


@pytest.mark.parametrize("name, stop", [("kaod", 1), ("kaod-paper", 3), ("kaod", 5)])
def test_an_interrupted_run_ends_as_a_whole_one(run, tmp_path, monkeypatch, name, stop):
    uninterrupted, log = whole(run, name)
    scratch = tmp_path / "scratch"
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
        run(scratch, name)
    assert len(saved(scratch)) == stop // 2  # saved every two steps
    resumed, again = run(scratch, name)
    assert same(uninterrupted, resumed) and log == again
    curves = drawn_curves(scratch)  # each step once, though the first run may have drawn more than it saved
    assert curves.keys() == log[0].keys() | {"images_per_second", "data_wait", "gpu_mib"}
    for name, events in curves.items():
        assert [event.step for event in events] == [row["step"] for row in log]
        if name in log[0]:
            assert [event.value for event in events] == pytest.approx([row[name] for row in log])
    assert all(event.value > 0 for event in curves["images_per_second"])
    assert all(0 <= event.value <= 1 for event in curves["data_wait"])


def test_a_checkpoint_of_other_settings_is_moved_aside(run, tmp_path, capsys):
    scratch = tmp_path / "scratch"
    run(scratch)
    assert saved(scratch) == ["step-0000004.pt", "step-0000002.pt"]
    changed, _ = run(scratch, lr=0.002)
    assert "other settings" in capsys.readouterr().out and saved(tmp_path / "scratch.old-1")
    assert same(changed, run(lr=0.002)[0])
    newest = scratch / saved(scratch)[0]
    newest.write_bytes(newest.read_bytes()[:1000])
    assert same(changed, run(scratch, lr=0.002)[0])
    said = capsys.readouterr().out
    assert "step-0000004.pt is broken" in said and "going on from step 2 " in said
    assert newest.with_suffix(".broken").exists()
    run(scratch)
    assert "moved aside to scratch.old-2" in capsys.readouterr().out and saved(tmp_path / "scratch.old-1")


def test_a_run_goes_on_with_other_workers_and_saved_as_often_as_one_likes(run, tmp_path, capsys):
    run(tmp_path / "scratch")
    resumed, _ = run(tmp_path / "scratch", workers=1, save_every=5)
    assert "going on from step 4 " in capsys.readouterr().out and same(whole(run)[0], resumed)


def test_a_weight_that_is_not_a_number_is_named_by_the_losses_it_spoils(run, monkeypatch):
    """The matching must not stop at it first: it knows neither the step nor the photos."""
    original = model.build

    def poisoned(*given, **named):
        detector = original(*given, **named)
        detector.head.regression_head.bbox_reg.bias.data[0] = float("nan")
        return detector

    monkeypatch.setattr(model, "build", poisoned)
    with pytest.raises(ValueError, match=r"step \d+: the loss is nan: .*'keypoints': nan.*photos: .*jpg"):
        run(name="kaod-paper")


def test_a_loss_that_is_not_finite_names_step_and_photos(run, drawn, monkeypatch):
    def infinite(self, *_, **__):
        return {"classification": torch.tensor(float("nan"), requires_grad=True)}

    monkeypatch.setattr(model.KAOD, "forward", infinite)
    with pytest.raises(ValueError, match=r"step 0: the loss is nan: \{'classification': nan\}; photos: 0000"):
        run()


def test_a_batch_that_cannot_be_shared_out_is_named(run, monkeypatch):
    monkeypatch.setattr(processes, "world", lambda: 2)
    with pytest.raises(ValueError, match="train.batch: expected a multiple of the 2 processes; got 5"):
        run(batch=5)


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


def test_published_schedules():
    coco = params.load("coco")[0].train
    assert (coco.optimizer, coco.lr, coco.batch, coco.steps, coco.weight_decay) == ("sgd", 0.01, 16, 90000, 1e-4)
    rates = [schedule.learning_rate(step, coco) for step in (0, 499, 500, 59999, 60000, 79999, 80000, 89999)]
    assert rates == pytest.approx([0.01 / 3] * 2 + [0.01] * 2 + [0.001] * 2 + [0.0001] * 2, rel=1e-3)
    voc = params.load("voc")[0].train
    assert (voc.lr, voc.batch) == (0.01, 16) and 29 < voc.steps * voc.batch / 16551 < 31  # 30 epochs of 07+12


def test_the_pipeline_knows_all_code_that_training_imports():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    grid = yaml.safe_load((ROOT / "experiments" / "dvc.yaml").read_text())["stages"]
    code = {f"kaod/{name}" for name in checkpoints.CODE}
    assert {each for each in stages["train"]["do"]["deps"] if each.startswith("kaod/")} == code
    assert {each for each in grid["cell"]["do"]["deps"] if each.startswith("kaod/")} == code | {"kaod/evaluation"}
    published = yaml.safe_load((ROOT / "experiments" / "tables" / "dvc.yaml").read_text())["stages"]
    for name in ("run1", "run2"):
        deps = published[name]["do"]["deps"]
        assert {each for each in deps if each.startswith("kaod/")} == code | {"kaod/evaluation"}
    assert stages["train"]["do"]["cmd"] == "${launcher} kaod.train ${key}"
    listed = subprocess.run([sys.executable, "-c", "import sys, kaod.train; print(*sys.modules)"], cwd=ROOT, check=True,
                            capture_output=True, text=True).stdout.split()
    imported = {name.split(".")[1] for name in listed if name.startswith("kaod.")}
    assert imported == {name.removesuffix(".py") for name in checkpoints.CODE}


def test_a_checkpoint_is_of_the_code_that_made_it(repository, tiny):
    files.write_json(tiny[0].folder / "manifest.json", {})
    prints = [checkpoints.fingerprint(tiny[0], 8)]
    for path in ("kaod/losses.py", "kaod/data/coco.py", "kaod/training/augment.py"):
        files.write_bytes(repository / path, b"")
        prints.append(checkpoints.fingerprint(tiny[0], 8))
    files.write_bytes(repository / "kaod" / "figures" / "photos.py", b"")
    assert len(set(prints)) == 4 and checkpoints.fingerprint(tiny[0], 8) == prints[-1]


def test_clipping_and_its_absence(run):
    free, clipped, wide = (run(clip=clip, steps=2)[1] for clip in (0.0, 0.01, 1e6))
    assert free == wide and free[0]["gradient_norm"] > 1
    assert clipped[0] == free[0] and clipped[1] != free[1]  # the norm that is logged is that before clipping


def test_sgd_trains(run):
    log = run(optimizer="sgd", lr=0.02, steps=12, batch=4, warmup=2, warmup_factor=0.5, decay=[10])[1]
    assert [row["lr"] for row in log] == pytest.approx([0.01] * 2 + [0.02] * 8 + [0.002] * 2)
    assert sum(row["loss"] for row in log[-3:]) < sum(row["loss"] for row in log[:3])


def test_bf16_leaves_targets_losses_and_matching_in_float32(tiny, drawn, monkeypatch):
    detector = built(*tiny, "kaod-paper", 7, 8)[0].train()
    photos = datasets.Photos(drawn[0])
    images = [photos[i][0] / 255 for i in range(2)]
    targets = [{key: photos[i][1][key] for key in ("boxes", "labels")} for i in range(2)]
    seen = []
    original = model.losses.keypoint_loss

    def loss(pairs, settings):
        seen.append((pairs.P.dtype, pairs.P_T.dtype, torch.is_autocast_enabled("cpu")))
        return original(pairs, settings)

    monkeypatch.setattr(model.losses, "keypoint_loss", loss)
    found = []
    for fast in (False, True):
        if fast:
            for part in (detector.backbone, detector.head):
                part.forward = train.in_bf16(part.forward, "cpu")
        torch.manual_seed(0)
        found.append(detector(images, targets))
    assert seen == [(torch.float32, torch.float32, False)] * 2
    assert {loss.dtype for loss in found[1].values()} == {torch.float32}
    assert all(found[1][key].item() == pytest.approx(value.item(), rel=0.05) for key, value in found[0].items())
    assert found[1]["classification"] != found[0]["classification"]  # it did run in bf16


def test_frozen_batch_norm_keeps_bf16():
    norm = model.FrozenNorm(8)
    norm.weight.uniform_(0.5, 2)
    norm.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 8, 5, 5)
    plain = model.FrozenBatchNorm2d(8)
    plain.load_state_dict(norm.state_dict())
    assert torch.equal(norm(x), plain(x)) and norm(x.bfloat16()).dtype == torch.bfloat16
    assert plain(x.bfloat16()).dtype == torch.float32  # why there is a class of our own


def test_lines_come_after_the_first_step_and_then_now_and_then(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown = progress.Progress(0, 100, "cpu")
    assert shown.bar.disable  # as there is no terminal
    for step in range(1, 101):
        now[0] += 1
        shown.step({"step": step, "loss": 1.0}, 4)
    shown.end()
    *lines, last = capsys.readouterr().out.splitlines()
    assert [int(line.split()[2]) for line in lines] == [1, 31, 61, 91, 100]
    assert lines[1].startswith("training: step 31 of 100: loss 1.000, 1.00 s a step, 0% of it waiting")
    assert "4.0 photos a" in last


# Rounding that passes through an update can turn a discrete choice (a match, a pixel's foreground): steps are compared
# on the same weights, which a learning rate near zero leaves as they were. The losses then agree to 2e-7 (measured),
# the gradient, whose slopes jump (ReLU, pooling), to 1.4e-4.
STILL = {"lr": 1e-7, "steps": 3}


def assert_rounding_alone(log, expected):
    assert len(log) == len(expected) == 3
    for found, row in zip(log, expected):
        assert found.pop("gradient_norm") == pytest.approx(row.pop("gradient_norm"), rel=1e-3)
        assert found == pytest.approx(row, rel=1e-5)


def test_channels_last_changes_nothing_but_rounding(run):
    assert_rounding_alone(run(channels_last=True, **STILL)[1], run(**STILL)[1])


def test_workers_bring_the_same_photos(run):
    assert run(workers=2)[1] == whole(run)[1]


def test_a_full_disk_leaves_the_last_checkpoint_whole(run, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    original = files.os.fsync
    saves = []

    def fsync(number):
        saves.append(number)
        if len(saves) == 2:
            raise OSError(28, "No space left on device")
        original(number)

    monkeypatch.setattr(files.os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left on device: .*step-0000004.pt is not written"):
        run(scratch)
    monkeypatch.setattr(files.os, "fsync", original)
    assert sorted(path.name for path in scratch.iterdir()) == ["step-0000002.pt", "tensorboard"]
    assert same(whole(run)[0], run(scratch)[0])


def test_a_gradient_that_is_not_finite_stops(run, monkeypatch):
    original = model.KAOD.forward

    def steep(self, *given):
        found = original(self, *given)
        zero = next(self.head.parameters()).sum() * 0
        return found | {"steep": torch.sqrt(zero.abs())}  # 0, with an infinite slope

    monkeypatch.setattr(model.KAOD, "forward", steep)
    with pytest.raises(ValueError, match=r"step 0: the gradient's norm is nan: \{.*'steep': 0.0.*\}; photos: 0000"):
        run()


def test_photos_of_one_name_are_told_apart_where_a_loss_is_not_finite():
    twins = [sample([], [], path=f"/data/{camera}/000001.jpg") for camera in ("cam0", "cam1")]
    with pytest.raises(ValueError, match="; photos: cam0/000001.jpg, cam1/000001.jpg in /data$"):
        progress.check_finite(0, {"loss": float("nan")}, twins)


@pytest.fixture
def interruptible():
    """Ctrl-C as in a terminal: what a shell starts in the background is told to ignore it."""
    usual = train.signal.signal(train.signal.SIGINT, train.signal.default_int_handler)
    yield
    train.signal.signal(train.signal.SIGINT, usual)


def test_a_second_signal_acts_at_once_but_not_one_that_a_launcher_passes_on(monkeypatch, interruptible):
    with train.signals() as caught:
        train.signal.raise_signal(train.signal.SIGINT)
        train.signal.raise_signal(train.signal.SIGINT)
        assert caught == [train.signal.SIGINT] * 2
        later = train.time.monotonic() + 3
        monkeypatch.setattr(train.time, "monotonic", lambda: later)
        with pytest.raises(KeyboardInterrupt):
            train.signal.raise_signal(train.signal.SIGINT)


@pytest.mark.parametrize("number", [train.signal.SIGTERM, train.signal.SIGINT])
def test_a_signal_ends_the_step_saves_and_stops(run, tmp_path, monkeypatch, capsys, number):
    uninterrupted, log = whole(run)
    scratch = tmp_path / "scratch"
    original = train.learning_rate
    usual = train.signal.getsignal(number)

    def rate(step, settings):
        if step == 2 and not saved(scratch)[0].endswith("3.pt"):
            train.signal.raise_signal(number)
        return original(step, settings)

    monkeypatch.setattr(train, "learning_rate", rate)
    with pytest.raises(SystemExit) as stopped:
        run(scratch)
    assert stopped.value.code == 128 + number and "stopped after step 3" in capsys.readouterr().out
    assert saved(scratch) == ["step-0000003.pt", "step-0000002.pt"]
    assert train.signal.getsignal(number) is usual
    resumed, again = run(scratch)
    assert same(uninterrupted, resumed) and log == again
