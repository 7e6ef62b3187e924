"""A page to leaf through what `relabel` read, in any browser: the photos with the least sure objects first."""

import html
from pathlib import Path

import numpy as np

from .. import geometry
from ..data.labelled import Labelled, Object, Photo
from .charts import COLOURS

MOST = 1000  # photos; a browser holds them, since they are loaded when they come into sight
HEAD = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px sans-serif; margin: 1em; background: #222; color: #eee }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(20em, 1fr)); gap: 1em }}
figure {{ margin: 0 }} div {{ position: relative }} img {{ width: 100%; height: auto; display: block }}
svg {{ position: absolute; inset: 0; width: 100%; height: 100% }}
polygon {{ fill: none; stroke-width: 2; vector-effect: non-scaling-stroke }} figcaption {{ overflow-wrap: anywhere }}
</style>
<h1>{title}</h1>
<p>Dashes: the labelled box. Line: the rotated box. Area: the mask. Point at an object for its class and its score.</p>
<main>
"""


def polygon(points: np.ndarray, style: str) -> str:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polygon points="{places}" style="{style}"/>'


def drawn(each: Object, name: str) -> str:
    """An object as SVG."""
    colour = COLOURS[(each.label - 1) % len(COLOURS)]
    dashes = polygon(geometry.corners(each.box), "stroke:white;stroke-dasharray:5 4")
    said = f"{name}: {each.unsure or f'{each.score:.2f}'}"
    mask, rotated = polygon(each.outline, f"fill:{colour};fill-opacity:.35"), polygon(each.corners, f"stroke:{colour}")
    return f"<g><title>{html.escape(said)}</title>{dashes}{mask}{rotated}</g>"


def figure(photo: Photo, classes: list[str]) -> str:
    width, height = photo.sample.size
    objects = "".join(drawn(each, classes[each.label - 1]) for each in photo.objects)
    kept = sum(each.unsure is not None for each in photo.objects)
    scores = [each.score for each in photo.objects if each.unsure is None]
    said = ([f"scores from {min(scores):.2f}"] if scores else []) + ([f"{kept} upright boxes stay"] if kept else [])
    return (f'<figure><div><img loading="lazy" src="{html.escape(Path(photo.sample.path).resolve().as_uri())}" '
            f'width="{width}" height="{height}" alt=""><svg viewBox="0 0 {width} {height}">{objects}</svg></div>'
            f"<figcaption>{html.escape(', '.join((photo.name, *said)))}</figcaption></figure>\n")


def page(data: Labelled) -> str:
    """HTML with the photos that have objects, MOST at most; each is read from where it is."""
    def least(photo: Photo) -> float:
        return min(each.score if each.unsure is None else -1 for each in photo.objects)

    photos = sorted((photo for photo in data.photos if photo.objects), key=least)
    shown = photos[:MOST]
    title = f"{len(shown)} of {len(photos)} photos, the least sure first"
    return HEAD.format(title=title) + "".join(figure(photo, data.classes) for photo in shown) + "</main></html>\n"
