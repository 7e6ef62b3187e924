"""The door: gets a profile's data set, checks all of it, and writes each set as COCO JSON.

Three ways, by the profile: draw it (`draw`), use a copy that the user has (`root`; nothing is copied or
written there), or fetch the archives that data/archives.yaml lists. datasets/<profile>/ then has sets/NAME.json,
which all later stages read, and manifest.json, what was found.

`python -m kaod.data.download [--mirror URL]`
"""

import argparse
import hashlib
import itertools
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import yaml
from tqdm import tqdm

from .. import ROOT, command, params
from . import coco, fields, files, shapes, vertices, voc
from .datasets import set_file
from .fetch import fetch, size_of, unpack
from .samples import DataSet, Sample, in_doubt


def download(profile: params.Profile, mirror: str | None = None) -> None:
    """Fetches and unpacks the profile's archives; what an earlier run unpacked is left as it is.

    mirror: a URL that has the same files under the same names; their checksums stay those of data/archives.yaml.
    Raises ValueError where the disk is too small for all of them.
    """
    listing = ROOT / "data" / "archives.yaml"
    archives = yaml.safe_load(listing.read_text())
    if profile.name not in archives:
        raise ValueError(f"{listing}: no archives for the profile {profile.name!r}; name your own copy instead "
                         f"({profile.name}.root in params.yaml)")
    wanted, needed, largest = [], 0, 0
    profile.folder.mkdir(parents=True, exist_ok=True)
    for archive in archives[profile.name]:
        marker = profile.folder / f".unpacked-{archive['md5']}"
        path = profile.folder / archive["url"].rsplit("/", 1)[-1]
        if marker.exists():
            path.unlink(missing_ok=True)  # the earlier run was stopped just before it did
            continue
        wanted.append((archive, marker, path))
        needed += archive["size"] - size_of(path) - size_of(path.with_name(f"{path.name}.part"))
        largest = max(largest, archive["size"])
    # each archive goes when it is unpacked, and photos hardly shrink: room for all, and for the largest once more
    needed, free = needed + largest, shutil.disk_usage(profile.folder).free
    if free < needed:
        raise ValueError(f"{profile.folder}: {len(wanted)} archives to fetch and unpack need {needed / 1e9:.1f} GB; "
                         f"{free / 1e9:.1f} GB are free")
    for archive, marker, path in wanted:
        url = archive["url"] if mirror is None else f"{mirror.rstrip('/')}/{path.name}"
        if not path.exists() or files.digest(path) != archive["md5"]:
            fetch(url, path, archive["md5"], archive["size"])
        with files.writing(profile.folder):
            unpack(path, profile.folder, archive.get("strip", ""))
        marker.touch()
        path.unlink()


def draw(profile: params.Profile) -> dict:
    """Draws the data set, and checks it, whole or not at all. Returns its manifest.

    Raises ValueError where there is a download, which it would replace: drawn photos can be drawn again.
    """
    for path in (*profile.folder.glob(".unpacked-*"), *profile.folder.glob("*.part")):
        raise ValueError(f"{profile.folder}: holds a download ({path.name}), which would be lost; please move that "
                         "folder away")
    with files.whole(profile.folder) as folder:  # of links there it takes away the links alone
        shapes.write(folder, profile.draw, profile.train_sets + profile.test_sets)
        return check(replace(profile, name=folder.relative_to(profile.folder.parent).as_posix()))


def link(profile: params.Profile) -> None:
    """datasets/<profile>/source/ as links to the annotations and masks of the user's own copy.

    DVC hashes what a link to a file points to (it does not follow a link to a folder), so it sees when they change, not
    when masks come that were not there. Raises ValueError, with nothing touched, where the copy is in
    datasets/<profile>/ or around it, or something else than links is in source/.
    """
    folder, links = profile.folder, profile.folder / "source"
    if profile.data.is_relative_to(folder.resolve()) or folder.resolve().is_relative_to(profile.data):
        raise ValueError(f"params.yaml: {profile.name}.root: {profile.data} is, lies in or holds {folder}, where links "
                         "to your own copy are made; please move the copy elsewhere")
    for path in links.rglob("*"):
        if not path.is_symlink() and not path.is_dir():
            raise ValueError(f"{links}: holds files that are no links to your own copy ({path.relative_to(links)}); "
                             "please move that folder away, so that nothing is lost")
    with files.whole(links) as new:
        for name in profile.train_sets + profile.test_sets:
            for path in [profile.data / name] if profile.layout == "coco" else voc.sources(profile.data, name):
                place = new / path.relative_to(profile.data)
                place.parent.mkdir(parents=True, exist_ok=True)
                if os.path.isfile(path) and not place.is_symlink():  # `check` names what is missing
                    place.symlink_to(path)


def check_names(profile: params.Profile) -> None:
    """Raises ValueError where a set or the photo folder leaves the data's folder, or a set stands twice in a list."""
    for key in ("train_sets", "test_sets", "photos"):
        names = [getattr(profile, key)] if key == "photos" and profile.photos else getattr(profile, key) or []
        for name in names:
            try:
                fields.path(name, key)
            except ValueError as error:
                raise ValueError(f"params.yaml: {profile.name}.{error}") from None
            if names.count(name) > 1:
                raise ValueError(f"params.yaml: {profile.name}.{key}: {name!r} stands there {names.count(name)} times")


def categories(profile: params.Profile) -> list[dict]:
    """[{"id", "name"}]: the classes of the training sets. Raises ValueError where there are none, with what is wrong
    with their annotations."""
    faults = []
    if profile.layout == "voc":
        names = voc.classes(profile.data, profile.train_sets, faults)
        found = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    else:
        found = coco.categories(profile.data, *profile.train_sets)
        coco.categories(profile.data, *profile.train_sets, *profile.test_sets)  # which have to agree
    if not found:
        report(profile, faults)
        raise ValueError(f"{profile.data}: the training sets {', '.join(profile.train_sets)} hold no objects")
    return found


def unreadable(sample: Sample) -> str | None:
    """What is wrong with a photo, decoded whole, if anything."""
    try:
        sample.image()
    except ValueError as error:
        return str(error)


def read(profile: params.Profile, name: str, empty: DataSet, faults: list[str]) -> DataSet:
    """What can be used of a set in the user's layout, as `empty` with samples: every annotation checked and every photo
    decoded, so that no training stops at a broken file in its middle. faults: takes one line for each fault."""
    if profile.layout == "voc":
        samples = voc.read(profile.data, name, empty.classes, faults)
    else:
        samples = coco.read(profile.data / name, coco.photo_folder(profile.data, name, profile.photos),
                            empty.category_ids, faults)
    with ThreadPoolExecutor() as threads:  # Pillow decodes without Python's lock
        wrong = list(tqdm(threads.map(unreadable, samples), f"checking {name}", len(samples), disable=None))
    faults += filter(None, wrong)
    return replace(empty, samples=[sample for sample, message in zip(samples, wrong) if not message])


def check(profile: params.Profile) -> dict:
    """Writes the sets and the manifest, all or none, and returns that: {"categories": [{"id", "name"}],
    "faults": [line, …], "sets": {name: {"photos", "bytes", "objects", "md5"}}}, md5 that of the file written.

    What is wrong is listed in faults.txt beside the manifest and left out; without `skip_bad` it is raised as a
    ValueError, and so is a set that is empty then; the sets stay as they were.
    """
    found, faults, sets = categories(profile), [], {}
    empty = DataSet([item["name"] for item in found], [item["id"] for item in found], [])
    for names in (profile.train_sets, profile.test_sets):
        numbers = itertools.count(1)
        for name in names:
            sets[name] = read(profile, name, empty, faults)
            if profile.layout == "voc":  # which has no numbers
                sets[name] = replace(empty, samples=[
                    replace(sample, id=next(numbers)) for sample in sets[name].samples])
    training, test = ([sample for name in names for sample in sets[name].samples]
                      for names in (profile.train_sets, profile.test_sets))
    if len({sample.id for sample in test}) < len(test):
        raise ValueError(f"{profile.data}: an image id occurs twice in {', '.join(profile.test_sets)}; ids must be "
                         "unique")
    remark(profile, training, test)
    faults = list(dict.fromkeys(faults))  # a photo may be in two sets
    report(profile, faults)
    for name, dataset in sets.items():
        if not dataset.samples:
            path = profile.data / name if profile.layout == "coco" else voc.listed(profile.data, name)[1]
            raise ValueError(f"{path}: the set {name} has no photos{' that can be used' if faults else ''}")
    for kind, names, samples in (("training", profile.train_sets, training), ("test", profile.test_sets, test)):
        if all(sample.ignore.all() for sample in samples):
            raise ValueError(f"{profile.data}: the {kind} sets {', '.join(names)} hold no objects")
    if profile.vertices.k == "auto" and all(
            len(part) < 3 for sample in training for parts in sample.polygons for part in parts):
        print(f"{profile.data}: the training sets have boxes only, no outlines: K = {vertices.BOXES_ONLY} "
              f"({profile.name}.vertices.k: auto)")
    counts, contents = {}, {}
    for name, dataset in sets.items():
        content, samples = coco.to_bytes(dataset, profile.data), dataset.samples
        contents[set_file(profile, name)] = content
        counts[name] = {"photos": len(samples), "bytes": sum(sample.path.stat().st_size for sample in samples),
                        "objects": sum(len(sample.labels) for sample in samples),
                        "md5": hashlib.md5(content).hexdigest()}
    manifest = {"categories": found, "sets": counts, "faults": faults}
    files.write_all(contents | {profile.folder / "manifest.json": files.to_json(manifest)})
    return manifest


def remark(profile: params.Profile, training: list[Sample], test: list[Sample]) -> None:
    """Prints what stops nothing but may not be meant, one line each."""
    trained = {sample.path for sample in training}
    flat = [sample.path for sample in training + test
            if any(len(part) < 3 for parts in sample.polygons for part in parts)]
    turned = [sample.path for sample in training + test if in_doubt(sample)]
    for paths, said in (
            (turned, "photos turned by EXIF orientation, as viewers show them; please see that they were annotated so"),
            ([sample.path for sample in test if sample.path in trained], "photos in both training and test sets"),
            (flat, "photos with polygons of fewer than three points, which are no outlines")):
        if paths := list(dict.fromkeys(paths)):
            print(f"{profile.data}: {len(paths):,} {said}; the first: {paths[0]}")


def report(profile: params.Profile, faults: list[str]) -> None:
    """Leaves the faults in faults.txt, and prints the first 20; without `skip_bad` it raises them as a ValueError."""
    listing = profile.folder / "faults.txt"
    listing.unlink(missing_ok=True)
    if not faults:
        return
    files.write_bytes(listing, "".join(f"{line}\n" for line in faults).encode())
    more = [f"… and {len(faults) - 20} more; all are in {listing}"] * (len(faults) > 20)
    listed = "\n".join(faults[:20] + more)
    if not profile.skip_bad:
        raise ValueError(f"{profile.data}: {len(faults)} faults in the data ({profile.name}.skip_bad: true in "
                         f"params.yaml would leave them out):\n{listed}")
    print(f"{profile.data}: left out, as {profile.name}.skip_bad says: {len(faults)} faults\n{listed}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m kaod.data.download", description="Gets the profile's data set.")
    parser.add_argument("--mirror", help="a URL that has the archives of data/archives.yaml under the same names")
    given = parser.parse_args()
    profile, _ = params.load()
    check_names(profile)
    if profile.root is not None:
        if not profile.data.is_dir():
            raise ValueError(f"params.yaml: {profile.name}.root: no such folder: {profile.data}")
        link(profile)
        manifest = check(profile)
    elif profile.draw is not None:
        manifest = draw(profile)
    else:
        download(profile, given.mirror)
        manifest = check(profile)
    for name, counts in manifest["sets"].items():
        print(f"{name}: {counts['photos']:,} photos, {counts['objects']:,} objects")


if __name__ == "__main__":
    command(main)
