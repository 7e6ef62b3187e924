"""How good the rotated boxes and masks of `relabel` are, where true outlines are known."""

from pathlib import Path

import numpy as np
import pandas
import shapely

from .. import geometry
from ..data import coco
from . import oriented, outlines

GRID = 1e-9  # pixels: without a grid GEOS 3.14 gives some shapes that differ by the last bit no intersection


def quality(content: dict, work: list[tuple], truth: Path) -> pandas.DataFrame:
    """A row for each object with a known outline in the file `truth`: its `group` (see `oriented`), its `score`, and
    two kinds of IoU: with that outline of the `mask`, the `ellipse` in the box, the `box`, and the outline's own hull,
    the `bound`; and with the outline's smallest rectangle of the `rotated` box and the `upright` one.

    content: what was relabelled, in COCO's format; work: its photos and their objects, as `relabel` has them. Raises
    ValueError where no object is known.
    """
    true = {str(item.get("id")): item for item in coco.parse(truth)["annotations"]}
    rows = []
    for sample, objects in work:
        for each in objects:
            item = true.get(str(content["annotations"][each.place].get("id")))
            area = geometry.polygon(coco.outlines(item, sample.size)) if item else shapely.Polygon()
            if area.area > 0:
                rows.append(compared(each, area))
    if not rows:
        raise ValueError(f"{truth}: none of its annotations has an outline, and the id of one that was relabelled")
    return pandas.DataFrame(rows)


def compared(found, area: shapely.Geometry) -> dict:
    """`quality`'s row of one object (relabel.Object)."""
    box = shapely.box(*found.box)
    rectangle = outlines.smallest_rectangles(np.array([area]))[0]
    groups = oriented.groups(shapely.get_coordinates(rectangle)[None, :4])
    with_area = {"mask": box if found.unsure else shapely.convex_hull(shapely.multipoints(found.outline)),
                 "ellipse": shapely.Polygon(outlines.ellipses(found.box[None])[0]), "box": box,
                 "bound": area.convex_hull}
    with_rectangle = {"rotated": box if found.unsure else shapely.Polygon(found.corners), "upright": box}
    return {"group": next(name for name, chosen in groups.items() if name != "all" and chosen[0]),
            "score": found.score,
            **{name: float(outlines.iou(area, shape, GRID)) for name, shape in with_area.items()},
            **{name: float(outlines.iou(rectangle, shape, GRID)) for name, shape in with_rectangle.items()}}


def told(rows: pandas.DataFrame) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """Means by group, and by quarter of the score, the least sure first: does it sort good from bad?"""
    figures = list(rows.columns[2:])
    groups = pandas.concat([rows.assign(group="all"), rows]).groupby("group")
    quarter = pandas.qcut(rows["score"].rank(method="first"), min(4, len(rows)), labels=False) + 1
    return (groups[figures].mean().assign(objects=groups.size()),
            rows.groupby(quarter)[["score", "mask", "rotated"]].mean())
