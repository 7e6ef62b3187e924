"""Reading and writing files so that nothing is ever half written."""

import contextlib
import hashlib
import json
import os
import shutil
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


def write_bytes(path, data: bytes) -> None:
    """Writes to a temporary name in the same folder, then renames: a reader sees the old file or the new. Raises
    OSError that names the path."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole(folder: Path):
    """A new folder to write in, which takes the place of `folder` at the end. Where that is not reached, it goes, and
    `folder` is as it was."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        new = Path(temporary) / folder.name
        new.mkdir()
        yield new
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)


def write_json(path, value) -> None:
    """JSON with sorted keys and a final newline: the same value gives the same bytes."""
    write_bytes(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())


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


def write_tsv(path, rows: list[dict]) -> None:
    """A table with one header line, as `dvc plots` reads it."""
    write_bytes(path, pandas.DataFrame(rows).to_csv(sep="\t", index=False, lineterminator="\n").encode())


def digest(path) -> str:
    """The file's MD5 sum in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
