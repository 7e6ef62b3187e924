"""VOC's and COCO's layouts to one kind of sample, and back.

A *set* is named as each layout names it: "VOC2007/trainval" is VOCdevkit/VOC2007 with
ImageSets/Main/trainval.txt; "annotations/instances_val2017.json" is that file with the photos in
val2017/ (the part after `instances_`).
"""

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import shapely
import torch
from defusedxml import ElementTree
from PIL import Image
from pycocotools import mask as rle
from torchvision.transforms.functional import pil_to_tensor

from ..geometry import polygon, trace
from ..params import Profile
from . import files


@dataclass(frozen=True)
class Sample:
    """One photo and its n objects.

    path: the photo. size: (width, height). boxes: (n, 4) pixels, x1 y1 x2 y2. labels: (n,), from 1.
    ignore: (n,), true where finding the object counts neither as right nor as wrong (VOC's `difficult`,
    COCO's crowds). polygons: for each object its outlines, each (V, 2) pixels; empty where unknown.
    id: the photo's number, COCO's own or counted from 1 over the loaded sets; None: not loaded from a profile.
    areas: (n,) px², as a COCO file gives them; None: those of outlines or boxes. crowds: by the object's number,
    the run-length masks of COCO's crowds.
    """

    path: Path | str
    size: tuple[int, int]
    boxes: np.ndarray
    labels: np.ndarray
    ignore: np.ndarray
    polygons: list[list[np.ndarray]]
    id: int | str | None = None
    areas: np.ndarray | None = None
    crowds: dict[int, dict] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return Path(self.path).stem

    def image(self) -> Image.Image:
        """The photo in RGB, unturned (COCO's annotations ignore EXIF orientation, and so do VOC's).

        Raises ValueError, naming the file, where it is missing, broken, or not of the annotated size.
        """
        try:
            with Image.open(self.path) as photo:
                mode, image = photo.mode, photo.convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ValueError(f"{self.path}: not a readable photo ({error})") from None
        if mode.startswith(("I", "F")):  # which Pillow would cut off at 255
            raise ValueError(f"{self.path}: expected 8 bits a channel; got Pillow's mode {mode}; please convert it")
        if image.size != self.size:
            raise ValueError(f"{self.path}: {image.size[0]}×{image.size[1]} pixels, but its annotation says "
                             f"{self.size[0]}×{self.size[1]}")
        return image


@dataclass(frozen=True)
class DataSet:
    """Samples and the names of their classes: label i is classes[i - 1], with category_ids[i - 1] in COCO files."""

    classes: list[str]
    category_ids: list[int]
    samples: list[Sample]


class Photos(torch.utils.data.Dataset):
    """Samples as torchvision's detectors take them: (uint8 image (3, H, W), {"boxes", "labels", "index"}).

    Ignored objects are not in the targets.
    """

    def __init__(self, samples: list[Sample]):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        sample = self.samples[index]
        kept = ~sample.ignore
        return pil_to_tensor(sample.image()), {
            "boxes": torch.from_numpy(sample.boxes[kept]), "labels": torch.from_numpy(sample.labels[kept]),
            "index": index}


def collate(batch):
    """Photos differ in size, so a batch is two lists."""
    return tuple(map(list, zip(*batch)))


def load(profile: Profile, sets: list[str], root: Path | None = None) -> DataSet:
    """The sets of a profile that the download stage has seen; `root` reads a copy of the same layout elsewhere.

    Raises ValueError that names what is wrong; with `skip_bad`, what the download stage reported is left out.
    """
    manifest = files.read_json(profile.folder / "manifest.json")
    classes = [category["name"] for category in manifest["categories"]]
    ids = [category["id"] for category in manifest["categories"]]
    samples = read(profile, sets, classes, ids, Path(root or profile.data), [] if profile.skip_bad else None)
    if root is None and manifest["skipped"]:
        samples = [sample for sample in samples if str(sample.path) not in manifest["skipped"]]
    if profile.layout == "voc":
        samples = [replace(sample, id=number) for number, sample in enumerate(samples, 1)]
    elif set(sets) <= set(profile.test_sets) and len({sample.id for sample in samples}) < len(samples):
        raise ValueError(f"{profile.data}: an image id occurs twice in {', '.join(sets)}; ids must be unique")
    return DataSet(classes, ids, samples)


def read(profile: Profile, sets: list[str], classes: list[str], category_ids: list[int], root: Path,
         faults: list[str] | None) -> list[Sample]:
    """The samples of several sets. faults: see `read_voc`."""
    return [sample for name in sets for sample in (
        read_voc(root, name, classes, faults) if profile.layout == "voc"
        else read_coco(root, name, category_ids, faults))]


def _fault(faults: list[str] | None, message: str) -> None:
    """One line for the user: noted in the list, or, where there is none, raised."""
    if faults is None:
        raise ValueError(message)
    faults.append(message)


def _box_fault(box, size: tuple[int, int]) -> str:
    """What is wrong with a box (x1, y1, x2, y2), if anything: less than half of it is in the photo, or no area.

    A box that reaches a little over the edge is common, and stays as it is.
    """
    x1, y1, x2, y2 = box
    if not (x2 > x1 and y2 > y1):
        return f"its box ({x1:g}, {y1:g}, {x2:g}, {y2:g}) has no area"
    inside = max(0, min(x2, size[0]) - max(x1, 0)) * max(0, min(y2, size[1]) - max(y1, 0))
    if inside < (x2 - x1) * (y2 - y1) / 2:
        return f"its box ({x1:g}, {y1:g}, {x2:g}, {y2:g}) lies outside the photo of {size[0]}×{size[1]} pixels"
    return ""


# ---------------------------------------------------------------- VOC

def voc_files(root: Path, name: str) -> tuple[Path, Path, list[str]]:
    """The set's devkit folder, its list file, and the names in it."""
    folder, _, list_name = name.rpartition("/")
    listing = root / folder / "ImageSets" / "Main" / f"{list_name}.txt"
    if not folder or not listing.is_file():
        raise ValueError(f"{listing}: no such file (the set {name!r} of the VOC layout at {root})")
    annotations = root / folder / "Annotations"
    stems = [line.strip() for line in listing.read_text().splitlines() if line.strip()]
    for number, line in enumerate(stems):
        bare = re.sub(r"\s+-?[01]$", "", line)  # a class's lists have flags; but a photo may be called "photo 1"
        if bare != line and (annotations / f"{bare}.xml").is_file() and not (annotations / f"{line}.xml").is_file():
            stems[number] = bare
    return root / folder, listing, stems


def _parse_voc(path: Path):
    """(photo's file name, (w, h), [(class, difficult, box)]) of one annotation file.

    VOC counts pixels from 1 and includes the last one: (x1 − 1, y1 − 1, x2, y2) are the continuous
    coordinates in which plain IoU equals the devkit's. Some of its files give xmax before xmin, decimals,
    and nested <part>s with boxes of their own; only an object's own <bndbox> counts.
    """
    try:
        tree = ElementTree.parse(path).getroot()
        size = int(tree.findtext("size/width")), int(tree.findtext("size/height"))
        objects = []
        for item in tree.findall("object"):
            x1, y1, x2, y2 = (float(item.findtext(f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax"))
            objects.append((item.findtext("name").strip(), item.findtext("difficult", "0").strip() == "1",
                            (x1 - 1, y1 - 1, x2, y2)))
        photo = Path(tree.findtext("filename", "").strip()).name
        return photo if Path(photo).suffix else f"{path.stem}.jpg", size, objects
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (ElementTree.ParseError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path}: not a VOC annotation ({error})") from None


def voc_classes(root: Path, sets: list[str], faults: list[str] | None = None) -> list[str]:
    """The classes that occur in these sets, by name (VOC's own order). faults: see `read_voc`."""
    names = set()
    for name in sets:
        folder, _, stems = voc_files(root, name)
        for stem in stems:
            try:
                names |= {item[0] for item in _parse_voc(folder / "Annotations" / f"{stem}.xml")[2]}
            except ValueError as error:
                _fault(faults, str(error))
    return sorted(names)


def read_voc(root: Path, name: str, classes: list[str], faults: list[str] | None = None) -> list[Sample]:
    """A photo is found by the name of its annotation file, else by the <filename> in it. Polygons come from
    Polygons/*.json where the folder exists (VOC itself has none).

    faults: a list that takes one line for each thing that is wrong, which is then left out; None: the first
    such line is raised as a ValueError.
    """
    folder, _, stems = voc_files(root, name)
    photos: dict[str, list[str]] = {}
    for photo in sorted((folder / "JPEGImages").glob("*")):
        if photo.suffix.lower() in Image.registered_extensions():
            photos.setdefault(photo.stem, []).append(photo.name)
    samples = []
    for stem in stems:
        path = folder / "Annotations" / f"{stem}.xml"
        try:
            photo, size, objects = _parse_voc(path)
        except ValueError as error:
            _fault(faults, str(error))
            continue
        namesakes = photos.get(stem, [photo])  # a photo has its annotation's name; a <filename> may be out of date
        photo = photo if photo in namesakes else namesakes[0]
        polygons = [[] for _ in objects]
        outlines = folder / "Polygons" / f"{stem}.json"
        if outlines.is_file():
            polygons = [[np.array(part) for part in parts] for parts in files.read_json(outlines)]
            if len(polygons) != len(objects):
                raise ValueError(f"{outlines}: outlines of {len(polygons)} objects, but {path.name} has {len(objects)}")
        kept = []
        for number, (kind, _, box) in enumerate(objects):
            wrong = _box_fault(box, size) if kind in classes else (
                f"class {kind!r} is not among those of the training sets: {', '.join(classes)}")
            if wrong:
                _fault(faults, f"{path}: object {number + 1} ({kind}): {wrong}")
            else:
                kept.append(number)
        objects, polygons = [objects[number] for number in kept], [polygons[number] for number in kept]
        samples.append(Sample(
            folder / "JPEGImages" / photo, size,
            np.array([box for _, _, box in objects], np.float32).reshape(-1, 4),
            np.array([classes.index(kind) + 1 for kind, _, _ in objects], np.int64),
            np.array([difficult for _, difficult, _ in objects], bool), polygons))
    return samples


def write_voc(root: Path, name: str, samples: list[Sample], images, classes: list[str], masks=None) -> None:
    """One set in the VOC devkit's layout, polygons beside it where known. Photos that are not in JPEG are saved so.

    images: one PIL image each; None: no photos. masks: one instance mask each (mode P, object i has the value i + 1).
    """
    folder, _, list_name = name.rpartition("/")
    folder = Path(root) / folder
    for part in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for sample, image, mask in zip(samples, images or [None] * len(samples), masks or [None] * len(samples)):
        if image is not None:
            image.save(folder / "JPEGImages" / f"{sample.name}.jpg", quality=95)
        objects = "".join(
            f"\t<object>\n\t\t<name>{escape(classes[label - 1])}</name>\n\t\t<difficult>{int(ignore)}</difficult>\n"
            f"\t\t<bndbox><xmin>{x1 + 1:.2f}</xmin><ymin>{y1 + 1:.2f}</ymin><xmax>{x2:.2f}</xmax>"
            f"<ymax>{y2:.2f}</ymax></bndbox>\n\t</object>\n"
            for (x1, y1, x2, y2), label, ignore in zip(sample.boxes, sample.labels, sample.ignore))
        (folder / "Annotations" / f"{sample.name}.xml").write_text(
            f"<annotation>\n\t<filename>{escape(sample.name)}.jpg</filename>\n\t<size><width>{sample.size[0]}</width>"
            f"<height>{sample.size[1]}</height><depth>3</depth></size>\n{objects}</annotation>\n")
        if any(sample.polygons):
            outlines = [[np.round(part, 2).tolist() for part in parts] for parts in sample.polygons]
            files.write_json(folder / "Polygons" / f"{sample.name}.json", outlines)
        if mask is not None:
            (folder / "SegmentationObject").mkdir(exist_ok=True)
            mask.putpalette(_voc_palette())
            mask.save(folder / "SegmentationObject" / f"{sample.name}.png")
    listing = "".join(f"{sample.name}\n" for sample in samples)
    (folder / "ImageSets" / "Main" / f"{list_name}.txt").write_text(listing)
    if masks:
        (folder / "ImageSets" / "Segmentation").mkdir(exist_ok=True)
        (folder / "ImageSets" / "Segmentation" / f"{list_name}.txt").write_text(listing)


def _voc_palette() -> list[int]:
    """The devkit's colours: bit j of a value's three lowest bits goes to the channels' high bits."""
    values = np.arange(256)
    palette = np.zeros((256, 3), np.int64)
    for shift in range(8):
        for channel in range(3):
            palette[:, channel] |= (values >> (3 * shift + channel) & 1) << (7 - shift)
    return palette.flatten().tolist()


# ---------------------------------------------------------------- COCO

def coco_photos(root: Path, name: str) -> Path:
    """The folder of a set's photos: annotations/instances_NAME.json → NAME/."""
    found = re.fullmatch(r"instances_(.+)\.json", Path(name).name)
    if not found:
        raise ValueError(f"{name}: a set of the COCO layout is named annotations/instances_NAME.json, "
                         "with its photos in NAME/")
    return root / found[1]


def _parse_coco(root: Path, name: str) -> dict:
    path = root / name
    if not path.is_file():
        raise ValueError(f"{path}: no such file; in the COCO layout at {root} it has the annotations of the photos in "
                         f"{coco_photos(root, name)}")
    content = files.read_json(path)
    lists = [content.get(key) for key in ("images", "annotations", "categories")] if isinstance(content, dict) else [0]
    if not all(isinstance(each, list) and all(isinstance(item, dict) for item in each) for each in lists):
        raise ValueError(f"{path}: not a COCO annotation file (expected lists of images, annotations and categories)")
    if not all(isinstance(item.get("id"), int) and isinstance(item.get("name"), str) for item in lists[2]):
        raise ValueError(f"{path}: a category without a whole number as id and a text as name")
    if not all(isinstance(item.get("id"), (int, str)) for item in lists[0]):
        raise ValueError(f"{path}: an image whose id is neither a number nor text")
    return content


def coco_categories(root: Path, *names: str) -> list[dict]:
    """[{"id", "name"}] of the sets together, by id. Raises ValueError where they do not agree on an id's name, or use
    a name twice."""
    found: dict[int, str] = {}
    for name in names:
        for item in _parse_coco(root, name)["categories"]:
            if found.setdefault(item["id"], item["name"]) != item["name"]:
                raise ValueError(f"{root / name}: category {item['id']} is {item['name']!r}, but elsewhere "
                                 f"{found[item['id']]!r}")
    twice = {kind for kind in found.values() if list(found.values()).count(kind) > 1}
    if twice:
        raise ValueError(f"{root / names[0]}: more than one category is called {min(twice)!r}")
    return [{"id": number, "name": found[number]} for number in sorted(found)]


def decode(segmentation: dict, size: tuple[int, int]) -> np.ndarray:
    """COCO's run-length mask of a photo of `size` (w, h): (h, w), bool. Raises ValueError if it is not one."""
    counts, (width, height) = segmentation.get("counts"), size
    if segmentation.get("size") != [height, width]:
        raise ValueError(f"its run-length mask has the size {segmentation.get('size')}, its photo [{height}, {width}]")
    if isinstance(counts, list):
        if min(counts, default=0) < 0 or sum(counts) != width * height:
            raise ValueError(f"the counts of its run-length mask do not sum up to {width * height:,} pixels")
        segmentation = rle.frPyObjects(segmentation, height, width)
    return rle.decode(segmentation).astype(bool)


def encode(mask: np.ndarray) -> dict:
    """COCO's run-length mask of a mask (h, w), ready for JSON."""
    found = rle.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(mask.shape), "counts": found["counts"].decode()}


def _outlines(item: dict, size: tuple[int, int]) -> list[np.ndarray]:
    """An annotation's outlines (V, 2) from COCO's polygons, or traced from its run-length mask; none of a crowd's mask.

    Raises ValueError where a polygon has half a point, or one that is nowhere, or where the mask is not the photo's.
    """
    segmentation = item.get("segmentation")
    if isinstance(segmentation, list):
        parts = [np.array(part, np.float64) for part in segmentation]
        if not all(part.ndim == 1 and len(part) % 2 == 0 and np.isfinite(part).all() for part in parts):
            raise ValueError("a polygon of its segmentation is not a list of an even number of finite coordinates")
        return [part.reshape(-1, 2) for part in parts]
    if not isinstance(segmentation, dict):
        return []
    mask = decode(segmentation, size)
    return [] if item.get("iscrowd", 0) else [
        shapely.get_coordinates(part.exterior)[:-1] for part in shapely.get_parts(trace(mask))]


def read_coco(root: Path, name: str, category_ids: list[int], faults: list[str] | None = None) -> list[Sample]:
    """Crowds (iscrowd: 1, run-length masks) are ignored objects without polygons; other objects' run-length masks
    are traced. faults: see `read_voc`."""
    path, photos = root / name, coco_photos(root, name)
    content = _parse_coco(root, name)
    labels = {category: index + 1 for index, category in enumerate(category_ids)}
    images = {}
    for image in content["images"]:
        if image["id"] in images:
            _fault(faults, f"{path}: image id {image['id']!r} occurs twice, for {images[image['id']].get('file_name')} "
                           f"and {image.get('file_name')}")
        else:
            images[image["id"]] = image
    by_image: dict[int | str, list] = {number: [] for number in images}
    for item in content["annotations"]:
        image, number = item.get("image_id"), item.get("id")
        known = isinstance(image, (int, str)) and isinstance(item.get("category_id"), int)
        if not known or image not in by_image or item["category_id"] not in labels:
            _fault(faults, f"{path}: annotation {number} names an unknown image or category")
            continue
        try:
            size = images[image].get("width"), images[image].get("height")
            x, y, width, height = map(float, item["bbox"])
            float(item.get("area", 0))
            wrong = _box_fault((x, y, x + width, y + height), size)
            outlines = [] if wrong else _outlines(item, size)
        except ValueError as error:
            wrong = str(error)
        except (KeyError, TypeError) as error:
            wrong = f"it or its image is broken: {type(error).__name__} {error}"
        if wrong:
            _fault(faults, f"{path}: annotation {number}: {wrong}")
        else:
            by_image[image].append((item, outlines))
    samples = []
    for number, image in images.items():
        try:
            items = [item for item, _ in by_image[number]]
            boxes = np.array([item["bbox"] for item in items], np.float64).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            crowd = [bool(item.get("iscrowd", 0)) for item in items]
            samples.append(Sample(
                photos / image["file_name"], (int(image["width"]), int(image["height"])), boxes.astype(np.float32),
                np.array([labels[item["category_id"]] for item in items], np.int64),
                np.array(crowd, bool), [outlines for _, outlines in by_image[number]], number,
                np.array([item.get("area", (x2 - x1) * (y2 - y1)) for item, (x1, y1, x2, y2) in zip(items, boxes)],
                         np.float64),
                {index: item["segmentation"] for index, item in enumerate(items)
                 if crowd[index] and isinstance(item.get("segmentation"), dict)}))
        except (KeyError, TypeError, ValueError) as error:
            _fault(faults, f"{path}: image {number} is broken: {type(error).__name__} {error}")
    return samples


def to_coco(dataset: DataSet) -> dict:
    """A COCO annotation file's content; photos that have no id are numbered from 1. An ignored object becomes
    `iscrowd`, with its box as the mask where nothing better is known."""
    images, annotations = [], []
    for number, sample in enumerate(dataset.samples, 1):
        image_id = number if sample.id is None else sample.id
        images.append({"id": image_id, "file_name": Path(sample.path).name,
                       "width": sample.size[0], "height": sample.size[1]})
        for index, (box, label, ignore, parts) in enumerate(zip(
                sample.boxes.astype(float).tolist(), sample.labels, sample.ignore, sample.polygons)):
            x1, y1, x2, y2 = box
            if sample.areas is not None:
                area = float(sample.areas[index])
            else:
                area = polygon(parts).area if parts else (x2 - x1) * (y2 - y1)
            mask = sample.crowds.get(index) or [part.flatten().tolist() for part in parts if len(part) >= 3]
            if ignore and not mask:
                mask = [[x1, y1, x2, y1, x2, y2, x1, y2]]
            annotations.append({
                "id": len(annotations) + 1, "image_id": image_id, "category_id": dataset.category_ids[label - 1],
                "bbox": [x1, y1, x2 - x1, y2 - y1], "area": area, "iscrowd": int(ignore), "segmentation": mask})
    return {"images": images, "annotations": annotations,
            "categories": [{"id": number, "name": name}
                           for number, name in zip(dataset.category_ids, dataset.classes)]}


def write_coco(root: Path, name: str, dataset: DataSet, images=None) -> None:
    """One set in COCO's layout. images: one PIL image each, saved in JPEG whatever the name says; None: no photos."""
    folder = coco_photos(Path(root), name)
    content = to_coco(dataset)
    names = [item["file_name"] for item in content["images"]]
    if len(set(names)) < len(names):  # photos of several folders
        for number, item in enumerate(content["images"], 1):
            item["file_name"] = f"{number}-{item['file_name']}"
    folder.mkdir(parents=True, exist_ok=True)
    for item, image in zip(content["images"], images or []):
        image.save(folder / item["file_name"], "JPEG", quality=95)
    files.write_bytes(Path(root) / name, json.dumps(content).encode())
