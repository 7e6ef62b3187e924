"""A trained network as a file that runs without this package: torch.export's format.

`python -m kaod.export runs/shapes/kaod/model.pt kaod.pt2` writes it. Elsewhere, with torch alone:

    network = torch.export.load("kaod.pt2").module()
    boxes, scores, keypoints = network(photos)

photos: (N, 3, H, W), from 0 to 1, of the size that the command prints. For each of the L locations: boxes (N, L, 4) and
keypoints (N, L, K, 2) in pixels, scores (N, L, C), one a class; the classes' names, in this order, are in the file's
`classes.json` (`extra_files` of torch.export.load). FCOS has no keypoints.

What is not in the file is what depends on the data: dropping low scores, and `torchvision.ops.batched_nms`, which
chooses its method by the number of boxes, and that torch.export cannot trace.
"""

import argparse
import io
import json
import math

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from . import command, geometry
from .data import files
from .training import checkpoints


class Dense(nn.Module):
    """A detector up to its suppression, for photos of one size (height, width): what each location says."""

    def __init__(self, detector, size: tuple[int, int]):
        super().__init__()
        self.backbone, self.head, self.box_coder = detector.backbone, detector.head, detector.box_coder
        self.size = size
        images = torch.zeros(1, 3, *size)
        with torch.inference_mode():
            anchors = detector.anchor_generator(ImageList(images, [size]), list(self.backbone(images).values()))[0]
        self.register_buffer("anchors", anchors.clone())  # (L, 4)
        for name in ("image_mean", "image_std"):
            self.register_buffer(name, torch.tensor(getattr(detector.transform, name))[:, None, None])

    def forward(self, photos: Tensor) -> tuple[Tensor, ...]:
        features = list(self.backbone((photos - self.image_mean) / self.image_std).values())
        found = self.head(features)
        boxes = self.box_coder.decode(found["bbox_regression"], self.anchors)
        limit = torch.tensor(self.size[::-1] * 2).to(boxes)
        boxes = torch.minimum(boxes.clamp(min=0), limit)
        scores = (found["cls_logits"].sigmoid() * found["bbox_ctrness"].sigmoid()).sqrt()[..., 1:]  # 0: background
        if "offsets" not in found:
            return boxes, scores
        return boxes, scores, geometry.absolute(found["offsets"], self.anchors)


def network_size(detector) -> tuple[int, int]:
    """Height and width of a square photo as the network takes it: resized, and padded to what its levels need."""
    side, multiple = min(detector.transform.min_size[0], detector.transform.max_size), detector.transform.size_divisible
    return (math.ceil(side / multiple) * multiple,) * 2


def to_bytes(path) -> tuple[bytes, tuple[int, int]]:
    """The exported network of a checkpoint, for any number of photos, and their height and width.

    Raises ValueError where the checkpoint cannot be read.
    """
    detector, classes, _ = checkpoints.load(path)
    size = network_size(detector)
    program = torch.export.export(Dense(detector, size).eval(), (torch.zeros(2, 3, *size),),
                                  dynamic_shapes=({0: torch.export.Dim("photos", min=1, max=256)},))
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={"classes.json": json.dumps(classes)})
    return buffer.getvalue(), size


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m kaod.export", description="Writes a network for torch.export.")
    parser.add_argument("checkpoint", help="runs/<profile>/<model>/model.pt")
    parser.add_argument("target", help="a file name that ends in .pt2")
    given = parser.parse_args()
    content, (height, width) = to_bytes(given.checkpoint)
    files.write_bytes(given.target, content)
    print(f"{given.target}: takes photos (N, 3, {height}, {width}), from 0 to 1")


if __name__ == "__main__":
    command(main)
