"""The versions of a test set: as it is (-st), rotated (-rt), cropped (-cr), shifted (-tr), and the sweep of turns."""

from .. import params

KINDS = ("rt", "cr", "tr")
NAMES = {"st": "as it is", "rt": "rotated", "cr": "cropped like -rt", "tr": "shifted"}
ANGLES = tuple(range(-90, 91, 15))  # degrees: the sweep


def turned(angle: int) -> str:
    """The sweep's kind for an angle in degrees."""
    return f"turn{angle:+d}"


def available(profile: params.Profile) -> list[str]:
    """What there is to be evaluated on: -st, and what the warp stage has written."""
    found = [*KINDS, "rt-ellipse", *map(turned, ANGLES)]
    return ["st", *(kind for kind in found if (profile.runs / "warped" / f"{kind}.json").is_file())]
