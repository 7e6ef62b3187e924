"""How commands end where something is wrong: one line, and nothing half written."""

import re
import runpy
import warnings

import pytest

import kaod
from kaod import ROOT, params
from kaod.data import files, warp

FULL = OSError(28, "No space left on device")  # as `write` says it: without a path


def full(*_, **__):
    raise FULL


def test_every_module_that_is_started_ends_as_a_command():
    started = [path for path in (*(ROOT / "kaod").rglob("*.py"), ROOT / "experiments" / "grid.py")
               if '__name__ == "__main__"' in path.read_text()]
    assert len(started) > 9
    for path in started:
        assert re.search(r'\nif __name__ == "__main__":\n    command\(main.*\)\n$', path.read_text()), path


def run(module: str, monkeypatch) -> str:
    """What a command says that ends badly."""
    monkeypatch.setattr("sys.argv", [module])
    with warnings.catch_warnings(), pytest.raises(SystemExit) as stopped:
        warnings.filterwarnings("ignore", ".*found in sys.modules")
        runpy.run_module(module, run_name="__main__")
    return stopped.value.code


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
    ("kaod.data.download", "datasets/tiny/sets/annotations-instances_train.json"),
    ("kaod.data.vertices", "runs/tiny/vertices.json"), ("kaod.data.warp", "runs/tiny/.*warped/st.json")])
def test_a_full_disk_is_one_line_with_the_path(profile, monkeypatch, module, target):
    if module.endswith("download"):
        fsync, calls = files.os.fsync, []
        monkeypatch.setattr(files.os, "fsync", lambda number: full() if len(calls) > 1 else calls.append(fsync(number)))
    else:
        monkeypatch.setattr(files.os, "fsync", full)
    assert re.fullmatch(rf"{module}: \S*/{target}: No space left on device", run(module, monkeypatch))


def test_a_folder_that_cannot_be_made_is_one_line_with_the_path(profile, monkeypatch):
    profile.runs.parent.write_text("a file where a folder should be")
    for module in ("kaod.data.vertices", "kaod.data.warp"):
        assert re.fullmatch(rf"{module}: \S*/runs\S*: (Not a directory|File exists)", run(module, monkeypatch))


def test_what_was_there_stays_where_the_test_sets_cannot_be_written(profile, monkeypatch):
    warp.main()
    before = {path: files.digest(path) for path in profile.runs.rglob("*.*")}
    monkeypatch.setattr("PIL.Image.Image.save", full)
    assert "No space left on device" in run("kaod.data.warp", monkeypatch)
    assert {path: files.digest(path) for path in profile.runs.rglob("*.*")} == before


def test_a_folder_is_whole_or_as_it_was(tmp_path):
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
