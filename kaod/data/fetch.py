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

    Raises ValueError that names the URL. At a wrong checksum what came is dropped; else it is kept for the next run: at
    something else than the archive, an error of the server that will not pass, or TRIES in a row without progress.
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
        length, kind = answer.headers.get("Content-Length"), answer.headers.get_content_type()
        if not resumed and (length not in (None, str(size)) or kind == "text/html"):  # as of a login page
            raise ValueError(f"{url}: expected {size:,} bytes; the server sends {length or 'unknown'}, of type {kind}"
                             + (f"; {part} is kept" if have else ""))
        with open(part, "ab" if resumed else "wb") as file, tqdm(
                total=size, initial=have if resumed else 0, unit="B", unit_scale=True, desc=part.stem,
                disable=None) as bar:
            while chunk := answer.read1(CHUNK):
                with files.writing(part):
                    file.write(chunk)
                bar.update(len(chunk))
        if answer.length or size_of(part) < size:  # closed before Content-Length was reached, or without one
            raise OSError("the connection was cut")


def unpack(archive: Path, folder: Path, strip: str = "") -> None:
    """A tar, or a zip if it is named so, into `folder`, without the leading folder `strip`.

    Raises ValueError, before anything is written, that names a member which would leave the folder, or is neither a
    file nor a folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    zipped = archive.suffix == ".zip"
    name = "filename" if zipped else "name"
    try:
        with zipfile.ZipFile(archive) if zipped else tarfile.open(archive) as content:
            members = [member for member in (content.infolist() if zipped else content.getmembers())
                       if getattr(member, name).strip("/") != strip]
            for member in members:
                said = getattr(member, name)
                goal = said.removeprefix(f"{strip}/") if strip else said
                if Path(goal).is_absolute() or not (folder / goal).resolve().is_relative_to(folder.resolve()):
                    raise ValueError(f"{archive}: member {said!r} would leave {folder}")
                if not (stat.S_IFMT(member.external_attr >> 16) in (0, stat.S_IFREG, stat.S_IFDIR)  # 0: not told
                        if zipped else member.isfile() or member.isdir()):
                    raise ValueError(f"{archive}: member {said!r} is neither a file nor a folder")
                setattr(member, name, goal)
            content.extraction_filter = tarfile.data_filter
            for member in tqdm(members, f"unpacking {archive.name}", disable=None):
                content.extract(member, folder)
    except (tarfile.TarError, zipfile.BadZipFile) as error:
        raise ValueError(f"{archive}: {error}") from None
