"""A photo turned by sliders, and what a model sees of it: for notebooks/06-explore."""

import io
from functools import lru_cache, partial
from pathlib import Path

import ipywidgets
import torch
from torchvision.transforms.functional import to_pil_image

from .. import params, predict
from ..data import datasets
from . import idea, photos


def checkpoints(profile: params.Profile) -> dict[str, Path]:
    """The trained models of a profile by name: the pipeline's, KAOD first, then the grid's.

    Raises ValueError where there is none, with the command that makes one.
    """
    found = {path.parent.relative_to(profile.runs).as_posix(): path for pattern in ("kaod", "*", "grid/*")
             for path in sorted(profile.runs.glob(f"{pattern}/model.pt"))}
    if not found:
        raise ValueError(f"{profile.runs}: no trained model here yet; `dvc repro train` makes one")
    return found


def paths(profile: params.Profile, own: str | None = None) -> list[Path]:
    """The profile's test photos; or one's own: a file, a folder, or a pattern."""
    return predict.find([own])[0] if own else [
        Path(sample.path) for sample in datasets.load(profile, profile.test_sets).samples]


@lru_cache(4)
def load(checkpoint: Path, written: int) -> predict.Predictor:
    """Kept, since each move needs it; `written`, the file's time, tells a model that was trained anew."""
    return predict.Predictor(checkpoint)


@lru_cache(4)
def upright(predictor: predict.Predictor, photo: Path, written: int, least: float, largest: int = 512):
    """The photo, a PIL image of at most `largest` pixels a side, and what is found there: kept while only T changes."""
    image = to_pil_image(predict.read(photo))
    image.thumbnail((largest, largest))
    return image, photos.best(predictor.predict([image], least)[0], least)


def frame(checkpoint: Path, photo: Path, angle: float = 0, right: float = 0, down: float = 0,
          least: float = 0.4) -> bytes:
    """A JPEG: the photo, and beside it the photo turned and moved, each with what the model finds there.

    angle: degrees, clockwise. right, down: shares of width and height. least: lower scores are not drawn.
    """
    # one small photo is too little work for two threads: they would mostly wait for each other
    torch.set_num_threads(1)
    predictor = load(checkpoint, checkpoint.stat().st_mtime_ns)
    image, first = upright(predictor, photo, photo.stat().st_mtime_ns, least)
    turned = idea.view(image, idea.motion(image, angle, (right * image.width, down * image.height)))
    second = photos.best(predictor.predict([turned], least)[0], least)
    figure = photos.picture([image, turned], [first, second], predictor.classes)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="jpeg", pil_kwargs={"quality": 85})
    return buffer.getvalue()


def panel(models: dict[str, Path], paths: list[Path], first: int = 0, angle: float = 0) -> ipywidgets.VBox:
    """The picture with its controls; each move draws it anew, in about a tenth of a second for the shapes model."""
    picture, said = ipywidgets.Image(format="jpeg", layout={"max_width": "100%"}), ipywidgets.Label()

    def draw(model: str, photo: int, **moves) -> None:
        said.value = str(paths[photo])
        try:
            picture.value = frame(models[model], paths[photo], **moves)
        except (ValueError, OSError) as error:  # a photo or checkpoint that cannot be read; the others can
            said.value, picture.value = str(error), b""

    slider = partial(ipywidgets.FloatSlider, layout={"width": "480px"}, step=0.02)
    controls = {
        "model": ipywidgets.Dropdown(options=list(models), description="model"),
        # no slider: its ends may not be the same, as they are for a single photo
        "photo": ipywidgets.BoundedIntText(min(first, len(paths) - 1), max=len(paths) - 1, description="photo"),
        "angle": slider(angle, min=-180, max=180, step=5, readout_format=".0f", description="turn, °"),
        "right": slider(0, min=-0.4, max=0.4, description="to the right"),
        "down": slider(0, min=-0.4, max=0.4, description="down"),
        "least": slider(0.4, min=0.05, max=0.95, step=0.05, description="least score")}
    ipywidgets.interactive_output(draw, controls)
    return ipywidgets.VBox([*controls.values(), said, picture])
