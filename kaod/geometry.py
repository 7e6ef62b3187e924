"""Rigid maps of points, boxes and images; crops, hulls and minimum-area rectangles.

The one place for geometry conventions (see the package's docstring). A rigid map is a (..., 2, 3)
tensor [R | t]: x' = R x + t, in pixels. Points are (..., 2).
"""

import math

import numpy as np
import shapely
import torch
from torch import Tensor


def rigid(angle: Tensor, shift: Tensor, center: Tensor) -> Tensor:
    """The map that turns by `angle` (...; degrees, clockwise on the screen) about `center` (..., 2; pixels),
    then moves by `shift` (..., 2; pixels). Returns (..., 2, 3)."""
    radians = torch.deg2rad(angle)
    cos, sin = torch.cos(radians), torch.sin(radians)
    rotation = torch.stack((torch.stack((cos, -sin), -1), torch.stack((sin, cos), -1)), -2)
    translation = center + shift - (rotation @ center[..., None])[..., 0]
    return torch.cat((rotation, translation[..., None]), -1)


def random_rigid(sizes: Tensor, angle: float, shift: float, chance: float = 1, rand=torch.rand) -> Tensor:
    """One random map for each image, about its own centre: (N, 2, 3).

    sizes: (N, 2), width and height in pixels. Uniform within ±angle degrees and ±shift of width and height; with a
    `chance` below 1 the others stay where they are. Drawn from torch's global generator on the CPU: the same maps on
    any device. rand: what draws, of a given shape.
    """
    draws = (2 * rand(len(sizes), 3) - 1).to(sizes)
    if chance < 1:
        draws = draws * (rand(len(sizes), 1) < chance).to(sizes)
    return rigid(draws[:, 0] * angle, draws[:, 1:] * shift * sizes, sizes / 2)


def inverse(T: Tensor) -> Tensor:
    """T⁻¹ of a rigid map: R⁻¹ = Rᵀ."""
    rotation = T[..., :2].transpose(-1, -2)
    return torch.cat((rotation, -rotation @ T[..., 2:]), -1)


def transform(T: Tensor, points: Tensor) -> Tensor:
    """T (..., 2, 3) applied to points (..., N, 2)."""
    return points @ T[..., :2].transpose(-1, -2) + T[..., None, :, 2]


def corners(boxes: Tensor | np.ndarray) -> Tensor | np.ndarray:
    """The four corners (..., 4, 2) of boxes (..., 4), clockwise from the top left; an array's as an array."""
    return boxes[..., [[0, 1], [2, 1], [2, 3], [0, 3]]]


def centers(boxes: Tensor) -> Tensor:
    """The centres (..., 2) of boxes (..., 4)."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def absolute(offsets: Tensor, anchors: Tensor) -> Tensor:
    """Keypoints (..., L, K, 2) in pixels from offsets in anchor sizes; anchors: (..., L, 4), around their location."""
    return centers(anchors)[..., None, :] + (anchors[..., 2:] - anchors[..., :2])[..., None, :] * offsets


def photo_sizes(images) -> Tensor:
    """Width and height (N, 2) of each photo of torchvision's ImageList in pixels, padding aside."""
    return images.tensors.new_tensor([(width, height) for height, width in images.image_sizes])


def enclosing(points: Tensor) -> Tensor:
    """The smallest boxes (..., 4) around points (..., N, 2)."""
    return torch.cat((points.amin(-2), points.amax(-2)), -1)


def ellipse_boxes(T: Tensor, boxes: Tensor) -> Tensor:
    """The boxes (..., 4) of boxes' inscribed ellipses after T (..., 2, 3).

    Where only an object's box is known, this is a better guess of its turned self's box than the enclosing box of
    the turned corners, which is too large (Kalra et al., ICCV 2021).
    """
    half = (boxes[..., 2:] - boxes[..., :2]) / 2
    center = transform(T, (boxes[..., :2] + half)[..., None, :])[..., 0, :]
    reach = (T[..., :2].square() @ half.square()[..., None])[..., 0].sqrt()  # of R · diag(half) · unit circle
    return torch.cat((center - reach, center + reach), -1)


def warp_images(images: Tensor, T: Tensor, sizes: Tensor, fill: str, new_sizes: Tensor | None = None) -> Tensor:
    """Image i turned and moved by T[i], bilinear.

    images: (N, C, H, W), image i in the top left `sizes[i]` = (w, h) of its plane, the rest padding.
    T: (N, 2, 3). fill: what comes from outside the image's own frame: its "reflect"ion, "constant" 0, or its "mean".
    new_sizes: (N, 2), what is kept of the result, if not `sizes`.
    Each image is reflected within its own size (reflecting the batch would reflect the padding, and
    H2RBox's authors report that black borders teach a network the angle). The padding stays 0.
    """
    height, width = images.shape[-2:]
    ys, xs = torch.meshgrid(torch.arange(height, dtype=T.dtype, device=T.device) + 0.5,
                            torch.arange(width, dtype=T.dtype, device=T.device) + 0.5, indexing="ij")
    pixels = torch.stack((xs, ys)).flatten(1)  # (2, HW): pixel centres; coordinates first, which is quicker
    size, back = sizes.to(T)[..., None], inverse(T)
    source = back[..., :2] @ pixels + back[..., 2:]  # (N, 2, HW)
    kept = (pixels < (size if new_sizes is None else new_sizes.to(T)[..., None])).all(1)
    own = ((source >= 0) & (source <= size)).all(1)
    if fill == "reflect":
        source, own = size - (source.remainder(2 * size) - size).abs(), torch.ones_like(own)
    source = torch.minimum(source.clamp(min=0.5), size - 0.5)  # so that no padding is mixed in
    grid = (2 * source / torch.tensor([[width], [height]]).to(T) - 1).unflatten(2, (height, width))
    warped = torch.nn.functional.grid_sample(images, grid.permute(0, 2, 3, 1).to(images), padding_mode="border",
                                             align_corners=False)
    outside = images.sum((2, 3)) / sizes.to(images).prod(1, keepdim=True) if fill == "mean" else images.new_zeros(1, 1)
    own, kept = (each.unflatten(1, (height, width))[:, None] for each in (own, kept))
    return torch.where(own, warped, outside[..., None, None]) * kept


def at_least_a_pixel(resizing, given: tuple) -> tuple:
    """What torchvision's GeneralizedRCNNTransform is to take in place of (photos, targets): it would leave no pixel of
    the short side of a photo of, say, 2×400. Such a photo is stretched along that side, and its boxes with it."""
    photos, targets = list(given[0]), [*given[1]] if given[1:] and given[1] else None
    for number, photo in enumerate(photos):
        sides = photo.shape[-2:]
        least = max(sides) // resizing.max_size + 1
        if min(sides) < least:
            size = [max(side, least) for side in sides]
            photos[number] = torch.nn.functional.interpolate(photo[None], size, mode="bilinear")[0]
            if targets:
                boxes = targets[number]["boxes"]
                scale = boxes.new_tensor([size[1] / sides[1], size[0] / sides[0]] * 2)
                targets[number] = targets[number] | {"boxes": boxes * scale}
    return photos, targets


def largest_crop(width: float, height: float, angle: float) -> tuple[float, float]:
    """(w, h) of the largest upright rectangle, by area, inside a W×H image turned by `angle` degrees about
    its centre. The rectangle shares that centre."""
    angle = math.radians(angle)
    sin, cos = abs(math.sin(angle)), abs(math.cos(angle))
    long, short = max(width, height), min(width, height)
    if short <= 2 * sin * cos * long or abs(sin - cos) < 1e-9:
        # two corners of the crop touch the long sides, the other two lie on the line between them
        half = short / 2
        return (half / sin, half / cos) if width >= height else (half / cos, half / sin)
    square = cos * cos - sin * sin
    return (width * cos - height * sin) / square, (height * cos - width * sin) / square


def smallest_rectangle(hull: np.ndarray) -> np.ndarray:
    """The corners (4, 2), clockwise on the screen, of the smallest rectangle around a convex ring (V, 2).

    It lies along one of the ring's edges, so all are tried. (shapely's oriented_envelope is quicker, but GEOS 3.14 gets
    some thin sets with points nearly on a line wrong.) A line gives a rectangle without height, a point one without
    size.
    """
    edges = np.roll(hull, -1, 0) - hull
    lengths = np.linalg.norm(edges, axis=1)
    if not lengths.any():
        return np.repeat(hull[:1], 4, 0)
    along = edges[lengths > 0] / lengths[lengths > 0, None]  # (E, 2)
    across = np.stack((-along[:, 1], along[:, 0]), 1)
    u, v = hull @ along.T, hull @ across.T  # (V, E)
    best = (np.ptp(u, axis=0) * np.ptp(v, axis=0)).argmin()
    left, right, top, bottom = (end(places[:, best]) for places in (u, v) for end in (np.min, np.max))
    axes = np.stack((along[best], across[best]))
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)]) @ axes


def rotated_boxes(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Minimum-area rectangles of point sets (B, K, 2) in pixels.

    Returns corners (B, 4, 2), clockwise on the screen, and (B, 5): centre x, y, width ≥ height in pixels, and the angle
    of the width from the x axis in degrees, in [-90, 90).
    """
    rings = np.array([smallest_rectangle(hull) for hull in hulls(points)]).reshape(-1, 4, 2)
    sides = rings[:, 1:3] - rings[:, 0:2]  # (B, 2, 2): two neighbouring sides
    lengths, rows = np.linalg.norm(sides, axis=-1), np.arange(len(rings))
    longer = lengths.argmax(1)
    x, y = sides[rows, longer].T
    angle = (np.degrees(np.arctan2(y, x)) + 90) % 180 - 90
    return rings, np.column_stack((rings.mean(1), lengths[rows, longer], lengths[rows, 1 - longer], angle))


def rotated_corners(boxes: np.ndarray) -> np.ndarray:
    """The corners (B, 4, 2), clockwise on the screen, of rotated boxes (B, 5), as `rotated_boxes` gives them."""
    center, size, angle = torch.from_numpy(boxes.astype(np.float64)).split((2, 2, 1), 1)
    upright = corners(torch.cat((center - size / 2, center + size / 2), 1))
    return transform(rigid(angle[:, 0], torch.zeros_like(center), center), upright).numpy()


def principal_axis(ring: np.ndarray) -> np.ndarray:
    """The direction (2,) in which the area within a convex ring (V, 2) is longest, by its second moments."""
    around = ring - np.asarray(shapely.Polygon(ring).centroid.coords[0])
    ahead = np.roll(around, -1, 0)
    areas = around[:, 0] * ahead[:, 1] - around[:, 1] * ahead[:, 0]  # twice those of the triangles to the centroid
    both = around + ahead
    moments = sum(area * (np.outer(a, a) + np.outer(b, b) + np.outer(c, c)) for area, a, b, c in zip(
        areas, around, ahead, both))
    return np.linalg.eigh(moments * np.sign(areas.sum()))[1][:, 1]


def rectangle_in_box(ring: np.ndarray, box: np.ndarray, fills: bool, trust: float = 0.6) -> np.ndarray:
    """The corners (4, 2), clockwise, of the rectangle that lies as an object does and agrees with its upright box (4,).

    ring: the object's convex outline (V, 2), as far as it is known. The angle is that of its principal axis. The sides
    l along it and w have the box as upright extent, l |cos| + w |sin| by l |sin| + w |cos|, if the object `fills` its
    rectangle, as a car does. Else that extent is larger, by as much as for the rectangle around the ring. Two equations
    leave l and w open near 45°; so, by least squares, they also are those around the ring, with the weight `trust`.
    """
    along = principal_axis(ring)
    axes = np.stack((along, (-along[1], along[0])))
    sizes, size = box[2:] - box[:2], np.maximum(np.ptp(ring, axis=0), 1e-6)
    around = np.ptp(ring @ axes.T, axis=0)
    extents = np.abs(axes).T  # of sides l, w along x and y
    wanted = sizes if fills else sizes * (extents @ around) / size
    around = around * np.sqrt((sizes / size).prod())  # at the box's scale
    equations = np.concatenate((extents, trust * np.eye(2)))
    sides = np.linalg.lstsq(equations, np.concatenate((wanted, trust * around)), rcond=None)[0]
    half = np.maximum(sides, 1e-3) / 2 * [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    return (box[:2] + box[2:]) / 2 + half @ axes


def hulls(points: np.ndarray) -> list[np.ndarray]:
    """Convex hulls of point sets (B, K, 2): one (V, 2) ring each, open; V < 3 where the set is a line or a point."""
    if len(points) == 0:
        return []
    rings = [shapely.get_coordinates(hull) for hull in shapely.convex_hull(shapely.multipoints(list(points)))]
    return [ring[:-1] if len(ring) > 2 else ring for ring in rings]


def masks(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The hulls of point sets (B, K, 2) as masks (B, height, width), bool: the pixels whose centres are inside.

    size: (width, height) in pixels. Degenerate sets have empty masks; what lies outside the image is cut off.
    """
    width, height = size
    found = np.zeros((len(points), height, width), bool)
    for mask, each in zip(found, points):
        hull = shapely.convex_hull(shapely.multipoints(each))
        if hull.area < 1e-6:  # a point or a line
            continue
        x1, y1, x2, y2 = np.clip(hull.bounds, 0, [width, height] * 2).astype(int)
        xs, ys = np.meshgrid(np.arange(x1, min(x2 + 1, width)) + 0.5, np.arange(y1, min(y2 + 1, height)) + 0.5)
        mask[y1:y2 + 1, x1:x2 + 1] = shapely.contains_xy(hull, xs, ys)
    return found


def trace(mask: np.ndarray) -> shapely.Geometry:
    """The exact outline of a boolean mask (H, W), along the pixels' edges: one rectangle for each run of pixels
    in a row, united. (contourpy is near at hand but cuts corners; rasterio would do the same.)"""
    edges = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    rows, starts = np.nonzero(edges == 1)
    _, ends = np.nonzero(edges == -1)
    return shapely.union_all(shapely.box(starts, rows, ends, rows + 1))


def polygon(parts: list[np.ndarray]) -> shapely.Geometry:
    """The area that an object's outlines (each (V, 2)) cover, as one valid shapely geometry without lines or points.

    An outline that goes out and back along one line leaves that line when it is made valid: it has no area."""
    area = shapely.union_all([shapely.make_valid(shapely.Polygon(part)) for part in parts if len(part) >= 3])
    if area.geom_type in ("Polygon", "MultiPolygon"):
        return area
    return shapely.union_all([part for part in shapely.get_parts(area) if shapely.get_dimensions(part) == 2])
