"""Upright boxes in; rotated boxes and masks out, for a data set that has boxes alone.

`python -m kaod.relabel CHECKPOINT ANNOTATIONS --photos FOLDER --out OUT` reads the model's keypoints at each labelled
object. ANNOTATIONS is a COCO file, or the list of a VOC set (VOC2007/ImageSets/Main/NAME.txt, with its photos). OUT has
annotations.json   COCO's format: ids and all other fields as they were, and for each object `segmentation` (the hull),
                   `rotated_box` (centre x, y, width, height, angle), `score`, and, where the upright box stayed as it
                   was, `unsure`: why,
dota/, yolo/       the rotated boxes for DOTA's and YOLO-OBB's tools, see `data.formats`,
SegmentationObject/, SegmentationClass/  the masks as VOC has them, where the input is VOC's,
sheet.png          the surest objects, the least sure, and random ones, to judge by eye,
truth.json         with `--truth FILE`, COCO's format, the same annotation ids and true outlines: how good it all is.
From Python: `kaod.load("model.pt").relabel(photos, boxes, labels)`.

The score says how well turned copies of the photo agree: the mean IoU of the smallest rectangle around what each copy
gives with the rotated box of all together, in [0, 1].
"""

import argparse
import os
import shlex
import sys
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
import shapely
import torch
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor
from tqdm import tqdm

from . import command, geometry, model
from .data import coco, fields, files, formats, voc
from .data.samples import DataSet, Sample
from .evaluation import compare, outlines, relabelled
from .figures import charts, photos
from .training import checkpoints

SHOWN = 8  # objects in a row of the sheet
TURNS = 7  # copies of a photo, evenly within the angles of the training
DIRECTIONS = np.array([(np.cos(turn), np.sin(turn)) for turn in np.linspace(0, 2 * np.pi, 72, endpoint=False)])


@dataclass
class Object:
    """A labelled object. place: in the file's list of annotations. label: from 1, of the file's classes; box: (4,).

    unsure: why the upright box stays, if it does; else the score, the outline (D, 2), and the corners (4, 2) of the
    rotated box.
    """

    place: int
    label: int
    box: np.ndarray
    difficult: bool = False
    unsure: str | None = None
    score: float = 0.0
    outline: np.ndarray | None = None
    corners: np.ndarray | None = None


@torch.inference_mode()
def read(detector: model.KAOD, photo: Tensor, boxes: Tensor, labels: Tensor) -> list[np.ndarray]:
    """What the detector says of labelled objects: for each its keypoints (V, K, 2) in pixels of the photo, from V
    turned copies of it, turned back.

    photo: (3, H, W). boxes: (n, 4). labels: (n,), the model's. In each copy an object is read at the location nearest
    its centre that FCOS would give it for training. In a copy where it has none, since smaller ones cover it or it left
    the frame, it is not read; so V may be 0. (Means over all its locations, weighted by score or not, are worse.)
    """
    target = {"boxes": boxes, "labels": labels}
    images, targets = detector.transform([photo] * TURNS, [target] * TURNS)
    sizes = model.photo_sizes(images)
    angles = torch.linspace(-1, 1, TURNS).to(sizes) * detector.settings.angle
    views = detector.views(images, geometry.rigid(angles, torch.zeros_like(sizes), sizes / 2), "mean", first=False)
    _, matched = detector.turned_losses(targets, views)
    off = (matched.o - geometry.centers(matched.boxes)).norm(dim=1)
    scale = photo.new_tensor(photo.shape[:0:-1]) / sizes[0]
    found = []
    for box in targets[0]["boxes"]:
        mine = (matched.boxes == box).all(1)
        here = [(mine & (matched.image == turn)).nonzero()[:, 0] for turn in range(TURNS)]
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


def rotated_box(views: np.ndarray, box: np.ndarray, fills: bool) -> tuple[np.ndarray, float]:
    """The corners (4, 2) of an object's rotated box, and its score, as this module's docstring says."""
    corners = geometry.rectangle_in_box(geometry.hulls(mean_hull(views)[None])[0], box, fills)
    alone = geometry.rotated_boxes(fitted(views, box))[0]
    return corners, float(outlines.iou(*map(shapely.polygons, (corners, alone)), 1e-9).mean())


def relabel(detector: model.KAOD, photo: Tensor, objects: list[Object], known: dict[int, int],
            least: float = 0.0, fills: bool = False) -> None:
    """Reads the objects of one photo (3, H, W), and fills in what was found. Scores below `least` are unsure.

    fills: the objects fill their rotated boxes, as cars and parcels do; the box is then the outline, too.

    known: the model's labels, by those of the objects. An object that is unsure already is left as it is. Raises
    ValueError where the model has no keypoints.
    """
    if not isinstance(detector, model.KAOD):
        raise ValueError("expected a model with keypoints; FCOS has none")
    frame = np.array(photo.shape[:0:-1], float)
    for each in objects:
        if each.unsure is None and each.label not in known:
            each.unsure = "the model does not know its class"
        elif each.unsure is None and ((each.box[:2] < 1).any() or (each.box[2:] > frame - 1).any()):
            each.unsure = "cut by the frame"
    open_ = [each for each in objects if each.unsure is None]
    if not open_:
        return
    boxes = torch.tensor(np.array([each.box for each in open_]), dtype=torch.float32, device=photo.device)
    labels = torch.tensor([known[each.label] for each in open_], device=photo.device)
    for each, views in zip(open_, read(detector, photo, boxes, labels)):
        if len(views) == 0 or np.ptp(views, axis=1).min() < 1e-3:
            each.unsure = "no location of the network sees it"
            continue
        each.corners, each.score = rotated_box(views, each.box, fills)
        each.outline = each.corners if fills else fitted(mean_hull(views), each.box)
        if each.score < least:
            each.unsure = f"its score is below {least:g}"


def answers(detector: model.KAOD, photo: Tensor, boxes, labels, classes: list[str], fills: bool = False) -> dict:
    """What `relabel` fills in of objects (n) of one photo: outlines, rotated_corners (n, 4, 2), rotated_boxes (n, 5),
    scores (n,), and unsure: why the upright box stayed, or None. labels: the model's numbers, or names of its classes.

    Raises ValueError where boxes or labels are not of that form.
    """
    boxes = np.array(boxes, float).reshape(-1, 4)
    wrong = [each for each in labels if each not in classes and each not in range(1, len(classes) + 1)]
    if wrong or len(labels) != len(boxes) or not (boxes[:, 2:] > boxes[:, :2]).all():
        raise ValueError("expected boxes (x1, y1, x2, y2) with an area, and a label for each, from 1 to "
                         f"{len(classes)} or one of {', '.join(classes)}; got {len(boxes)} boxes and {list(labels)}")
    numbers = [classes.index(each) + 1 if isinstance(each, str) else int(each) for each in labels]
    objects = [Object(place, *each) for place, each in enumerate(zip(numbers, boxes))]
    relabel(detector, photo, objects, {label: label for label in numbers}, fills=fills)
    corners = np.array([upright(each.box) if each.unsure else each.corners for each in objects]).reshape(-1, 4, 2)
    return {"outlines": [upright(each.box) if each.unsure else each.outline for each in objects],
            "rotated_corners": corners, "rotated_boxes": geometry.rotated_boxes(corners)[1],
            "scores": np.array([each.score for each in objects]), "unsure": [each.unsure for each in objects]}


def read_coco(path: Path, folder: Path) -> tuple[dict, list[tuple[Sample, list[Object]]], list[str]]:
    """A file's content, its photos with their objects, and what is wrong, one line each.

    Raises ValueError that names the file where it is not COCO's at all.
    """
    content, faults = coco.parse(path), []
    names = {item["id"]: item["name"] for item in content["categories"]}
    labels = {number: label for label, number in enumerate(names, 1)}
    images = coco.read_images(path, content["images"], faults)
    found = {key: (Sample.of(folder / each[1], each[2], [], id=each[0]), []) for key, each in images.items() if each}
    for place, item in enumerate(content["annotations"]):
        try:
            key = str(fields.identity(item.get("image_id"), "image_id"))
            if key not in found:
                raise ValueError(f"image_id is {key}, which no image that can be read has")
            sample, objects = found[key]
            (box, label, ignore, _), *_ = coco.read_object(item, sample.size, labels, names)
            crowd = fields.flag(item.get("iscrowd"), "iscrowd")
            objects.append(Object(place, label, np.array(box), ignore, "it is a crowd" if crowd else None))
        except ValueError as error:
            faults.append(f"{path}: {coco.entry('annotation', item, place + 1)}: {error}")
    return content, list(found.values()), faults


def read_voc(path: Path) -> tuple[dict, list[tuple[Sample, list[Object]]], list[str]]:
    """The same of a VOC set, from its list: its content as COCO has it, with ids from 1."""
    folder, faults = path.resolve().parents[2], []
    name = f"{folder.name}/{path.stem}"
    classes = voc.classes(folder.parent, [name], [])
    samples = [replace(sample, id=number) for number, sample in enumerate(
        voc.read(folder.parent, name, classes, faults), 1)]
    content = coco.to_coco(DataSet(classes, list(range(1, len(classes) + 1)), samples), folder / "JPEGImages")
    place, found = count(), []
    for sample in samples:
        found.append((sample, [Object(next(place), label, box.astype(float), bool(difficult)) for box, label, difficult
                               in zip(sample.boxes, sample.labels.tolist(), sample.ignore)]))
    return content, found, faults


def filled(content: dict, work: list[tuple[Sample, list[Object]]]) -> dict:
    """The annotation file, with what was read."""
    annotations = list(content["annotations"])
    for each in (each for _, objects in work for each in objects):
        corners = upright(each.box) if each.unsure else each.corners
        new = {"rotated_box": [round(value, 2) for value in geometry.rotated_boxes(corners[None])[1][0].tolist()],
               "score": round(each.score, 4)}
        if each.unsure:
            new["unsure"] = each.unsure
        else:
            new["segmentation"] = [geometry.hulls(each.outline[None])[0].round(2).flatten().tolist()]
        annotations[each.place] = annotations[each.place] | new
    return content | {"annotations": annotations}


def upright(box: np.ndarray) -> np.ndarray:
    """The corners (4, 2) of a box (4,)."""
    return geometry.corners(torch.from_numpy(box)).numpy()


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
    if given.out.exists() and not (given.out.is_dir() and (
            (given.out / "annotations.json").is_file() or not any(given.out.iterdir()))):
        raise ValueError(f"{given.out}: expected a new folder, or one that this command wrote")
    detector, classes, _ = checkpoints.load(given.checkpoint, given.device)
    if not isinstance(detector, model.KAOD):
        raise ValueError(f"{given.checkpoint}: expected a model with keypoints; FCOS has none")
    of_voc = given.annotations.suffix == ".txt"
    content, work, faults = read_voc(given.annotations) if of_voc else read_coco(
        given.annotations, given.photos or coco.photo_folder(Path(), os.fspath(given.annotations)))
    names = [item["name"] for item in content["categories"]]
    known = {label: classes.index(name) + 1 for label, name in enumerate(names, 1) if name in classes}
    for sample, objects in tqdm(work, "photos", disable=None):
        try:
            photo = pil_to_tensor(sample.image()).to(given.device).float() / 255
            relabel(detector, photo, objects, known, given.least, given.fills)
        except ValueError as error:
            faults.append(str(error))
            for each in objects:
                each.unsure = "its photo cannot be read"
    faults += [f"{sample.path}: {coco.entry('annotation', content['annotations'][each.place], each.place + 1)} "
               f"({names[each.label - 1]}) keeps its upright box: {each.unsure}"
               for sample, objects in work for each in objects if each.unsure]
    with files.whole(given.out) as folder:
        write(folder, content, work, names, of_voc)
        files.write_bytes(folder / "left.txt", "".join(f"{line}\n" for line in faults).encode())
        if given.truth:
            groups, quarters = relabelled.told(relabelled.quality(content, work, given.truth))
            print(f"mean IoU with the truth\n{groups.round(3).to_string()}\n\nby quarter of the score\n"
                  f"{quarters.round(3).to_string()}\n")
            files.write_json(folder / "truth.json", {
                "command": shlex.join(["python", "-m", "kaod.relabel", *sys.argv[1:]]), "commit": compare.commit(),
                "groups": groups.T.to_dict(), "quarters": quarters.T.to_dict()})
    done = [each.unsure is None for _, objects in work for each in objects]
    print(f"{sum(done):,} of {len(done):,} objects in {len(work):,} photos: {given.out}/")
    for line in faults[:20] + [f"… and {len(faults) - 20:,} more, in {given.out}/left.txt"] * (len(faults) > 20):
        print(line, file=sys.stderr)
    return 1 if faults else 0


def write(folder: Path, content: dict, work: list[tuple[Sample, list[Object]]], classes: list[str],
          of_voc: bool) -> None:
    """All that this module's docstring names, but truth.json. classes: of the file, in the order of its labels."""
    files.write_json(folder / "annotations.json", filled(content, work))
    names = {str(image.get("id")): image["file_name"] for image in content["images"] if "file_name" in image}
    rows = [{"path": sample.path, "name": names[str(sample.id)], "size": sample.size,
             "corners": np.array([upright(each.box) if each.unsure else each.corners for each in objects]).reshape(
                 -1, 4, 2),
             "labels": np.array([each.label for each in objects], int),
             "difficult": np.array([each.difficult for each in objects], bool)} for sample, objects in work]
    formats.write(folder, rows, classes)
    for row, (sample, objects) in zip(rows, work if of_voc else ()):
        shapes = [upright(each.box) if each.unsure else each.outline for each in objects]
        formats.voc(folder, Path(row["name"]).with_suffix(""), shapes, row["labels"], sample.size)
    sure = sorted(((each.score, number, sample, each) for number, (sample, objects) in enumerate(work)
                   for each in objects if not each.unsure), key=lambda row: row[:2], reverse=True)
    if sure:
        chosen = np.random.default_rng(0).permutation(len(sure))[:SHOWN]
        charts.save(photos.sheet({"surest": sure[:SHOWN], "least sure": sure[::-1][:SHOWN],
                                  "random": [sure[index] for index in chosen]}, classes), folder / "sheet.png")


if __name__ == "__main__":
    command(main)
