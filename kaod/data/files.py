"""Reading and writing files so that nothing is ever half written."""

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from pathlib import Path

import pandas


@contextlib.contextmanager
def writing(path):
    """Gives an OSError of what is done here this path: that of a full disk has none."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None


def write_all(contents: dict) -> None:
    """Files that belong together, {path: bytes}: all of them or none. Each is written to a temporary name in its own
    folder, and they are renamed at the end: a reader sees the old file or the new. Raises OSError that names the
    path."""
    temporary = {path: Path(path).with_name(f".{Path(path).name}.tmp") for path in contents}
    try:
        for path, place in temporary.items():
            with writing(path):
                place.parent.mkdir(parents=True, exist_ok=True)
                with open(place, "wb") as file:
                    file.write(contents[path])
                    file.flush()
                    os.fsync(file.fileno())
        for path, place in temporary.items():
            with writing(path):
                os.replace(place, path)
    finally:
        for place in temporary.values():
            with contextlib.suppress(OSError):  # nothing is there, or the disk is read-only
                place.unlink()


def write_bytes(path, data: bytes) -> None:
    """One file, see `write_all`."""
    write_all({path: data})


@contextlib.contextmanager
def whole(folder: Path):
    """A new folder to write in, which takes the place of `folder` at the end. Where that is not reached, it goes, and
    `folder` is as it was."""
    if os.path.ismount(folder):
        raise OSError(errno.EBUSY, "a disk is mounted there, and cannot be replaced; name a folder on it", str(folder))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        new = Path(temporary) / folder.name
        new.mkdir()
        yield new
        if os.path.lexists(folder):
            folder.rename(Path(temporary) / f"{folder.name}.before")
        new.rename(folder)


@contextlib.contextmanager
def merged(folder: Path):
    """A new folder to write in, whose files are moved into `folder` at the end, over those of their names. Where that
    is not reached, it goes, and `folder` is as it was."""
    new_too = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".new-", dir=folder) as temporary:
            yield Path(temporary)
            for path in sorted(Path(temporary).rglob("*")):
                goal = folder / path.relative_to(temporary)
                if path.is_dir():
                    goal.mkdir(exist_ok=True)
                else:
                    path.replace(goal)
    finally:
        if new_too and not any(folder.iterdir()):
            folder.rmdir()


def to_json(value) -> bytes:
    """JSON with sorted keys and a final newline: the same value gives the same bytes."""
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def write_json(path, value) -> None:
    write_bytes(path, to_json(value))


def read_json(path):
    """Raises FileNotFoundError or ValueError, both naming the file."""
    try:
        return json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; `dvc repro` makes what the pipeline needs") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not valid JSON ({not_utf8(error)})") from None
    except (ValueError, RecursionError):  # a whole number of thousands of digits
        raise ValueError(f"{path}: not valid JSON (nested too deep, or a number too long)") from None


def read_lines(path) -> list[str]:
    """The lines of a text file, whose first character may be a byte order mark. Raises ValueError that names the file
    where it is not UTF-8."""
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: {not_utf8(error)}") from None
    if "\0" in text:
        raise ValueError(f"{path}: expected text in UTF-8; it looks like UTF-16; please save it anew")
    return text.splitlines()


def not_utf8(error: UnicodeDecodeError) -> str:
    """What a user reads of a file of another encoding."""
    line = error.object[:error.start].count(b"\n") + 1
    return f"expected text in UTF-8; line {line} has the byte 0x{error.object[error.start]:02x}; please save it anew"


def to_tsv(rows: list[dict]) -> bytes:
    """A table with one header line, as `dvc plots` reads it."""
    return pandas.DataFrame(rows).to_csv(sep="\t", index=False, lineterminator="\n").encode()


def digest(path) -> str:
    """The file's MD5 sum in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
