"""The one way to load a set of photos.

The download stage reads whatever layout a data set has, checks it, and writes each set as COCO JSON to
datasets/<profile>/sets/ (see `coco`); the photos stay where they are. All later stages read that.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torchvision.transforms.functional import pil_to_tensor

from ..params import Profile
from . import coco
from .samples import DataSet, Sample


class Photos(torch.utils.data.Dataset):
    """Samples as torchvision's detectors take them: (uint8 image (3, H, W), {"boxes", "labels", "index"}), without
    ignored objects. outlines: also "outlines" (n, V, 2), where V is that of the longest; raises ValueError where an
    object has none."""

    def __init__(self, samples: list[Sample], outlines: bool = False):
        self.samples, self.outlines = samples, outlines

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        sample = self.samples[index]
        kept = ~sample.ignore
        target = {"boxes": torch.from_numpy(sample.boxes[kept]), "labels": torch.from_numpy(sample.labels[kept]),
                  "index": index}
        if self.outlines:
            parts = [sample.polygons[number] for number in np.flatnonzero(kept)]
            if not all(parts):
                raise ValueError(f"{sample.path}: expected an outline of each object (train.rotated_boxes: outline)")
            points = [torch.tensor(np.concatenate(each), dtype=torch.float32) for each in parts]
            longest = max(map(len, points), default=1)
            points = [torch.cat((each, each[-1:].expand(longest - len(each), 2))) for each in points]
            target["outlines"] = torch.stack(points) if points else torch.zeros(0, 1, 2)
        return pil_to_tensor(sample.image()), target


def collate(batch):
    """Photos differ in size, so a batch is two lists."""
    return tuple(map(list, zip(*batch)))


def set_file(profile: Profile, name: str) -> Path:
    """Where the download stage writes a set of the profile."""
    return profile.folder / "sets" / f"{name.removesuffix('.json').replace('/', '-')}.json"


def load(profile: Profile, sets: list[str], traced: bool = False) -> DataSet:
    """The sets of a profile that the download stage has written.

    traced: also the outlines that were traced from VOC's masks. They lack the masks' rim and are known of a part of
    the photos only, so they count vertices and are no ground truth. Raises FileNotFoundError for what is missing.
    """
    read = [coco.load(set_file(profile, name), profile.data) for name in sets]
    samples = [sample for each in read for sample in each.samples]
    if profile.layout == "voc" and not traced:
        samples = [replace(sample, polygons=[[] for _ in sample.labels]) for sample in samples]
    return replace(read[0], samples=samples)
