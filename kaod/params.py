"""params.yaml as typed, checked dataclasses; an error names the key.

The fields below are the one list of settings; what each means stands beside its value in params.yaml.
Every key must be there: a setting that is not written down is one that nobody can question.
"""

import dataclasses
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Union, get_args, get_origin, get_type_hints

import yaml

from . import ROOT


@dataclass(frozen=True)
class Draw:
    seed: int
    train: int
    test: int
    size: int


@dataclass(frozen=True)
class Vertices:
    tolerance: float
    k: int | Literal["auto"]


@dataclass(frozen=True)
class Warp:
    seed: int
    angle: float
    shift: float
    min_area: float
    sweep: int


@dataclass(frozen=True)
class Model:
    backbone: Literal["resnet18", "resnet50", "resnet101"]
    weights: Literal["none", "imagenet"]
    fpn_channels: int
    head_convs: int
    min_size: int
    max_size: int
    anchor_scale: float
    center_sampling: float
    box_loss: Literal["giou", "iou"]
    sharpness: float
    spread: float


@dataclass(frozen=True)
class Keypoints:
    beta: float
    angle: float
    shift: float
    fill: Literal["reflect", "constant"]
    locations: Literal["foreground", "all"]
    reading: Literal["bilinear", "nearest"]
    normalize: bool
    reduction: Literal["mean", "sum"]
    smooth_l1: float
    gradient: Literal["both", "first", "second"]
    supervise_view: bool
    separation: float


@dataclass(frozen=True)
class Train:
    seed: int
    steps: int
    batch: int
    optimizer: Literal["adamw", "sgd"]
    lr: float
    weight_decay: float
    warmup: int
    warmup_factor: float | Literal["linear"]
    decay: list[int] | Literal["cosine"]
    clip: float
    ema: float
    flip: float
    hue: float
    scale: float
    pad: Literal["batch", "square"]
    rotate: float
    rotated_boxes: Literal["corners", "ellipse"]
    bf16: bool
    channels_last: bool
    compile: bool
    workers: int
    threads: int
    save_every: int
    keep: int
    snapshots: int


@dataclass(frozen=True)
class Evaluate:
    batch: int
    score_thresh: float
    nms_thresh: float
    detections: int


@dataclass(frozen=True)
class Variant:
    """One entry of `models`: what a train stage makes. `set`: sections with the profile's settings that it changes."""

    model: Literal["fcos", "kaod"]
    kpl: bool
    hm: bool
    set: dict


@dataclass(frozen=True)
class Profile:
    name: str
    layout: Literal["voc", "coco"]
    root: str | None
    skip_bad: bool
    train_sets: list[str]
    test_sets: list[str]
    draw: Draw | None
    vertices: Vertices
    warp: Warp
    model: Model
    keypoints: Keypoints
    train: Train
    evaluate: Evaluate

    @property
    def data(self) -> Path:
        """Where the data set is: the user's own copy, or what the download stage made."""
        return self.folder if self.root is None else Path(ROOT, Path(self.root).expanduser()).resolve()

    @property
    def folder(self) -> Path:
        """Where the download stage leaves its manifest (and the data, if it made them)."""
        return ROOT / "datasets" / self.name

    @property
    def runs(self) -> Path:
        """Everything that the pipeline makes of this profile and that Git ignores."""
        return ROOT / "runs" / self.name

    @property
    def results(self) -> Path:
        """Metrics and figures, small enough for Git."""
        return ROOT / "results" / self.name


POSITIVE = {"size", "train", "test", "steps", "batch", "lr", "threads", "min_size", "max_size", "fpn_channels",
            "head_convs", "anchor_scale", "center_sampling", "sharpness", "smooth_l1", "detections", "save_every",
            "scale", "keep"}
FRACTION = {"shift", "min_area", "score_thresh", "nms_thresh", "flip", "hue", "rotate", "tolerance", "scale", "ema",
            "warmup_factor"}
SETTABLE = {"vertices": {"k"}, **{section: {field.name for field in dataclasses.fields(kind)} for section, kind in
            (("model", Model), ("keypoints", Keypoints), ("train", Train))}}


def load(name: str | None = None, path=None) -> tuple[Profile, dict[str, Variant]]:
    """The profile `name` (None: the one that the file selects) and the models to train, from params.yaml or
    another file of that form.

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
    profiles = sorted(set(settings) - {"profile", "models", "launcher"})
    name = name or settings.get("profile")
    if name not in profiles:
        raise ValueError(f"{path}: profile: expected one of {', '.join(profiles)}; got {name!r}")
    section = settings[name]
    if isinstance(section, dict):
        section = {"name": name, **section}
    profile = _typed(Profile, section, f"{path}: {name}")
    if profile.draw is not None and profile.draw.size < 64:
        raise ValueError(f"{path}: {name}.draw.size: expected at least 64 pixels; got {profile.draw.size}")
    if profile.vertices.k != "auto" and profile.vertices.k < 2:
        raise ValueError(f"{path}: {name}.vertices.k: expected 'auto' or a number of at least 2 (the box of one "
                         f"keypoint has no area); got {profile.vertices.k}")
    return profile, variants(settings.get("models"), profile, f"{path}: models")


def variants(models, profile: Profile, where: str) -> dict[str, Variant]:
    """The entries of a `models` section, checked against the profile that they are for; `where` it stands."""
    if not isinstance(models, dict) or not models:
        raise ValueError(f"{where}: expected a mapping with at least one entry; got {models!r}")
    found = {key: _typed(Variant, value, f"{where}.{key}") for key, value in models.items()}
    for key, variant in found.items():
        apply(profile, variant, f"{where}.{key}")
    return found


def apply(profile: Profile, variant: Variant, where: str = "models") -> Profile:
    """The profile with what the variant sets. Raises ValueError that names a wrong key or value."""
    settings = dataclasses.asdict(profile)
    for section, changes in variant.set.items():
        if section not in SETTABLE:
            raise ValueError(f"{where}.set.{section}: unknown key; expected {', '.join(SETTABLE)}")
        if not isinstance(changes, dict):
            raise ValueError(f"{where}.set.{section}: expected a section; got {changes!r}")
        for wrong in changes.keys() - SETTABLE[section]:
            raise ValueError(f"{where}.set.{section}.{wrong}: unknown key; expected "
                             f"{', '.join(sorted(SETTABLE[section]))}")
        settings[section] |= changes
    return _typed(Profile, settings, f"{where}.set")


def _typed(kind, value, key: str):
    """`value` as `kind`, checked; `key` is where it stands."""
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ValueError(f"{key}: expected a section; got {value!r}")
        hints = get_type_hints(kind)
        for wrong in value.keys() - hints.keys():
            raise ValueError(f"{key}.{wrong}: unknown key; expected {', '.join(hints)}")
        for missing in [name for name in hints if name not in value]:
            raise ValueError(f"{key}.{missing}: missing key")
        return kind(**{name: _typed(hint, value[name], f"{key}.{name}") for name, hint in hints.items()})
    if get_origin(kind) in (Union, types.UnionType):
        options = get_args(kind)
        if value is None and type(None) in options:
            return None
        literals = [option for option in options if get_origin(option) is Literal]
        if literals and isinstance(value, str):
            return _typed(literals[0], value, key)
        return _typed(options[0], value, key)
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError(f"{key}: expected one of {', '.join(get_args(kind))}; got {value!r}")
        return value
    if get_origin(kind) is list:
        kind, what = get_args(kind)[0], "names" if get_args(kind)[0] is str else "whole numbers"
        if not isinstance(value, list) or not value or not all(type(item) is kind for item in value):
            raise ValueError(f"{key}: expected a list of {what}; got {value!r}")
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", dict: "a section"}
        raise ValueError(f"{key}: expected {names[kind]}; got {value!r}")
    if kind in (int, float):
        last = key.rsplit(".", 1)[-1]
        if not value >= 0 or value == float("inf"):
            raise ValueError(f"{key}: expected a finite number of at least 0; got {value!r}")
        if last in POSITIVE and value == 0:
            raise ValueError(f"{key}: expected a number above 0; got {value!r}")
        if last in FRACTION and value > 1:
            raise ValueError(f"{key}: expected a number from 0 to 1; got {value!r}")
    return value
