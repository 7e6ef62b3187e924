"""How commands end where something is wrong: one line, and nothing half written."""

import re
import threading
from unittest.mock import Mock

import pytest
from conftest import as_command, built

import kaod
from kaod import ROOT, params
from kaod.data import datasets, files, warp
from kaod.training import checkpoints

FULL = OSError(28, "No space left on device")  # as `write` says it: without a path


def full(*_, **__):
    raise FULL


def test_every_module_that_is_started_ends_as_a_command():
    started = [path for path in (*(ROOT / "kaod").rglob("*.py"), ROOT / "experiments" / "grid.py")
               if '__name__ == "__main__"' in path.read_text()]
    assert len(started) > 9
    for path in started:
        assert re.search(r'\nif __name__ == "__main__":\n    command\(main.*\)\n$', path.read_text()), path


@pytest.fixture
def profile(repository, monkeypatch):
    """The profile `tiny`, selected and downloaded, in a repository of its own."""
    path = repository / "params.yaml"
    path.write_text(path.read_text().replace("profile: shapes", "profile: tiny").replace("sweep: 4", "sweep: 0"))
    from kaod.data import download

    monkeypatch.setattr("sys.argv", ["download"])
    download.main()
    return params.load()[0]


@pytest.mark.parametrize("module, target", [
    ("kaod.data.download", "datasets/.*tiny/sets/annotations-instances_train.json"),
    ("kaod.data.vertices", "runs/tiny/vertices.json"), ("kaod.data.warp", "runs/tiny/.*warped/st.json")])
def test_a_full_disk_is_one_line_with_the_path(profile, monkeypatch, module, target):
    if module.endswith("download"):
        fsync, calls = files.os.fsync, []
        monkeypatch.setattr(files.os, "fsync", lambda number: full() if len(calls) > 1 else calls.append(fsync(number)))
    else:
        monkeypatch.setattr(files.os, "fsync", full)
    assert re.fullmatch(rf"{module}: \S*/{target}: No space left on device", as_command(monkeypatch, module))


def tree(folder) -> dict:
    """The files in a folder: {path: hash}."""
    return {path: files.digest(path) for path in folder.rglob("*") if path.is_file()}


COMMANDS = {  # what it is given, and how many files it writes before the disk is full
    "kaod.data.download": ([], (0, 2, 4)),
    "kaod.data.vertices": ([], (0, 1)),
    "kaod.data.warp": ([], (0, 3)),
    "kaod.train": (["kaod"], (4, 2, 3)),  # snapshots and checkpoints, two each; then it goes on from the last of them
    "kaod.evaluation.evaluate": (["kaod"], (1, 5)),
    "kaod.predict": (["CHECKPOINT", "PHOTOS", "--least", "0", "--out", "OUT", "--formats"], (1, 2, 5)),
    "kaod.relabel": (["CHECKPOINT", "ANNOTATIONS", "--out", "OUT"], (0, 3)),
    "kaod.export": (["CHECKPOINT", "OUT/network.pt2"], (0,))}


@pytest.mark.parametrize("module", COMMANDS)
def test_a_full_disk_leaves_all_as_it_was(profile, repository, monkeypatch, module):
    given, room = COMMANDS[module]
    assert [as_command(monkeypatch, f"kaod.data.{name}") for name in ("vertices", "warp")] == ["", ""]
    dataset, models = datasets.load(profile, profile.train_sets), params.load()[1]
    photos, out = profile.folder / "test", repository / "out"
    for photo in sorted(photos.iterdir())[:2]:
        files.write_bytes(repository / "photos" / photo.name, photo.read_bytes())
    detector, applied = built(profile, models, "kaod", len(dataset.classes), 16)
    files.write_bytes(profile.runs / "kaod" / "model.pt", checkpoints.to_bytes(detector, applied, dataset, 16))
    for folder in (out, profile.runs / "kaod" / "snapshots", profile.runs / "kaod" / "detections", profile.results):
        files.write_bytes(folder / "of before.txt", b"")
    (out / "of before.txt").rename(out / "left.txt")  # which `relabel` takes for its own
    files.write_json(out / "annotations.json", {})
    places = {"CHECKPOINT": profile.runs / "kaod" / "model.pt", "PHOTOS": repository / "photos", "OUT": out,
              "ANNOTATIONS": profile.folder / "annotations" / "instances_test.json",
              "OUT/network.pt2": out / "network.pt2"}
    before = [tree(repository / name) for name in ("datasets", "runs", "results", "out")]
    for fits in room:
        with monkeypatch.context() as patch:
            patch.setattr(files.os, "fsync", Mock(side_effect=[None] * fits + [FULL] * 99))
            said = as_command(patch, module, *(places.get(each, each) for each in given))
        assert re.fullmatch(rf"{module}: /\S+: No space left on device(: \S+ is not written; .*)?", said), said
        assert [tree(repository / name) for name in ("datasets", "runs", "results", "out")] == before, fits


def test_the_curves_on_a_full_disk_are_one_line_too(profile, monkeypatch, capfd):
    assert as_command(monkeypatch, "kaod.data.vertices") == ""
    monkeypatch.setattr("threading.excepthook", threading.excepthook)  # which the command replaces
    monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.write", full)  # in a thread
    said = as_command(monkeypatch, "kaod.train", "kaod")
    assert re.fullmatch(r"kaod.train: /\S+/scratch/tiny/kaod/tensorboard: No space left on device", said)
    assert "Traceback" not in capfd.readouterr().err


def test_a_folder_that_cannot_be_made_is_one_line_with_the_path(profile, monkeypatch):
    profile.runs.parent.write_text("a file where a folder should be")
    for module in ("kaod.data.vertices", "kaod.data.warp"):
        assert re.fullmatch(rf"{module}: \S*/runs\S*: (Not a directory|File exists)", as_command(monkeypatch, module))


def test_what_was_there_stays_where_the_test_sets_cannot_be_written(profile, monkeypatch):
    warp.main()
    before = {path: files.digest(path) for path in profile.runs.rglob("*.*")}
    monkeypatch.setattr("PIL.Image.Image.save", full)
    assert "No space left on device" in as_command(monkeypatch, "kaod.data.warp")
    assert {path: files.digest(path) for path in profile.runs.rglob("*.*")} == before


def test_a_folder_is_whole_or_as_it_was(tmp_path, monkeypatch):
    folder = tmp_path / "deep" / "folder"
    with files.whole(folder) as new:
        (new / "a").write_text("first")
    with pytest.raises(ValueError), files.whole(folder) as new:
        (new / "b").write_text("half")
        raise ValueError
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]
    assert [path.name for path in folder.iterdir()] == ["a"]
    with files.whole(folder) as new:
        (new / "b").write_text("second")
    assert [path.name for path in folder.iterdir()] == ["b"]
    monkeypatch.setattr(files.os.path, "ismount", lambda path: path == folder)
    with pytest.raises(OSError, match="a disk is mounted there") as error, files.whole(folder):
        pass
    assert error.value.filename == str(folder) and [path.name for path in folder.iterdir()] == ["b"]


def test_what_is_merged_is_all_there_or_as_it_was(tmp_path):
    folder = tmp_path / "out"
    for _ in range(2):
        with pytest.raises(ValueError), files.merged(folder) as new:
            files.write_bytes(new / "deep" / "a", b"half")
            raise ValueError
        assert not folder.exists()
    files.write_bytes(folder / "deep" / "b", b"of before")
    with pytest.raises(ValueError), files.merged(folder) as new:
        files.write_bytes(new / "deep" / "b", b"half")
        raise ValueError
    assert (folder / "deep" / "b").read_bytes() == b"of before" and len(tree(folder)) == 1
    with files.merged(folder) as new:
        files.write_bytes(new / "deep" / "a", b"new")
        (new / "link").symlink_to(folder / "deep" / "b")
    assert sorted(path.name for path in tree(folder)) == ["a", "b", "link"] and (folder / "link").is_symlink()


def test_files_that_belong_together_are_all_new_or_all_old(tmp_path, monkeypatch):
    paths = [tmp_path / "a" / "1", tmp_path / "b" / "2"]
    files.write_all(dict.fromkeys(paths, b"old"))
    paths[1].unlink()
    paths[1].mkdir()  # which no file can replace
    (paths[1] / "full").touch()
    before = tree(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left on device: .*/a/1"):
        patch.setattr(files.os, "fsync", full)
        files.write_all(dict.fromkeys(paths, b"new"))
    assert tree(tmp_path) == before
    with pytest.raises(OSError, match="b/2"):
        files.write_all(dict.fromkeys(reversed(paths), b"new"))
    assert tree(tmp_path) == before


def test_errors_of_the_system_name_their_path(tmp_path, monkeypatch):
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}'"), files.writing(tmp_path):
        full()
    with pytest.raises(OSError, match="encoder error -2"), files.writing(tmp_path):
        raise OSError("encoder error -2 when writing image file")  # as Pillow says it

    def main():
        (tmp_path / "none").read_bytes()

    monkeypatch.setattr(main.__globals__["__spec__"], "name", "kaod.a")
    with pytest.raises(SystemExit, match=f"^kaod.a: {tmp_path}/none: No such file or directory$"):
        kaod.command(main)
    monkeypatch.setattr(main.__globals__["__spec__"], "name", "kaod.b")
    with pytest.raises(SystemExit, match="^kaod.b: No space left on device$"):  # without Python's number
        kaod.command(full)
