"""Archives from a server to a folder: resumed after an interruption, and checked before anything is unpacked.

Weighed: torchvision.datasets.utils and pooch check sums, too, but neither resumes by HTTP Range.
"""

import http.client
import os
import stat
import tarfile
import time
import urllib.request
import zipfile
from pathlib import Path

from tqdm import tqdm

from . import files

CHUNK = 1 << 20
TIMEOUT = 30  # seconds without a byte
TRIES = 5  # in a row without progress
PAUSE = 1  # seconds before the second of them, twice as long before each further one


def fetch(url: str, path: Path, md5: str, size: int) -> None:
    """The archive at `url` as `path`, resumed by HTTP Range from `path`.part, checked before it gets its name.

    Raises ValueError that names the URL: wrong checksum (the file is dropped), or, with what came so far kept for the
    next run, something else than the archive, or five times in a row no answer, an error of the server that may pass
    (others count at once) or a connection that brought nothing.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url}: expected a URL that starts with http:// or https://")
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    failed = 0
    while True:
        before = size_of(part)
        try:
            _continue(url, part, size)
            break
        except (OSError, http.client.HTTPException) as error:  # HTTPError is an OSError
            status = getattr(error, "code", None)
            if status == 416:  # nothing left to send: the checksum decides
                break
            failed = 1 if size_of(part) > before else failed + 1
            said = f"the server answered {status} {error.reason}" if status else (
                f"{error or type(error).__name__}, {TRIES} times")
            if status and status < 500 and status not in (408, 429):  # too slow, too often: may pass
                raise ValueError(f"{url}: {said}") from None
            if failed == TRIES:
                raise ValueError(f"{url}: {said}; run again to go on from {size_of(part):,} bytes") from None
            time.sleep(PAUSE * 2 ** (failed - 1))
    found = files.digest(part)
    if found != md5:
        part.unlink()
        raise ValueError(f"{url}: md5 {found}, expected {md5}; what was fetched is dropped")
    os.replace(part, path)


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _continue(url: str, part: Path, size: int) -> None:
    """One connection: appends to `part` from where it ends, or starts over if the server ignores Range."""
    have = size_of(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        resumed = answer.status == 206
        if have and resumed and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise OSError(f"asked for bytes from {have}, got {answer.headers.get('Content-Range')!r}")
        length, kind = answer.headers.get("Content-Length"), answer.headers.get_content_type()
        if not resumed and (length not in (None, str(size)) or kind == "text/html"):  # as of a login page
            raise ValueError(f"{url}: expected {size:,} bytes; the server sends {length or 'unknown'}, of type {kind}"
                             + (f"; {part} is kept" if have else ""))
        with open(part, "ab" if resumed else "wb") as file, tqdm(
                total=size, initial=have if resumed else 0, unit="B", unit_scale=True, desc=part.stem,
                disable=None) as bar:
            while chunk := answer.read1(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
        if answer.length or size_of(part) < size:  # closed before Content-Length was reached, or without one
            raise OSError("the connection was cut")


def unpack(archive: Path, folder: Path, strip: str = "") -> None:
    """A tar, or a zip if it is named so, into `folder`, without the leading folder `strip`; where all members would go
    is checked before the first one.

    Raises ValueError that names a member which would leave the folder, or is neither a file nor a folder.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def place(name: str, plain: bool) -> str:
        goal = name.removeprefix(f"{strip}/") if strip else name
        if Path(goal).is_absolute() or not (folder / goal).resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{archive}: member {name!r} would leave {folder}")
        if not plain:
            raise ValueError(f"{archive}: member {name!r} is neither a file nor a folder")
        return goal

    try:
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive) as content:
                members = [member for member in content.infolist() if member.filename.strip("/") != strip]
                for member in members:
                    kind = stat.S_IFMT(member.external_attr >> 16)  # 0 where the archive tells none
                    member.filename = place(member.filename, kind in (0, stat.S_IFREG, stat.S_IFDIR))
                for member in tqdm(members, f"unpacking {archive.name}", disable=None):
                    content.extract(member, folder)
        else:
            with tarfile.open(archive) as content:
                members = [member for member in content.getmembers() if member.name.strip("/") != strip]
                for member in members:
                    member.name = place(member.name, member.isfile() or member.isdir())
                for member in tqdm(members, f"unpacking {archive.name}", disable=None):
                    content.extract(member, folder, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile) as error:
        raise ValueError(f"{archive}: {error}") from None
