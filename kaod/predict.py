"""A checkpoint and photos in; boxes, rotated boxes, masks and keypoints out.

`python -m kaod.predict CHECKPOINT PHOTO…` writes OUT/ (default: predictions/): each photo with what was found drawn on
it (made smaller where a side has more than 1,280 pixels), detections.json (COCO's results format) and detections.csv.
PHOTO is a file, a folder, or a pattern in quotes. From Python:
`kaod.load("runs/shapes/kaod/model.pt").predict(["photo.jpg"])`.
"""

import argparse
import errno
import glob
import mimetypes
import os
import sys
from collections import Counter
from itertools import count
from pathlib import Path

import numpy as np
import pandas
import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor, to_pil_image
from tqdm import tqdm

from . import command, geometry, model, params, relabel
from .data import coco, datasets, files, formats, samples
from .evaluation import results
from .figures import charts, photos
from .training import checkpoints


def describe(found: dict[str, np.ndarray], size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Detections of one photo with all that follows from their keypoints.

    found: boxes (n, 4), scores, labels (n,), and keypoints (n, K, 2), in pixels of the photo. size: its width and
    height. Adds rotated_corners (n, 4, 2), clockwise; rotated_boxes (n, 5): centre x, y, width ≥ height, angle
    in degrees; masks (n, height, width), bool: the keypoints' hull. Where there are no keypoints (FCOS), or two, which
    span a line, nothing is added.
    """
    points = found.get("keypoints")
    if points is None or points.shape[1] < 3:
        return found
    corners, boxes = geometry.rotated_boxes(points)
    return found | {"rotated_corners": corners, "rotated_boxes": boxes, "masks": geometry.masks(points, size)}


def read(photo) -> torch.Tensor:
    """A photo as (3, height, width) from 0 to 1.

    photo: a path (see `samples.read`), a PIL image, an array (height, width[, 3]) or a tensor (3, height, width);
    uint8, or floats from 0 to 1. Raises ValueError that names the file, shape or type.
    """
    if isinstance(photo, str | Path):
        photo = pil_to_tensor(samples.read(photo))
    elif isinstance(photo, Image.Image):
        photo = pil_to_tensor(samples.as_rgb(photo))
    elif isinstance(photo, np.ndarray):
        photo = torch.from_numpy(np.ascontiguousarray(photo))
        photo = photo.expand(3, -1, -1) if photo.ndim == 2 else photo.movedim(-1, 0)
    if not isinstance(photo, torch.Tensor) or photo.ndim != 3 or photo.shape[0] != 3 or 0 in photo.shape:
        shape = tuple(photo.shape) if isinstance(photo, torch.Tensor) else type(photo).__name__
        raise ValueError(f"expected a path, a PIL image, an array (height, width, 3) or a tensor (3, height, width); "
                         f"got {shape}")
    if photo.dtype == torch.uint8:
        return photo.float() / 255
    least, most = photo.double().aminmax()
    if not photo.is_floating_point() or not (least >= -1 and most <= 2):  # resizing may overshoot a bit
        raise ValueError(f"expected uint8, or floats from 0 to 1; got {photo.dtype} from {least:g} to {most:g}")
    return photo.float()


def check_list(photos) -> None:
    """Raises ValueError for a photo that is in no list."""
    if isinstance(photos, str | Path | Image.Image) or (
            isinstance(photos, np.ndarray | torch.Tensor) and photos.ndim < 4):  # else read as H photos
        raise ValueError(f"expected a list of photos; got one {type(photos).__name__}: put it in a list")


class Predictor:
    """A trained detector that takes photos in any form. Raises ValueError where the checkpoint cannot be read or the
    device is not there."""

    def __init__(self, path, device: str = "cpu", detection: params.Evaluate = model.DETECTION):
        try:
            torch.zeros(1, device=device)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"device {device!r} cannot be used here ({str(error).splitlines()[0]})") from None
        self.detector, self.classes, self.category_ids = checkpoints.load(path, device, detection)
        self.device = device

    @torch.inference_mode()
    def predict(self, photos, least: float = 0.4) -> list[dict[str, np.ndarray]]:
        """`describe`'s dict for each photo (see `read`), best detection first, scores of at least `least`.

        The photos, a list (or an array or tensor of four dimensions), go through the network as one batch. Raises
        ValueError as `read` does.
        """
        if not 0 <= least <= 1:
            raise ValueError(f"least: expected a score from 0 to 1; got {least}")
        check_list(photos)
        if not len(photos):
            return []
        tensors = [read(photo).to(self.device) for photo in photos]
        answers = []
        for tensor, found in zip(tensors, self.detector(tensors)):
            found = results.foreground({key: value.cpu().numpy() for key, value in found.items()})
            kept = found["scores"] >= least
            found = {key: values[kept] for key, values in found.items()}
            answers.append(describe(found, (tensor.shape[2], tensor.shape[1])))
        return answers

    def relabel(self, photos, boxes, labels, fills: bool = False) -> list[dict]:
        """Rotated boxes and masks of objects whose upright boxes are known: `relabel.answers`' dict for each photo.

        photos: a list, see `read`. boxes: for each photo (n, 4), in pixels. labels: for each photo n names of classes,
        or this model's numbers, from 1. fills: the objects fill their rotated boxes, as cars do. Raises ValueError
        where lengths differ, or a class is unknown.
        """
        check_list(photos)
        if not len(photos) == len(boxes) == len(labels):
            raise ValueError(f"expected boxes and labels for each of {len(photos)} photos; got {len(boxes)} and "
                             f"{len(labels)}")
        return [relabel.answers(self.detector, read(photo).to(self.device), *each, self.classes, fills)
                for photo, *each in zip(photos, boxes, labels)]


def at_objects(detector: model.KAOD, sample: datasets.Sample) -> dict[int, np.ndarray]:
    """What the detector says of objects whose boxes are known, found or not: {object: keypoints (K, 2) in pixels}.

    Objects that no location would learn (covered by smaller ones) are missing: see `relabel.read`.
    """
    image, target = datasets.Photos([sample])[0]
    found = relabel.read(detector, image.float() / 255, target["boxes"], target["labels"], torch.zeros(1))
    numbers = np.flatnonzero(~sample.ignore).tolist()  # targets leave out ignored objects
    return {number: views[0] for number, views in zip(numbers, found) if len(views)}


def inside(folder: Path) -> tuple[list[Path], list[Path]]:
    """The photos below a folder, by the suffixes that Pillow knows; and what else is there: files of other kinds, links
    to folders, which are not followed, and folders that cannot be read."""
    found, others, errors = [], [], []
    for top, folders, names in os.walk(folder, onerror=errors.append):
        others += (path for name in folders if (path := Path(top, name)).is_symlink())
        for path in (Path(top, name) for name in names):
            (found if path.suffix.lower() in Image.registered_extensions() else others).append(path)
    return sorted(found), sorted([*others, *(Path(error.filename) for error in errors)])


def find(patterns: list[str]) -> tuple[list[Path], list[Path]]:
    """The photos that files, folders (all photos below) and patterns name, each once, and what else is in the folders:
    see `inside`. Raises ValueError where one names no photo."""
    found, others = [], []
    for pattern in map(os.path.expanduser, patterns):
        paths = [Path(pattern)] if Path(pattern).exists() else sorted(map(Path, glob.glob(pattern, recursive=True)))
        if not paths:
            raise ValueError(f"{pattern}: no such file or folder, and no file of that pattern")
        for path in paths:
            here, beside = inside(path) if path.is_dir() else ([path], [])
            if not here:
                raise ValueError(f"{path}: no photos in this folder that can be read")
            found, others = found + here, others + beside
    return list({os.path.abspath(path): path for path in found}.values()), others


def left_out(path: Path) -> str:
    """Why `find` leaves out what may be or hold photos; "" for other files."""
    if path.is_dir():
        return f"{path}: a folder that cannot be read, or a link to one"
    is_picture = (mimetypes.guess_type(path.name)[0] or "").startswith("image/")
    return f"{path}: a kind of picture that Pillow cannot read" if is_picture else ""


def image_ids(paths: list[Path]) -> list[int]:
    """An image id for each photo: a name that is a number, as COCO's are, is its id; the others get what is free."""
    own = Counter(int(path.stem) for path in paths if path.stem.isdecimal())
    free = (number for number in count(1) if number not in own)
    return [int(path.stem) if path.stem.isdecimal() and own[int(path.stem)] == 1 else next(free) for path in paths]


def records(found: dict[str, np.ndarray], image_id: int, file_name: str, predictor: Predictor) -> list[dict]:
    """One photo's detections in COCO's results format, with masks, rotated boxes, and names for people."""
    rows = results.to_rows(found, image_id, predictor.category_ids)
    for number, (row, label) in enumerate(zip(rows, found["labels"])):
        row |= {"file_name": file_name, "category_name": predictor.classes[label - 1]}
        if "masks" in found:
            row["segmentation"] = coco.encode(found["masks"][number])
            row["rotated_box"] = found["rotated_boxes"][number].tolist()
    return rows


def table(rows: list[dict]) -> bytes:
    """Detections as CSV: one line each, boxes in pixels, angle in degrees."""
    boxes = np.array([row["bbox"] for row in rows], float).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    turned = np.array([row.get("rotated_box", [np.nan] * 5) for row in rows], float).reshape(-1, 5)
    frame = pandas.DataFrame(rows, columns=["file_name", "category_name", "score"]).join(pandas.DataFrame(
        np.hstack((boxes, turned)),
        columns=["x1", "y1", "x2", "y2", "center_x", "center_y", "width", "height", "angle"]))
    return frame.to_csv(index=False, float_format="%.3f", lineterminator="\n").encode()


def write(folder: Path, predictor: Predictor, paths: list[Path], least: float,
          also_formats: bool) -> tuple[list[dict], list[str]]:
    """All that the command writes. Returns the `records` of all photos, and a line for each photo that was left out."""
    (_, names), rows, bad, rotated = samples.below(paths), [], [], []
    pictures = samples.stems([name.as_posix() for name in names])
    for number, path, name, picture in zip(image_ids(paths), tqdm(paths, "photos", disable=None), names, pictures):
        try:
            photo = read(path)
            found = predictor.predict([photo], least)[0]
            shown = photos.best(found, least, len(found["scores"]))  # two names for one place cannot be read
            figure = photos.picture([to_pil_image((255 * photo).round().byte())], [shown], predictor.classes)
            charts.save(figure, folder / f"{picture}.png")
            rows += records(found, number, name.as_posix(), predictor)
            corners = found.get("rotated_corners", geometry.corners(found["boxes"]))
            rotated.append({"path": path, "name": name.as_posix(), "size": (photo.shape[2], photo.shape[1]),
                            "corners": corners, "labels": found["labels"], "difficult": np.zeros(len(corners), bool)})
        except (ValueError, RuntimeError, MemoryError, OSError) as error:  # the other photos' results are not lost
            if isinstance(error, OSError) and error.errno != errno.ENAMETOOLONG:
                raise  # of the disk, not of the photo
            bad.append(samples.said(path, error))
    files.write_json(folder / "detections.json", rows)
    files.write_bytes(folder / "detections.csv", table(rows))
    if also_formats:
        formats.write(folder, rotated, predictor.classes)
    return rows, bad


def main() -> int:
    """The command; returns the exit code: 1 where a photo was left out."""
    parser = argparse.ArgumentParser(prog="python -m kaod.predict", description="Finds objects in photos.")
    parser.add_argument("checkpoint", help="runs/<profile>/<model>/model.pt")
    parser.add_argument("photos", nargs="+", help="files, folders, or patterns in quotes")
    parser.add_argument("--out", default="predictions", type=Path, help="a folder (default: predictions)")
    parser.add_argument("--least", default=0.4, type=float, help="scores below are dropped (default: 0.4)")
    parser.add_argument("--formats", action="store_true", help="also dota/ and yolo/, the rotated boxes for such tools")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()
    predictor = Predictor(given.checkpoint, given.device)
    predictor.predict([], given.least)  # raises where that is no score, before anything is done
    paths, others = find(given.photos)
    for path in paths:
        if given.out.resolve() in path.resolve().parents:  # it might be overwritten, or be a result of before
            raise ValueError(f"{path} lies in the folder for results, {given.out}: name another with --out")
    with files.merged(given.out) as folder:
        rows, bad = write(folder, predictor, paths, given.least, given.formats)
    print(f"{len(rows)} objects in {len(paths) - len(bad)} photos: {given.out}/")
    reasons = [left_out(path) for path in others]
    bad += filter(None, reasons)
    for message in bad:
        print(f"skipped {message}", file=sys.stderr)
    if "" in reasons:
        kinds = sorted({path.suffix or path.name for path, reason in zip(others, reasons) if not reason})
        print(f"not looked at: {reasons.count('')} files of other kinds ({', '.join(kinds)})", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    command(main)
