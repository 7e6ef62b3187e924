"""Upright boxes in; rotated boxes and masks out, for a data set that has boxes alone.

`python -m kaod.relabel CHECKPOINT ANNOTATIONS --photos FOLDER --out OUT` reads the model's keypoints at each labelled
object. ANNOTATIONS is a COCO file, or the list of a VOC set (VOC2007/ImageSets/Main/NAME.txt, with its photos). OUT has
annotations.json   COCO's format: ids and all other fields as they were, and for each object `segmentation` (the hull),
                   `rotated_box` (centre x, y, width, height, angle), `score`, and, where the upright box stays,
                   `unsure`: why (where the frame cuts it, the hull is that of the part that is seen),
dota/, yolo/       the rotated boxes for DOTA's and YOLO-OBB's tools, see `data.formats`,
SegmentationObject/, SegmentationClass/  the masks as VOC has them, where the input is VOC's,
left.txt           what is wrong, and which objects keep their upright box, one line each,
sheet.png          the surest objects, the least sure, and random ones, to judge by eye,
page.html          every photo with what was read on it, to leaf through in a browser,
truth.json         with `--truth FILE`, COCO's format, the same annotation ids and true outlines: how good it all is.
From Python: `kaod.load("model.pt").relabel(photos, boxes, labels)`.

The rotated box has the angle of the keypoints' hull, and sides that agree with the labelled box. The score says how
well turned copies of the photo agree: it is the mean IoU of that box, read from all of them, with the smallest
rectangle around what each gives alone, in [0, 1].
"""

import argparse
import json
import shlex
import sys
from pathlib import Path

import numpy as np
import shapely
import torch
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor
from tqdm import tqdm

from . import command, geometry, model
from .data import files, formats, labelled, samples
from .data.labelled import Labelled, Object
from .evaluation import compare, outlines, relabelled
from .figures import charts, page
from .figures import photos as drawing
from .training import checkpoints

SHOWN = 8  # objects in a row of the sheet
TURNS = 7  # copies of a photo
DIRECTIONS = np.array([(np.cos(turn), np.sin(turn)) for turn in np.linspace(0, 2 * np.pi, 72, endpoint=False)])
WRITTEN = {"annotations.json", "left.txt", "dota", "yolo", "SegmentationObject", "SegmentationClass", "sheet.png",
           "page.html", "truth.json"}
CUT = "cut by the frame"
NO_HULL = "expected a model with three keypoints or more; a line has no rotated box, and FCOS has none"


def has_hull(detector: model.FCOS) -> bool:
    """Whether it has keypoints, and enough to span an area."""
    return isinstance(detector, model.KAOD) and detector.head.regression_head.bbox_reg.out_channels >= 6


@torch.inference_mode()
def read(detector: model.KAOD, photo: Tensor, boxes: Tensor, labels: Tensor,
         angles: Tensor | None = None) -> list[np.ndarray]:
    """What the detector says of labelled objects: for each its keypoints (V, K, 2) in pixels of the photo, from V
    turned copies of it, turned back.

    photo: (3, H, W). boxes: (n, 4). labels: (n,), the model's. angles: of the copies, in degrees; None: TURNS of them,
    evenly within those of the training. In each copy an object is read at the location nearest
    its centre that FCOS would give it for training. In a copy where it has none, since smaller ones cover it or it left
    the frame, it is not read; so V may be 0. (Means over all its locations, weighted by score or not, are worse.)
    """
    if angles is None:
        angles = torch.linspace(-1, 1, TURNS) * detector.settings.angle
    target = {"boxes": boxes, "labels": labels}
    images, targets = detector.transform([photo] * len(angles), [target] * len(angles))
    sizes = geometry.photo_sizes(images)
    T = geometry.rigid(angles.to(sizes), torch.zeros_like(sizes), sizes / 2)
    views = detector.views(images, T, "mean", first=False)
    _, matched = detector.turned_losses(targets, views)
    off = (matched.o - geometry.centers(matched.boxes)).norm(dim=1)
    scale = photo.new_tensor(photo.shape[:0:-1]) / sizes[0]
    found = []
    for box in targets[0]["boxes"]:
        mine = (matched.boxes == box).all(1)
        here = [(mine & (matched.image == turn)).nonzero()[:, 0] for turn in range(len(angles))]
        nearest = [int(each[off[each].argmin()]) for each in here if len(each)]
        found.append((matched.points[torch.tensor(nearest, dtype=torch.long)] * scale).cpu().numpy().astype(float))
    return found


def fitted(points: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Points (..., P, 2) moved and scaled along x and y, so that their extent is the box (4,)."""
    low = points.min(-2, keepdims=True)
    extent = np.maximum(np.ptp(points, axis=-2, keepdims=True), 1e-6)
    return (points - low) / extent * (box[2:] - box[:2]) + box[:2]


def mean_hull(views: np.ndarray) -> np.ndarray:
    """The mean (D, 2) of the hulls of an object's keypoints in several views (V, K, 2).

    The mean of convex shapes is Minkowski's: its outermost point in each direction is the mean of theirs.
    """
    outermost = (views @ DIRECTIONS.T).argmax(1)  # (V, D)
    return np.take_along_axis(views, outermost[..., None], 1).mean(0)


def rotated_box(views: np.ndarray, mean: np.ndarray, box: np.ndarray, fills: bool) -> tuple[np.ndarray, float]:
    """The corners (4, 2) of an object's rotated box, and its score, as this module's docstring says.

    views: (V, K, 2), its keypoints. mean: (D, 2), their `mean_hull`. box: (4,), the labelled one.
    """
    corners = geometry.rectangle_in_box(geometry.hulls(mean[None])[0], box, fills)
    alone = geometry.rotated_boxes(fitted(views, box))[0]
    agree = outlines.iou(*map(shapely.polygons, (corners, alone)), outlines.GRID)
    return corners, float(agree.mean()) if len(views) > 1 else 0.0  # one copy has none to agree with


def relabel(detector: model.KAOD, photo: Tensor, objects: list[Object], known: dict[int, int],
            least: float = 0.0, fills: bool = False) -> None:
    """Reads the objects of one photo (3, H, W), and fills in what was found. Scores below `least` are unsure.

    fills: the objects fill their rotated boxes, as cars and parcels do; these are the outlines, too. known: the model's
    labels, by those of the objects. An object that is unsure already is left as it is. One that the frame cuts is seen
    in part: it has the outline of what is seen, and no rotated box. Raises ValueError where the model has no hull.
    """
    if not has_hull(detector):
        raise ValueError(NO_HULL)
    frame = np.array(photo.shape[:0:-1], float)
    for each in objects:
        if each.unsure is None and each.label not in known:
            each.unsure = "the model does not know its class"
        elif each.unsure is None and ((each.box[:2] < 1).any() or (each.box[2:] > frame - 1).any()):
            each.unsure = CUT
    open_ = [each for each in objects if each.unsure in (None, CUT)]
    if not open_:
        return
    boxes = torch.tensor(np.array([each.box for each in open_]), dtype=torch.float32, device=photo.device)
    labels = torch.tensor([known[each.label] for each in open_], device=photo.device)
    for each, views in zip(open_, read(detector, photo, boxes, labels)):
        if len(views) == 0 or min(map(len, geometry.hulls(views))) < 3:
            each.unsure = each.unsure or "no location of the network sees it"
            continue
        mean = mean_hull(views)
        outline = fitted(mean, each.box)  # extents are the labelled box's
        if each.unsure:
            each.outline = outline
            continue
        corners, each.score = rotated_box(views, mean, each.box, fills)
        if each.score < least:
            each.unsure = f"its score is below {least:g}"
        else:
            each.outline, each.corners = corners if fills else outline, corners


def answers(detector: model.KAOD, photo: Tensor, boxes, labels, classes: list[str], fills: bool = False) -> dict:
    """What `relabel` fills in of objects (n) of one photo: outlines, rotated_corners (n, 4, 2), rotated_boxes (n, 5),
    scores (n,), and unsure: why the upright box stayed, or None. labels: the model's numbers, or names of its classes.

    Raises ValueError where boxes or labels are not of that form.
    """
    named = {name: number for number, name in enumerate(classes, 1)}
    try:
        numbers = [named[each] if isinstance(each, str) else int(each) for each in labels]
        corners = np.asarray(boxes).astype(float).reshape(len(numbers), 4)
        right = (corners[:, 2:] > corners[:, :2]).all() and set(numbers) <= set(named.values())
    except (KeyError, TypeError, ValueError):  # no such class, no numbers, not one each
        right = False
    if not right:
        raise ValueError("expected boxes (x1, y1, x2, y2) with an area, and for each a label, from 1 to "
                         f"{len(named)} or one of {', '.join(named)}; got boxes {str(boxes):.80} and labels "
                         f"{str(labels):.80}")
    objects = [Object(place, *each) for place, each in enumerate(zip(numbers, corners))]
    relabel(detector, photo, objects, {label: label for label in numbers}, fills=fills)
    corners = np.array([each.corners for each in objects]).reshape(-1, 4, 2)
    return {"outlines": [each.outline for each in objects], "rotated_corners": corners,
            "rotated_boxes": geometry.rotated_boxes(corners)[1],
            "scores": np.array([each.score for each in objects]), "unsure": [each.unsure for each in objects]}


def ours(folder: Path) -> bool:
    """Whether it is new, empty, or what this command wrote: all else is somebody's, and to be kept."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    return not folder.exists() or folder.is_dir() and (
        not names or {"annotations.json", "left.txt"} <= names <= WRITTEN)


def run(checkpoint, annotations: Path, out: Path, photos: Path | None = None, truth: Path | None = None,
        least: float = 0.0, fills: bool = False, device: str = "cpu") -> tuple[Labelled, dict | None]:
    """What the command does: the data set, with what was read and what is wrong, and `relabelled.told` of the truth.

    `out` is written at the end, whole. Raises ValueError for what no object can be read with, or from, and where `out`
    is somebody's.
    """
    if not ours(out):
        raise ValueError(f"{out}: expected a new folder, or one that this command wrote")
    if not 0 <= least <= 1:
        raise ValueError(f"--least: expected a score from 0 to 1; got {least}")
    detector, classes, _ = checkpoints.load(checkpoint, device)
    if not has_hull(detector):
        raise ValueError(f"{checkpoint}: {NO_HULL}")
    data = labelled.read(annotations, photos)
    true = relabelled.known(data, truth) if truth else None
    known = {label: classes.index(name) + 1 for label, name in enumerate(data.classes, 1) if name in classes}
    with files.whole(out) as folder:
        for each in tqdm(data.photos, "photos", disable=None):
            try:
                photo = pil_to_tensor(each.sample.image()).to(device).float() / 255
                relabel(detector, photo, each.objects, known, least, fills)
            except (ValueError, RuntimeError, MemoryError) as error:  # the other photos' objects are not lost
                data.faults.append(samples.said(each.sample.path, error))
                for item in each.objects:
                    item.unsure = "its photo cannot be read"
        data.faults += [f"{each.sample.path}: {data.named(item)} keeps its upright box: {item.unsure}"
                        for each in data.photos for item in each.objects if item.unsure]
        write(folder, data, voc=annotations.suffix == ".txt")
        told = relabelled.told(relabelled.quality(true, data.classes)) if true else None
        if told:
            given = [checkpoint, annotations, "--truth", truth, "--least", least]
            given += (["--photos", photos] if photos else []) + ["--fills"] * fills
            files.write_json(folder / "truth.json", {
                "command": shlex.join(map(str, ["python", "-m", "kaod.relabel", *given])), "commit": compare.commit(),
                **{name: table.to_dict("index") for name, table in told.items()}})
    return data, told


def write(folder: Path, data: Labelled, voc: bool) -> None:
    """All that this module's docstring names, but truth.json."""
    files.write_bytes(folder / "annotations.json", json.dumps(labelled.filled(data)).encode())
    files.write_bytes(folder / "left.txt", "".join(f"{line}\n" for line in data.faults).encode())
    formats.write(folder, [
        {"path": each.sample.path, "name": each.name, "size": each.sample.size,
         "corners": np.array([item.corners for item in each.objects]).reshape(-1, 4, 2),
         "labels": np.array([item.label for item in each.objects], int),
         "difficult": np.array([item.difficult for item in each.objects], bool)} for each in data.photos], data.classes)
    for each in data.photos if voc else ():
        outlines, labels, numbers = zip(*((item.outline, item.label, item.number) for item in each.objects)) \
            if each.objects else ((), (), ())
        formats.voc(folder, str(Path(each.name).with_suffix("")), outlines, labels, numbers, each.sample.size)
    files.write_bytes(folder / "page.html", page.page(data).encode())
    sure = [(each.sample, item) for each in data.photos for item in each.objects if not item.unsure]
    sure.sort(key=lambda pair: pair[1].score, reverse=True)
    if sure:
        chosen = np.random.default_rng(0).permutation(len(sure))[:SHOWN]
        charts.save(drawing.sheet({"surest": sure[:SHOWN], "least sure": sure[::-1][:SHOWN],
                                  "random": [sure[index] for index in chosen]}, data.classes), folder / "sheet.png")


def main() -> int:
    """The command; returns the exit code: 1 where an object kept its upright box, or something could not be read."""
    parser = argparse.ArgumentParser(prog="python -m kaod.relabel", description="Rotated boxes and masks of labelled "
                                     "objects, from a model that learned their upright boxes.")
    parser.add_argument("checkpoint", help="runs/<profile>/<model>/model.pt")
    parser.add_argument("annotations", type=Path, help="a COCO file, or a VOC set's list, ImageSets/Main/NAME.txt")
    parser.add_argument("--photos", type=Path, help="the folder that a COCO file's names start from (default: as in "
                        "COCO, NAME/ beside annotations/instances_NAME.json)")
    parser.add_argument("--out", default="relabelled", type=Path, help="a folder (default: relabelled)")
    parser.add_argument("--least", default=0.0, type=float, help="objects with a lower score keep their upright box")
    parser.add_argument("--fills", action="store_true", help="the objects fill their rotated boxes, as cars do")
    parser.add_argument("--truth", type=Path, help="a COCO file with the true outlines, to judge the result")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()
    data, told = run(**vars(given))
    for title, table in zip(("mean IoU with the truth", "by class", "by quarter of the score"), (told or {}).values()):
        print(f"{title}\n{table.round(3).to_string()}\n")
    done = [item.unsure is None for each in data.photos for item in each.objects]
    print(f"{sum(done):,} of {len(done):,} objects in {len(data.photos):,} photos: {given.out}/")
    for line in data.faults[:20]:
        print(line, file=sys.stderr)
    if len(data.faults) > 20:
        print(f"… and {len(data.faults) - 20:,} more, in {given.out}/left.txt", file=sys.stderr)
    return 1 if data.faults else 0


if __name__ == "__main__":
    command(main)
