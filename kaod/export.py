"""A trained network as a file that runs without this package: in torch.export's format, or in ONNX.

`python -m kaod.export runs/shapes/kaod/model.pt kaod.onnx --onnx` writes the whole detector (it needs the extra
`kaod[onnx]`). Elsewhere, with onnxruntime and numpy alone:

    session = onnxruntime.InferenceSession("kaod.onnx")
    boxes, scores, labels, keypoints = session.run(None, {"photos": photos})

photos: (N, 3, H, W), float32 from 0 to 1, N photos of one size, which may be any. For each photo its 100 detections,
best first: boxes (N, 100, 4) and keypoints (N, 100, K, 2) in pixels of the photo, scores and labels (N, 100). Where
fewer were found, the other scores are 0. `session.get_modelmeta().custom_metadata_map` has `classes` and
`category_ids` as JSON lists; a label counts from 1: the name is classes[label - 1]. FCOS has no keypoints.

`python -m kaod.export runs/shapes/kaod/model.pt kaod.pt2` writes the network without suppression. With torch alone:

    network = torch.export.load("kaod.pt2").module()
    boxes, scores, keypoints = network(photos)

photos: (N, 3, H, W), from 0 to 1, of the size that the command prints. For each of the L locations: boxes (N, L, 4) and
keypoints (N, L, K, 2) in pixels, scores (N, L, C), one a class; the classes' names, in this order, are in the file's
`classes.json` (`extra_files` of torch.export.load).

What is not in this file is what depends on the data: dropping low scores, and `torchvision.ops.batched_nms`, which
chooses its method by the number of boxes, and that torch.export cannot trace.
"""

import argparse
import io
import json
import math
import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.image_list import ImageList

from . import command, geometry, model
from .data import files
from .training import checkpoints


class Dense(nn.Module):
    """A detector up to its suppression, for photos of the size that its network takes: what each location says."""

    def __init__(self, detector):
        super().__init__()
        self.detector = detector
        for name in ("image_mean", "image_std"):
            self.register_buffer(name, torch.tensor(getattr(detector.transform, name))[:, None, None])

    def forward(self, photos: Tensor) -> tuple[Tensor, ...]:
        limit = torch.tensor(photos.shape[:1:-1]).repeat(2)
        found, _ = self.locations((photos - self.image_mean) / self.image_std, limit)
        return found

    def locations(self, images: Tensor, limit: Tensor) -> tuple[tuple[Tensor, ...], list[int]]:
        """Boxes, scores and KAOD's keypoints of images as the network takes them, and each level's number of locations.

        limit: (4,), width and height of the images without their padding, twice.
        """
        features = list(self.detector.backbone(images).values())
        found = self.detector.head(features)
        anchors = self.detector.anchor_generator(ImageList(images, [images.shape[2:]]), features)[0]
        boxes = self.detector.box_coder.decode(found["bbox_regression"], anchors)
        boxes = torch.minimum(boxes.clamp(min=0), limit.to(boxes))
        scores = (found["cls_logits"].sigmoid() * found["bbox_ctrness"].sigmoid()).sqrt()[..., 1:]  # 0: background
        points = (geometry.absolute(found["offsets"], anchors),) if "offsets" in found else ()
        return (boxes, scores, *points), [level.shape[2] * level.shape[3] for level in features]


class Whole(Dense):
    """A detector from photos of any size to its detections, as the module's docstring has them. Only to be traced."""

    def forward(self, photos: Tensor) -> tuple[Tensor, ...]:
        detector, resize = self.detector, self.detector.transform
        # float64 and a division of tensors, as Python's; of a number, it is by the reciprocal: sizes are a pixel off
        sides = torch.tensor(photos.shape[2:], dtype=torch.float64)
        goals = torch.tensor((resize.min_size[-1], resize.max_size), dtype=torch.float64)
        size = (sides * (goals / torch.stack((sides.min(), sides.max()))).min()).long()
        cells = (size + resize.size_divisible - 1) // resize.size_divisible
        (height, width), (rows, columns) = size.tolist(), cells.tolist()
        below, right = rows * resize.size_divisible - height, columns * resize.size_divisible - width
        for least, counts in ((0, (below, right)), (1, (height, width)), (2, (rows, columns))):
            for count in counts:  # 2: torch would ask whether a level has one location; the file runs with one, too
                torch._check(count >= least)
        images = functional.interpolate((photos - self.image_mean) / self.image_std, (height, width), mode="bilinear")
        images = functional.pad(images, (0, right, 0, below))
        (boxes, scores, *points), levels = self.locations(images, size.flip(0).repeat(2))
        scores = torch.cat([best_of(level, detector.topk_candidates) for level in scores.split(levels, 1)], 1).mT
        limits = map(torch.tensor, (detector.detections_per_img, detector.nms_thresh, detector.score_thresh))
        unknown = scores.flatten().nonzero().shape[0]  # how many are kept is known only where the file runs
        kept = torch.onnx.ops.symbolic(  # each kept detection's photo, class and location
            "NonMaxSuppression", (boxes, scores, *limits), dtype=torch.int64, shape=(unknown, 3))
        scores = scores * torch.zeros_like(scores).index_put(kept.unbind(1), torch.tensor([1.0]))
        scores, best = scores.flatten(1).topk(detector.detections_per_img)
        count, photo = torch.tensor(boxes.shape[1]), torch.arange(photos.shape[0])[:, None]
        label, location = best // count + 1, best % count
        back = (sides / size).flip(0).float()
        return (boxes[photo, location] * back.repeat(2), scores, label,
                *(each[photo, location] * back for each in points))


def best_of(scores: Tensor, count: int) -> Tensor:
    """Scores (N, L, C) of one level: torchvision suppresses among each level's best; the others become 0."""
    least = functional.pad(scores.flatten(1), (0, count)).topk(count).values[:, -1:, None]
    return scores * (scores >= least)


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
    program = torch.export.export(Dense(detector).eval(), (torch.zeros(2, 3, *size),),
                                  dynamic_shapes=({0: torch.export.Dim("photos", min=1, max=256)},))
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={"classes.json": json.dumps(classes)})
    return buffer.getvalue(), size


def to_onnx(path) -> bytes:
    """The whole detector of a checkpoint as ONNX, for any number of photos of any size.

    Raises ValueError where the checkpoint cannot be read, or a package is missing.
    """
    try:
        import onnxscript  # noqa: F401 torch's exporter needs it, and says so less plainly
    except ImportError:
        raise ValueError("--onnx needs more packages: pip install -c constraints.txt -e '.[onnx]'") from None
    detector, classes, category_ids = checkpoints.load(path)
    names = ["boxes", "scores", "labels", *(["keypoints"] if isinstance(detector, model.KAOD) else [])]
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # torch's of its own code
        program = torch.onnx.export(
            Whole(detector).eval(), (torch.zeros(2, 3, 100, 150),), dynamo=True, verbose=False, input_names=["photos"],
            output_names=names, dynamic_shapes=({0: "N", 2: "H", 3: "W"},))
    for node in program.model.graph:
        node.metadata_props.clear()  # stack traces, with paths of this machine
    program.model.metadata_props.update(classes=json.dumps(classes), category_ids=json.dumps(category_ids))
    return program.model_proto.SerializeToString()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m kaod.export",
                                     description="Writes a network for torch.export, or a detector for ONNX.")
    parser.add_argument("checkpoint", help="runs/<profile>/<model>/model.pt")
    parser.add_argument("target", help="a file name that ends in .pt2 or .onnx")
    parser.add_argument("--onnx", action="store_true", help="the whole detector, for onnxruntime")
    given = parser.parse_args()
    if given.onnx:
        content, size = to_onnx(given.checkpoint), ("H", "W")
    else:
        content, size = to_bytes(given.checkpoint)
    files.write_bytes(given.target, content)
    print(f"{given.target}: takes photos (N, 3, {size[0]}, {size[1]}), from 0 to 1")


if __name__ == "__main__":
    command(main)
