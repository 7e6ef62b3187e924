"""Single values of users' files, as tools write them: 96, 96.0, "96" and "96.0" are one number.

Each function takes a value and its key, and raises ValueError that says what the value is and what was expected. The
readers put the file and the place in it before that.
"""

import re
from pathlib import PurePosixPath

import numpy as np

LARGEST = 2 ** 53  # beyond it a float64 skips whole numbers


def wrong(key: str, value, expected: str) -> ValueError:
    """The error to raise; `value` is None where the key is missing or null."""
    said = repr(value)
    said = "missing" if value is None else said if len(said) <= 60 else f"{said[:60]}…"
    return ValueError(f"{key} is {said}; expected {expected}")


def numbers(values, key: str, expected: str = "a list of finite numbers", count: int | None = None) -> np.ndarray:
    """A list of numbers (n,); count: how many they have to be."""
    try:
        found = np.array(values, np.float64)
    except (TypeError, ValueError, OverflowError):  # text, an object, lists of other lengths, 10 ** 400
        found = np.array(np.nan)
    if not (isinstance(values, list) and found.ndim == 1 and count in (None, len(found))
            and (np.abs(found) <= LARGEST).all()):  # false for NaN
        raise wrong(key, values, expected)
    return found


def number(value, key: str, expected: str = "a finite number", least: float = -np.inf) -> float:
    """A number, of at least `least`."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            (found,) = numbers([value], key).tolist()
        except ValueError:
            found = np.nan
        if found >= least:
            return found
    raise wrong(key, value, expected)


def whole(value, key: str, expected: str = "a whole number", least: float = -np.inf) -> int:
    """A whole number, of at least `least`."""
    found = number(value, key, expected, least)
    if found % 1:
        raise wrong(key, value, expected)
    return int(found)


def flag(value, key: str) -> bool:
    """0 or 1, true or false; false where it is missing or empty."""
    found = value if isinstance(value, bool) else number(value or 0, key, "0 or 1")
    if found not in (0, 1):
        raise wrong(key, value, "0 or 1")
    return bool(found)


def text(value, key: str) -> str:
    """Text of one line that is not blank, without the blanks around it."""
    if not isinstance(value, str) or not value.strip() or re.search(r"[\0-\x1f\ud800-\udfff]", value.strip()):
        raise wrong(key, value, "text of one line that is not blank")
    return value.strip()


def identity(value, key: str) -> int | str:
    """What tells one entry from all others: a whole number, or text as it is."""
    return text(value, key) if isinstance(value, str) else whole(value, key, "a whole number, or text")


def path(value, key: str) -> str:
    """A path that stays below the folder that it starts from; with slashes, also where a tool wrote it on Windows."""
    found = PurePosixPath(text(value, key).replace("\\", "/"))
    if found.is_absolute() or ".." in found.parts:
        raise wrong(key, value, "a path that stays below the folder that it starts from")
    return str(found)
