"""Gets a profile's data set to datasets/<profile> and notes in manifest.json what it found.

Three ways, by the profile: draw it (`draw`), use a copy that the user has (`root`; nothing is copied or
written there), or fetch the archives that data/archives.yaml lists.

`python -m kaod.data.download [--mirror URL]`
"""

import argparse
import hashlib
import http.client
import os
import shutil
import stat
import sys
import tarfile
import tempfile
import time
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml
from tqdm import tqdm

from .. import ROOT, params
from . import datasets, files, shapes

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
        before = _size(part)
        try:
            _continue(url, part, size)
            break
        except (OSError, http.client.HTTPException) as error:  # HTTPError is an OSError
            status = getattr(error, "code", None)
            if status == 416:  # nothing left to send: the checksum decides
                break
            failed = 1 if _size(part) > before else failed + 1
            said = f"the server answered {status} {error.reason}" if status else (
                f"{error or type(error).__name__}, {TRIES} times")
            if status and status < 500 and status not in (408, 429):  # too slow, too often: may pass
                raise ValueError(f"{url}: {said}") from None
            if failed == TRIES:
                raise ValueError(f"{url}: {said}; run again to go on from {_size(part):,} bytes") from None
            time.sleep(PAUSE * 2 ** (failed - 1))
    found = files.digest(part)
    if found != md5:
        part.unlink()
        raise ValueError(f"{url}: md5 {found}, expected {md5}; what was fetched is dropped")
    os.replace(part, path)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _continue(url: str, part: Path, size: int) -> None:
    """One connection: appends to `part` from where it ends, or starts over if the server ignores Range."""
    have = _size(part)
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
        if answer.length or _size(part) < size:  # closed before Content-Length was reached, or without one
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


def download(profile: params.Profile, mirror: str | None = None) -> None:
    """Fetches and unpacks the profile's archives; what an earlier run unpacked is left as it is.

    mirror: a URL that has the same files under the same names; their checksums stay those of data/archives.yaml.
    Raises ValueError where the disk is too small for all of them.
    """
    listing = ROOT / "data" / "archives.yaml"
    archives = yaml.safe_load(listing.read_text())
    if profile.name not in archives:
        raise ValueError(f"{listing}: no archives for the profile {profile.name!r}; name your own copy instead: "
                         f"`-S {profile.name}.root=FOLDER`")
    remove_links(profile.folder)
    wanted = []
    for archive in archives[profile.name]:
        marker = profile.folder / f".unpacked-{archive['md5']}"
        path = profile.folder / archive["url"].rsplit("/", 1)[-1]
        if marker.exists():
            path.unlink(missing_ok=True)  # the earlier run was stopped just before it did
        else:
            wanted.append((archive, marker, path))
    profile.folder.mkdir(parents=True, exist_ok=True)
    # each archive goes when it is unpacked, and photos hardly shrink: room for all, and for the largest once more
    sizes = [archive["size"] for archive, _, _ in wanted]
    needed = sum(sizes) + max(sizes, default=0) - sum(
        _size(path) + _size(path.with_name(f"{path.name}.part")) for _, _, path in wanted)
    free = shutil.disk_usage(profile.folder).free
    if free < needed:
        raise ValueError(f"{profile.folder}: {len(wanted)} archives to fetch and unpack need {needed / 1e9:.1f} GB; "
                         f"{free / 1e9:.1f} GB are free")
    for archive, marker, path in wanted:
        url = archive["url"] if mirror is None else f"{mirror.rstrip('/')}/{path.name}"
        if not path.exists() or files.digest(path) != archive["md5"]:
            fetch(url, path, archive["md5"], archive["size"])
        unpack(path, profile.folder, archive.get("strip", ""))
        marker.touch()
        path.unlink()


def check_drawn(folder: Path) -> None:
    """Raises ValueError where a folder holds a download: drawn photos can be drawn again, a download would be lost."""
    for marker in (".unpacked-*", "*.part"):
        for path in folder.glob(marker):
            raise ValueError(f"{folder}: holds a download ({path.name}), which would be lost; please move that folder "
                             "away")


def draw(profile: params.Profile) -> None:
    """Draws into a temporary folder, then renames: an interrupted run leaves no half a data set.

    Raises ValueError where there is a download, which it would replace.
    """
    check_drawn(profile.folder)
    profile.folder.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=profile.folder.parent) as temporary:
        drawn = Path(temporary) / "drawn"
        shapes.write(drawn, profile.draw, profile.train_sets + profile.test_sets)
        shutil.rmtree(profile.folder, ignore_errors=True)
        drawn.rename(profile.folder)


def annotation_files(profile: params.Profile, name: str) -> list[Path]:
    """The files that say what is in a set, below the data set's root."""
    root = profile.data
    if profile.layout == "coco":
        return [root / name]
    folder, listing, stems = datasets.voc_files(root, name)
    return [listing] + [folder / "Annotations" / f"{stem}.xml" for stem in stems]


def outline_files(profile: params.Profile, name: str) -> list[Path]:
    """The files beside a set's annotations in VOC's layout that have its objects' outlines or masks."""
    if profile.layout == "coco":
        return []
    folder, _, stems = datasets.voc_files(profile.data, name)
    places = [folder / "Polygons" / f"{stem}.json" for stem in stems] + [
        folder / "SegmentationObject" / f"{stem}.png" for stem in stems]
    return [path for path in places if path.is_file()]


def _below(folder: Path) -> list[Path]:
    """All files and links below a folder, and all folders, each after what is in it."""
    return [Path(place, name) for place, folders, names in os.walk(folder, topdown=False) for name in names + folders]


def _linked(path: Path, folder: Path) -> bool:
    """Whether `link` made this path: a link to annotations, outlines or a mask in the same place below another root."""
    return path.is_symlink() and path.suffix in (".txt", ".xml", ".json", ".png") and os.readlink(path).endswith(
        f"/{path.relative_to(folder)}")


def remove_links(folder: Path) -> None:
    """Takes away the links that an earlier `link` left below `folder`, and the folders that this empties."""
    for path in _below(folder):
        if _linked(path, folder):
            path.unlink()
            for parent in path.parents:
                if parent == folder or any(parent.iterdir()):
                    break
                parent.rmdir()


def link(profile: params.Profile) -> None:
    """datasets/<profile>/ as links to the annotations, outlines and masks of the user's own copy.

    DVC hashes what a link to a file points to, so that it sees when the user's files change (not when outlines or
    masks come that were not there); it would neither follow a link to a folder nor let a stage depend on a path that
    only one profile has. Raises ValueError, with nothing touched, where the copy is in datasets/<profile>/ or around
    it, or something else is there than links, or the photos of a profile that are drawn.
    """
    folder = profile.folder
    if profile.data.is_relative_to(folder.resolve()) or folder.resolve().is_relative_to(profile.data):
        raise ValueError(f"params.yaml: {profile.name}.root: {profile.data} is, lies in or holds {folder}, where links "
                         "to your own copy are made; please move the copy elsewhere")
    if profile.draw is not None:
        check_drawn(folder)
        shutil.rmtree(folder, ignore_errors=True)
    for path in _below(folder):
        ours = _linked(path, folder) or path in (folder / "manifest.json", folder / "faults.txt")
        if not ours and (path.is_symlink() or not path.is_dir()):
            raise ValueError(f"{folder}: holds files that are no links to your own copy ({path.relative_to(folder)}); "
                             "please move that folder away, so that nothing is lost")
    remove_links(folder)
    for name in profile.train_sets + profile.test_sets:
        for path in annotation_files(profile, name) + outline_files(profile, name):
            place = folder / path.relative_to(profile.data)
            place.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file() and not place.is_symlink():  # the manifest names what is missing
                place.symlink_to(path)


def unreadable(sample: datasets.Sample) -> str:
    """What is wrong with a photo, decoded whole; nothing: ""."""
    try:
        sample.image()
        return ""
    except ValueError as error:
        return str(error)


def manifest(profile: params.Profile) -> dict:
    """{"categories": [{"id", "name"}], "sets": {name: {"photos", "bytes", "objects", "annotations_md5"}},
    "faults": [line, …], "skipped": [photo, …]}.

    Classes are those of the training sets. Every annotation is checked and every photo decoded, so that no training
    stops at a broken file in its middle. Raises ValueError that lists what is wrong; with `skip_bad` that is
    reported, and left out: "faults" has one line for each, "skipped" the photos that cannot be used. Either way
    faults.txt beside the manifest has them all.
    """
    root, faults, skipped = profile.data, [], []
    if profile.layout == "voc":
        names = datasets.voc_classes(root, profile.train_sets, [])
        categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    else:
        categories = datasets.coco_categories(root, *profile.train_sets)
        datasets.coco_categories(root, *profile.train_sets, *profile.test_sets)  # which have to agree
    if not categories:
        raise ValueError(f"{root}: the training sets {', '.join(profile.train_sets)} hold no objects")
    sets = {}
    for name in profile.train_sets + profile.test_sets:
        hashed = hashlib.md5()
        for path in annotation_files(profile, name):
            hashed.update(path.read_bytes() if path.is_file() else b"")
        samples = datasets.read(profile, [name], [item["name"] for item in categories],
                                [item["id"] for item in categories], root, faults)
        with ThreadPoolExecutor() as threads:  # Pillow decodes without Python's lock
            wrong = list(tqdm(threads.map(unreadable, samples), f"checking {name}", len(samples), disable=None))
        skipped += [str(sample.path) for sample, message in zip(samples, wrong) if message]
        faults += [message for message in wrong if message]
        samples = [sample for sample, message in zip(samples, wrong) if not message]
        sets[name] = {"photos": len(samples), "bytes": sum(sample.path.stat().st_size for sample in samples),
                      "objects": sum(len(sample.labels) for sample in samples),
                      "annotations_md5": hashed.hexdigest()}
    faults = list(dict.fromkeys(faults))  # a photo may be in two sets
    listing = profile.folder / "faults.txt"
    listing.unlink(missing_ok=True)
    if faults:
        files.write_bytes(listing, "".join(f"{line}\n" for line in faults).encode())
        more = [f"… and {len(faults) - 20} more; all are in {listing}"] if len(faults) > 20 else []
        listed = "\n".join(faults[:20] + more)
        if not profile.skip_bad:
            raise ValueError(f"{root}: {len(faults)} faults in the data ({profile.name}.skip_bad: true in params.yaml "
                             f"would leave them out):\n{listed}")
        print(f"{root}: left out, as {profile.name}.skip_bad says: {len(faults)} faults\n{listed}")
    return {"categories": categories, "sets": sets, "faults": faults, "skipped": skipped}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m kaod.data.download", description="Gets the profile's data set.")
    parser.add_argument("--mirror", help="a URL that has the archives of data/archives.yaml under the same names")
    given = parser.parse_args()
    profile, _ = params.load()
    if profile.root is not None:
        if not profile.data.is_dir():
            raise ValueError(f"params.yaml: {profile.name}.root: no such folder: {profile.data}")
        link(profile)
    elif profile.draw is not None:
        draw(profile)
    else:
        download(profile, given.mirror)
    found = manifest(profile)
    files.write_json(profile.folder / "manifest.json", found)
    for name, counts in found["sets"].items():
        print(f"{name}: {counts['photos']:,} photos, {counts['objects']:,} objects")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"kaod.data.download: {error}")
