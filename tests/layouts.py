"""Users' data sets, in VOC's and COCO's layouts, for the tests of their readers."""

from dataclasses import replace
from pathlib import Path
from xml.sax.saxutils import escape

from kaod.data import coco


def read_coco(root: Path, name: str, category_ids: list[int], faults: list[str] | None = None):
    """The samples of a user's COCO file, as the download stage reads it."""
    return coco.read(root / name, coco.photo_folder(root, name), category_ids, faults)


def write_coco(root: Path, name: str, dataset, images=()) -> None:
    """One set in COCO's layout. images: a PIL image for each sample, or none at all."""
    photos = coco.photo_folder(Path(root), name)
    photos.mkdir(parents=True, exist_ok=True)
    samples = [replace(each, path=photos / Path(each.path).name) for each in dataset.samples]
    for each, image in zip(samples, images):
        image.save(each.path, "JPEG", quality=95)
    coco.write(Path(root) / name, replace(dataset, samples=samples), photos)


def write_voc(root: Path, name: str, samples, images, classes: list[str], masks=None) -> None:
    """One set in the VOC devkit's layout. images: a PIL image for each sample. masks: an instance mask each (mode P, object i has the value
    i + 1), or None."""
    folder, _, list_name = name.rpartition("/")
    folder = Path(root) / folder
    for part in ("Annotations", "ImageSets/Main", "JPEGImages", "SegmentationObject"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for sample, image, mask in zip(samples, images, masks or [None] * len(samples)):
        stem = Path(sample.path).stem
        image.save(folder / "JPEGImages" / f"{stem}.jpg", quality=95)
        objects = "".join(
            f"\t<object>\n\t\t<name>{escape(classes[label - 1])}</name>\n\t\t<difficult>{int(ignore)}</difficult>\n"
            f"\t\t<bndbox><xmin>{x1 + 1:.2f}</xmin><ymin>{y1 + 1:.2f}</ymin><xmax>{x2:.2f}</xmax>"
            f"<ymax>{y2:.2f}</ymax></bndbox>\n\t</object>\n"
            for (x1, y1, x2, y2), label, ignore in zip(sample.boxes, sample.labels, sample.ignore))
        (folder / "Annotations" / f"{stem}.xml").write_text(
            f"<annotation>\n\t<filename>{escape(stem)}.jpg</filename>\n\t<size><width>{sample.size[0]}</width>"
            f"<height>{sample.size[1]}</height><depth>3</depth></size>\n{objects}</annotation>\n")
        if mask is not None:
            mask.save(folder / "SegmentationObject" / f"{stem}.png")
    (folder / "ImageSets" / "Main" / f"{list_name}.txt").write_text(
        "".join(f"{Path(sample.path).stem}\n" for sample in samples))
