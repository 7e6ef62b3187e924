"""What a detector gives for each object: class, score, box, keypoints, rotated box and mask."""

import numpy as np

from . import geometry


def describe(found: dict[str, np.ndarray], size: tuple[int, int],
             concave: float | None = None) -> dict[str, np.ndarray]:
    """Detections of one photo with all that follows from their keypoints.

    found: boxes (n, 4), scores, labels (n,), and keypoints (n, K, 2), in pixels of the photo. size: its width and
    height. concave: see `geometry.masks`. Adds
    rotated_corners (n, 4, 2), clockwise, and rotated_boxes (n, 5): centre x, y, width ≥ height, angle in degrees;
    masks (n, height, width), bool: the keypoints' hull.
    Where there are no keypoints (FCOS), or two, which span a line, nothing is added.
    """
    points = found.get("keypoints")
    if points is None or points.shape[1] < 3:
        return found
    corners, boxes = geometry.rotated_boxes(points)
    return found | {"rotated_corners": corners, "rotated_boxes": boxes, "masks": geometry.masks(points, size, concave)}
