"""VOC's and COCO's layouts to one kind of sample, and back.

A *set* is named as each layout names it: "VOC2007/trainval" is VOCdevkit/VOC2007 with
ImageSets/Main/trainval.txt; "annotations/instances_val2017.json" is that file with the photos in
val2017/ (the part after `instances_`).
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import torch
from defusedxml import ElementTree
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from . import files
from .geometry import polygon
from .params import Profile


@dataclass(frozen=True)
class Sample:
    """One photo and its n objects.

    path: the photo. size: (width, height). boxes: (n, 4) pixels, x1 y1 x2 y2. labels: (n,), from 1.
    ignore: (n,), true where finding the object counts neither as right nor as wrong (VOC's `difficult`,
    COCO's crowds). polygons: for each object its outlines, each (V, 2) pixels; empty where unknown.
    """

    path: Path | str
    size: tuple[int, int]
    boxes: np.ndarray
    labels: np.ndarray
    ignore: np.ndarray
    polygons: list[list[np.ndarray]]

    @property
    def name(self) -> str:
        return Path(self.path).stem

    def image(self) -> Image.Image:
        """The photo in RGB, unturned (COCO's annotations ignore EXIF orientation, and so do VOC's).

        Raises ValueError, naming the file, where it is missing, broken, or not of the annotated size.
        """
        try:
            with Image.open(self.path) as photo:
                image = photo.convert("RGB")
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"{self.path}: not a readable photo ({error})") from None
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

    Only what can be learned is in the targets: no ignored objects, and no box without area.
    """

    def __init__(self, samples: list[Sample]):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        sample = self.samples[index]
        kept = ~sample.ignore & (sample.boxes[:, 2:] - sample.boxes[:, :2] > 0).all(1)
        return pil_to_tensor(sample.image()), {
            "boxes": torch.from_numpy(sample.boxes[kept]), "labels": torch.from_numpy(sample.labels[kept]),
            "index": index}


def collate(batch):
    """Photos differ in size, so a batch is two lists."""
    return tuple(map(list, zip(*batch)))


def load(profile: Profile, sets: list[str], root: Path | None = None) -> DataSet:
    """The sets of a profile that the download stage has seen; `root` reads a copy of the same layout elsewhere."""
    categories = files.read_json(profile.folder / "manifest.json")["categories"]
    classes = [category["name"] for category in categories]
    ids = [category["id"] for category in categories]
    root = Path(root or profile.data)
    samples = []
    for name in sets:
        samples += read_voc(root, name, classes) if profile.layout == "voc" else read_coco(root, name, ids)
    return DataSet(classes, ids, samples)


# ---------------------------------------------------------------- VOC

def voc_files(root: Path, name: str) -> tuple[Path, Path, list[str]]:
    """The set's devkit folder, its list file, and the names in it."""
    folder, _, list_name = name.rpartition("/")
    listing = root / folder / "ImageSets" / "Main" / f"{list_name}.txt"
    if not folder or not listing.is_file():
        raise ValueError(f"{listing}: no such file (the set {name!r} of the VOC layout at {root})")
    return root / folder, listing, [line.split()[0] for line in listing.read_text().splitlines() if line.strip()]


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
        return tree.findtext("filename", "").strip() or f"{path.stem}.jpg", size, objects
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (ElementTree.ParseError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path}: not a VOC annotation ({error})") from None


def voc_classes(root: Path, sets: list[str]) -> list[str]:
    """The classes that occur in these sets, by name (VOC's own order)."""
    names = set()
    for name in sets:
        folder, _, stems = voc_files(root, name)
        for stem in stems:
            names |= {item[0] for item in _parse_voc(folder / "Annotations" / f"{stem}.xml")[2]}
    return sorted(names)


def read_voc(root: Path, name: str, classes: list[str]) -> list[Sample]:
    """Polygons come from Polygons/*.json where the folder exists (VOC itself has none)."""
    folder, _, stems = voc_files(root, name)
    samples = []
    for stem in stems:
        path = folder / "Annotations" / f"{stem}.xml"
        photo, size, objects = _parse_voc(path)
        for kind, _, _ in objects:
            if kind not in classes:
                raise ValueError(f"{path}: class {kind!r} is not among those of the training sets: "
                                 f"{', '.join(classes)}")
        outlines = folder / "Polygons" / f"{stem}.json"
        polygons = [[] for _ in objects]
        if outlines.is_file():
            polygons = [[np.array(part) for part in parts] for parts in files.read_json(outlines)]
        samples.append(Sample(
            folder / "JPEGImages" / photo, size,
            np.array([box for _, _, box in objects], np.float32).reshape(-1, 4),
            np.array([classes.index(kind) + 1 for kind, _, _ in objects], np.int64),
            np.array([difficult for _, difficult, _ in objects], bool), polygons))
    return samples


def write_voc(root: Path, name: str, samples: list[Sample], images, classes: list[str], masks=None) -> None:
    """One set in the VOC devkit's layout, polygons beside it where known. Photos that are not in JPEG are saved so.

    images: one PIL image each. masks: one instance mask each (mode P, object i has the value i + 1).
    """
    folder, _, list_name = name.rpartition("/")
    folder = Path(root) / folder
    for part in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for sample, image, mask in zip(samples, images, masks or [None] * len(samples)):
        image.save(folder / "JPEGImages" / f"{sample.name}.jpg", quality=95)
        objects = "".join(
            f"\t<object>\n\t\t<name>{escape(classes[label - 1])}</name>\n\t\t<difficult>{int(ignore)}</difficult>\n"
            f"\t\t<bndbox><xmin>{x1 + 1:.2f}</xmin><ymin>{y1 + 1:.2f}</ymin><xmax>{x2:.2f}</xmax>"
            f"<ymax>{y2:.2f}</ymax></bndbox>\n\t</object>\n"
            for (x1, y1, x2, y2), label, ignore in zip(sample.boxes, sample.labels, sample.ignore))
        (folder / "Annotations" / f"{sample.name}.xml").write_text(
            f"<annotation>\n\t<filename>{sample.name}.jpg</filename>\n\t<size><width>{sample.size[0]}</width>"
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


def _parse_coco(path: Path) -> dict:
    content = files.read_json(path)
    if not isinstance(content, dict) or not {"images", "annotations", "categories"} <= content.keys():
        raise ValueError(f"{path}: not a COCO annotation file (expected images, annotations and categories)")
    return content


def coco_categories(root: Path, name: str) -> list[dict]:
    """[{"id", "name"}] of one set, by id."""
    categories = _parse_coco(root / name)["categories"]
    return sorted(({"id": item["id"], "name": item["name"]} for item in categories), key=lambda item: item["id"])


def read_coco(root: Path, name: str, category_ids: list[int]) -> list[Sample]:
    """Crowds (iscrowd: 1, run-length masks) are ignored objects without polygons."""
    path, photos = root / name, coco_photos(root, name)
    content = _parse_coco(path)
    labels = {category: index + 1 for index, category in enumerate(category_ids)}
    by_image: dict[int, list] = {image["id"]: [] for image in content["images"]}
    for item in content["annotations"]:
        if item.get("image_id") not in by_image or item.get("category_id") not in labels:
            raise ValueError(f"{path}: annotation {item.get('id')} names an unknown image or category")
        by_image[item["image_id"]].append(item)
    samples = []
    for image in content["images"]:
        items = by_image[image["id"]]
        try:
            boxes = np.array([item["bbox"] for item in items], np.float32).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            samples.append(Sample(
                photos / image["file_name"], (image["width"], image["height"]), boxes,
                np.array([labels[item["category_id"]] for item in items], np.int64),
                np.array([bool(item.get("iscrowd", 0)) for item in items], bool),
                [[np.array(part).reshape(-1, 2) for part in item["segmentation"]]
                 if isinstance(item.get("segmentation"), list) else [] for item in items]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: image {image['id']} or one of its annotations is broken: "
                             f"{type(error).__name__} {error}") from None
    return samples


def to_coco(dataset: DataSet) -> dict:
    """A COCO annotation file's content: photo i has the id i + 1; an ignored object becomes iscrowd."""
    images, annotations = [], []
    for number, sample in enumerate(dataset.samples, 1):
        images.append({"id": number, "file_name": Path(sample.path).name,
                       "width": sample.size[0], "height": sample.size[1]})
        for box, label, ignore, parts in zip(sample.boxes.tolist(), sample.labels, sample.ignore, sample.polygons):
            x1, y1, x2, y2 = box
            area = polygon(parts).area if parts else (x2 - x1) * (y2 - y1)
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": dataset.category_ids[label - 1],
                "bbox": [x1, y1, x2 - x1, y2 - y1], "area": area, "iscrowd": int(ignore),
                "segmentation": [np.round(part, 2).flatten().tolist() for part in parts if len(part) >= 3]})
    return {"images": images, "annotations": annotations,
            "categories": [{"id": number, "name": name}
                           for number, name in zip(dataset.category_ids, dataset.classes)]}


def write_coco(root: Path, name: str, dataset: DataSet, images) -> None:
    """One set in COCO's layout. images: one PIL image each, saved in JPEG whatever the name says."""
    folder = coco_photos(Path(root), name)
    folder.mkdir(parents=True, exist_ok=True)
    for sample, image in zip(dataset.samples, images):
        image.save(folder / Path(sample.path).name, "JPEG", quality=95)
    files.write_bytes(Path(root) / name, json.dumps(to_coco(dataset)).encode())
