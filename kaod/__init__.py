"""Keypoints-aware object detection: boxes, rotated boxes and masks from keypoints that nobody labelled.

Conventions, everywhere in this package: continuous pixel coordinates with the origin at the image's
top left corner (pixel i covers [i, i + 1], the centre of a W×H image is (W/2, H/2)), x to the right,
y down; boxes are (x1, y1, x2, y2); angles are in degrees, clockwise on the screen; class labels
count from 1, because torchvision keeps 0 for the background.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The repository. All relative paths (params.yaml, datasets/, runs/, results/) start here, so that a
notebook finds them from whatever folder its kernel was started in."""


def load(path, device: str = "cpu"):
    """The `predict.Predictor` of a checkpoint: `kaod.load("model.pt").predict(["photo.jpg"])`."""
    from .predict import Predictor  # torch only where it is needed

    return Predictor(path, device)


def command(main, *errors: type[Exception]) -> None:
    """Runs the `main` of a module that `python -m` started. What it returns is the exit code. A ValueError, an OSError
    (no such file, a full disk) or one of the errors ends it with one line that names the module."""
    try:
        code = main()
    except (ValueError, OSError, *errors) as error:
        path, said = getattr(error, "filename", None), getattr(error, "strerror", None) or error
        sys.exit(f"{main.__globals__['__spec__'].name}: {f'{path}: {said}' if path else said}")
    if code:
        sys.exit(code)
