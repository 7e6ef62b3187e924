"""How good the rotated boxes and masks of `relabel` are, where true outlines are known."""

from pathlib import Path

import numpy as np
import pandas
import shapely

from .. import geometry
from ..data import coco
from ..data.labelled import Labelled, Object
from . import oriented, outlines


def known(data: Labelled, path: Path) -> list[tuple[Object, shapely.Geometry]]:
    """The objects whose true outline is in a COCO file, by their annotations' ids, with its area.

    Raises ValueError that names the file where it is missing, has none of them, or one that cannot be read.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    true = {str(item["id"]): item for item in coco.parse(path)["annotations"] if item.get("id") is not None}
    found = []
    for photo in data.photos:
        for each in photo.objects:
            item = true.get(str(data.content["annotations"][each.place].get("id")), {})
            try:
                area = geometry.polygon(coco.outlines(item, photo.sample.size))
            except ValueError as error:
                raise ValueError(f"{path}: annotation {item['id']}: {error}") from None
            if area.area > 0:
                found.append((each, area))
    if not found:
        raise ValueError(f"{path}: none of its annotations has an outline, and the id of one of the labelled objects")
    return found


def quality(objects: list[tuple[Object, shapely.Geometry]], classes: list[str]) -> pandas.DataFrame:
    """A row for each object: its `class`, its `group` (see `oriented`), its `score`, and two kinds of IoU: with the
    true outline of the `mask`, the `ellipse` in the box, the `box`, and the outline's own hull, the `bound`; and with
    the outline's smallest rectangle of the `rotated` box and the `upright` one."""
    return pandas.DataFrame([{"class": classes[found.label - 1]} | compared(found, area) for found, area in objects])


def compared(found: Object, area: shapely.Geometry) -> dict:
    """`quality`'s row of one object."""
    box = shapely.box(*found.box)
    rectangle = outlines.smallest_rectangles(np.array([area]))[0]
    groups = oriented.groups(shapely.get_coordinates(rectangle)[None, :4])
    with_area = {"mask": shapely.convex_hull(shapely.multipoints(found.outline)),
                 "ellipse": shapely.Polygon(outlines.ellipses(found.box[None])[0]), "box": box,
                 "bound": area.convex_hull}
    with_rectangle = {"rotated": shapely.Polygon(found.corners), "upright": box}
    return {"group": next(name for name, chosen in groups.items() if name != "all" and chosen[0]),
            "score": found.score,
            **{name: float(outlines.iou(area, shape, outlines.GRID)) for name, shape in with_area.items()},
            **{name: float(outlines.iou(rectangle, shape, outlines.GRID)) for name, shape in with_rectangle.items()}}


def told(rows: pandas.DataFrame) -> dict[str, pandas.DataFrame]:
    """Means by group, by class, and by quarter of the score, the least sure first: does it sort good from bad?"""
    figures = list(rows.columns[3:])
    everything = pandas.concat([rows.assign(group="all"), rows])
    sets = {"groups": everything.groupby("group"), "classes": rows.groupby("class")}
    quarter = pandas.qcut(rows["score"].rank(method="first"), min(4, len(rows)), labels=False) + 1
    return {name: each[figures].mean().assign(objects=each.size()) for name, each in sets.items()} | {
        "quarters": rows.groupby(quarter)[["score", "mask", "rotated"]].mean()}
