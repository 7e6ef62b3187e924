"""params.yaml as typed, checked settings; an error names the file and the key.

The fields below are the one list of settings. What each means stands beside its value in params.yaml. Every key must
be there: a setting that is not written down is one that nobody can question.
"""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from . import ROOT

Switch = Annotated[bool, Field(strict=True)]  # strict: 1 is not true, and 2.0 is no count
Count = Annotated[int, Field(strict=True, gt=0)]
Index = Annotated[int, Field(strict=True, ge=0)]
Positive = Annotated[float, Field(strict=True, gt=0)]
Amount = Annotated[float, Field(strict=True, ge=0)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
Names = Annotated[list[str], Field(min_length=1)]

section = dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))


@section
class Draw:
    seed: Index
    train: Count
    test: Count
    size: Annotated[int, Field(strict=True, ge=64)]


@section
class Vertices:
    k: Annotated[int, Field(strict=True, ge=2)] | Literal["auto"]


@section
class Warp:
    seed: Index
    angle: Amount
    shift: Share
    min_area: Share
    sweep: Index


@section
class Model:
    head: Literal["fcos", "keypoints"]
    backbone: Literal["resnet10", "resnet18", "resnet50", "resnet101"]
    weights: Literal["none", "imagenet"]
    fpn_channels: Count
    head_convs: Count
    min_size: Count
    max_size: Count
    # torchvision rounds half an anchor's side to whole pixels; on P3, of stride 8, these have none to round
    anchor_scale: Annotated[float, Field(strict=True, gt=0, multiple_of=0.25)]
    box_loss: Literal["giou", "iou"]
    sharpness: Positive
    spread: Amount
    start: Literal["ring", "zero"]


@section
class Keypoints:
    labels: Literal["first", "turned", "both"]
    kpl: Switch
    hm: Switch
    beta: Amount
    chance: Share
    angle: Amount
    shift: Share
    fill: Literal["reflect", "constant", "mean"]
    visible: Share
    in_view: Share
    locations: Literal["foreground", "all"]
    normalize: Switch
    reduction: Literal["mean", "sum"]
    smooth_l1: Positive
    separation: Amount
    apart: Positive


@section
class Train:
    seed: Index
    steps: Count
    batch: Count
    optimizer: Literal["adamw", "sgd"]
    lr: Positive
    weight_decay: Amount
    warmup: Index
    warmup_factor: Share | Literal["linear"]
    decay: Annotated[list[Index], Field(min_length=1)] | Literal["cosine"]
    clip: Amount
    flip: Share
    rotate: Share
    rotated_boxes: Literal["corners", "ellipse", "outline"]
    bf16: Switch
    channels_last: Switch
    workers: Index
    threads: Count
    save_every: Count
    snapshots: Index


@section
class Evaluate:
    batch: Count
    score_thresh: Share
    nms_thresh: Share
    detections: Count
    ap: Literal["voc", "coco"]


@section
class Profile:
    name: str
    layout: Literal["voc", "coco"]
    root: str | None
    photos: str | None
    skip_bad: Switch
    train_sets: Names
    test_sets: Names
    draw: Draw | None
    vertices: Vertices
    warp: Warp
    model: Model
    keypoints: Keypoints
    train: Train
    evaluate: Evaluate

    @property
    def data(self) -> Path:
        """Where the photos are: the user's own copy, or what the download stage made."""
        return self.folder if self.root is None else Path(ROOT, Path(self.root).expanduser()).resolve()

    @property
    def folder(self) -> Path:
        """Where the download stage leaves annotations and manifest (and the photos, if it made them)."""
        return ROOT / "datasets" / self.name

    @property
    def runs(self) -> Path:
        """Everything that the pipeline makes of this profile and that Git ignores."""
        return ROOT / "runs" / self.name

    @property
    def results(self) -> Path:
        """Metrics and figures, small enough for Git."""
        return ROOT / "results" / self.name


SETTABLE = ("vertices", "model", "keypoints", "train")  # the sections that a model may change


def load(name: str | None = None, path=None) -> tuple[Profile, dict[str, dict]]:
    """The profile `name` (None: the one that the file selects) and the models to train, from params.yaml or another
    file of that form. A model is {section: {key: value}}, what it changes in the profile; see `apply`.

    Raises ValueError that names the file and the key, and says what was expected.
    """
    path = Path(path or ROOT / "params.yaml")
    try:
        settings = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{path}: expected a mapping with the keys profile, models and one section per profile")
    profiles = sorted(map(str, settings.keys() - {"profile", "models", "launcher"}))
    name = check_name(name or settings.get("profile"), f"{path}: profile")
    if name not in profiles:
        raise ValueError(f"{path}: profile: expected one of {', '.join(profiles)}; got {name!r}")
    if not isinstance(settings[name], dict):
        raise ValueError(f"{path}: {name}: expected a section; got {settings[name]!r}")
    profile = _checked({"name": name, **settings[name]}, f"{path}: {name}")
    return profile, overrides(settings.get("models"), profile, f"{path}: models")


def check_name(name, where: str) -> str:
    """The name of a profile or a model, if it can be a folder's, a key of DVC's, and a word of a command. Raises
    ValueError."""
    if not isinstance(name, str) or not re.fullmatch(r"[^\W\d_][\w-]*", name):
        raise ValueError(f"{where}: expected a name of letters, digits, - and _ that begins with a letter; got "
                         f"{name!r}")
    return name


def overrides(models, profile: Profile, where: str) -> dict[str, dict]:
    """The entries of a `models` section, checked against the profile that they are for; `where` it stands."""
    if not isinstance(models, dict) or not models:
        raise ValueError(f"{where}: expected a mapping with at least one entry; got {models!r}")
    for key, changes in models.items():
        apply(profile, changes, f"{where}.{check_name(key, where)}")
    return models


def apply(profile: Profile, changes: dict, where: str = "models") -> Profile:
    """The profile with what a model changes. Raises ValueError that names a wrong key or value."""
    if not isinstance(changes, dict):
        raise ValueError(f"{where}: expected sections with settings; got {changes!r}")
    settings = asdict(profile)
    for section_name, values in changes.items():
        if section_name not in SETTABLE:
            raise ValueError(f"{where}.{section_name}: unknown key; expected {', '.join(SETTABLE)}")
        if not isinstance(values, dict):
            raise ValueError(f"{where}.{section_name}: expected a section; got {values!r}")
        settings[section_name] |= values
    return _checked(settings, where)


def _checked(settings: dict, where: str) -> Profile:
    try:
        return TypeAdapter(Profile).validate_python(settings)
    except ValidationError as errors:
        raise ValueError(f"{where}.{_first(errors.errors(), settings)}") from None


def _first(errors: list[dict], settings: dict) -> str:
    """pydantic's first error in one line: key, what was expected, what was found."""
    def key(error):  # without pydantic's names for the branches of a union
        place, keys = settings, []
        for part in error["loc"]:
            if isinstance(place, dict) and (part in place or error["type"] == "missing"):
                keys.append(str(part))
                place = place.get(part)
        return ".".join(keys)

    unknown = "unexpected_keyword_argument"
    first = min(errors, key=lambda error: error["type"] != unknown)  # a key that is mistyped is missing as well
    if first["type"] == "missing":
        return f"{key(first)}: missing key"
    if first["type"] == unknown:
        return f"{key(first)}: unknown key"
    if first["type"].startswith("dataclass"):
        return f"{key(first)}: expected a section; got {first['input']!r}"
    same = [each for each in errors if key(each) == key(first)]
    said = " or ".join(dict.fromkeys(each["msg"].removeprefix("Input should be ") for each in same))
    found = first["input"] if not isinstance(first["loc"][-1], int) else "a list with that"
    return f"{key(first)}: expected {said}; got {found!r}"
