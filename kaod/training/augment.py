"""What training does to photos: flips and turned copies.

Everything random comes from torch's global generator, for the whole batch in the photos' order: see
`processes.rand`.
"""

import torch
from torchvision.ops import box_area, clip_boxes_to_image
from torchvision.transforms.functional import hflip

from .. import geometry, params
from . import processes


def flip(image, target):
    """Image and boxes, left to right."""
    boxes = target["boxes"].clone()
    boxes[:, [0, 2]] = image.shape[-1] - boxes[:, [2, 0]]
    flipped = {**target, "boxes": boxes}
    if "outlines" in target:
        x, y = target["outlines"].unbind(-1)
        flipped["outlines"] = torch.stack((image.shape[-1] - x, y), -1)
    return hflip(image), flipped


def turned_copy(image, target, keypoints: params.Keypoints, rotated_boxes: str):
    """What one would do instead of the keypoint loss: the image under a random T, and the boxes that go with it.

    Labels know no outlines, so the boxes are those of the turned ellipses or corners; outlines, where they are known,
    tell what exact boxes would be worth. What comes from outside is the image's mean colour: a reflection would show
    objects without labels. Objects with less than a quarter of their new box inside are dropped, as in the test sets.
    """
    size = torch.tensor([[image.shape[2], image.shape[1]]]).to(image)
    T = geometry.random_rigid(size, keypoints.angle, keypoints.shift)
    copy = geometry.warp_images(image[None], T, size, "mean")[0]
    if rotated_boxes == "ellipse":
        boxes = geometry.ellipse_boxes(T, target["boxes"])
    else:
        points = target["outlines"] if rotated_boxes == "outline" else geometry.corners(target["boxes"])
        boxes = geometry.enclosing(geometry.transform(T, points))
    inside = clip_boxes_to_image(boxes, image.shape[1:])
    kept = box_area(inside) >= box_area(boxes) / 4
    return copy, {"boxes": inside[kept], "labels": target["labels"][kept]}


def augment(images: list, targets: list, settings: params.Train, keypoints: params.Keypoints) -> tuple[list, list]:
    """This rank's photos of a batch: some flipped, some turned. A `rotate` of 0 draws no numbers."""
    turned = processes.rand(len(images)) < settings.flip
    pairs = [flip(*pair) if turn else pair for turn, *pair in zip(turned, images, targets)]
    if settings.rotate:
        own = processes.part(range(len(pairs) * processes.world()))
        for i, turn in enumerate(torch.rand(len(pairs) * processes.world()) < settings.rotate):
            if turn and i in own:
                pairs[i - own.start] = turned_copy(*pairs[i - own.start], keypoints, settings.rotated_boxes)
            elif turn:
                torch.rand(1, 3)  # the T of another rank's photo
    return tuple(map(list, zip(*pairs)))
