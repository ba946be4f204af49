"""Anti-aliased shapes on images and in masks; AGG grows every fill by a quarter of a pixel, in both alike."""

from __future__ import annotations

import math
from collections.abc import Iterable

import aggdraw
import numpy as np
import shapely
from PIL import Image
from shapely import LineString, Polygon
from shapely.geometry.base import BaseGeometry

from verl_socio.city.catalog import Rgb


def path_of(polygon: Polygon) -> aggdraw.Path:
    """The outline of a polygon with its holes, as AGG takes it."""
    path = aggdraw.Path()
    oriented = shapely.orient_polygons(polygon)
    for ring in (oriented.exterior, *oriented.interiors):
        corners = shapely.get_coordinates(ring)[:-1].tolist()
        path.moveto(*corners[0])
        for corner in corners[1:]:
            path.lineto(*corner)
        path.close()
    return path


def polygons_of(shape: BaseGeometry) -> list[Polygon]:
    """The polygons in a shape of any kind."""
    return [part for part in shapely.get_parts(shape) if isinstance(part, Polygon) and not part.is_empty]


def fill(draw: aggdraw.Draw, shape: BaseGeometry, rgb: Rgb, opacity: int = 255) -> None:
    """Fill a shape.

    Args:
        draw: Where to.
        shape: Polygons, in pixels.
        rgb: Colour.
        opacity: 0 to 255.
    """
    for polygon in polygons_of(shape):
        draw.path(path_of(polygon), None, aggdraw.Brush(rgb, opacity))


def stroke(draw: aggdraw.Draw, line: LineString, rgb: Rgb, width: float, opacity: int = 255) -> None:
    """Draw a line of some width, with flat ends."""
    draw.line(shapely.get_coordinates(line).ravel().tolist(), aggdraw.Pen(rgb, width, opacity))


def disc(draw: aggdraw.Draw, centre_xy: tuple[float, float], radius: float, rgb: Rgb, opacity: int = 255) -> None:
    """Fill a disc."""
    x, y = centre_xy
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), None, aggdraw.Brush(rgb, opacity))


def coverage(shape: BaseGeometry, size_wh: tuple[int, int]) -> tuple[tuple[slice, slice], np.ndarray]:
    """How much of each pixel a shape covers, in the smallest window that holds it.

    Args:
        shape: Polygons, in pixels; may reach beyond the image.
        size_wh: Size of the image.

    Returns:
        The window as slices of rows and columns (empty where the shape is outside), and uint8 (h, w), 0 to 255.
    """
    if shape.is_empty:
        return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), np.uint8)
    x1, y1, x2, y2 = shape.bounds
    left, top = max(0, math.floor(x1) - 1), max(0, math.floor(y1) - 1)
    right, bottom = min(size_wh[0], math.ceil(x2) + 1), min(size_wh[1], math.ceil(y2) + 1)
    if right <= left or bottom <= top:
        return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), np.uint8)
    window = Image.new("L", (right - left, bottom - top))
    draw = aggdraw.Draw(window)
    brush = aggdraw.Brush(255)
    for polygon in polygons_of(shapely.transform(shape, lambda xy: xy - (left, top))):
        draw.path(path_of(polygon), None, brush)
    draw.flush()
    return (slice(top, bottom), slice(left, right)), np.asarray(window)


def mask_of(shapes: Iterable[BaseGeometry], size_wh: tuple[int, int]) -> np.ndarray:
    """The pixels of which shapes cover at least half: bool (H, W)."""
    mask_hw = np.zeros((size_wh[1], size_wh[0]), dtype=bool)
    for shape in shapes:
        window, covered_hw = coverage(shape, size_wh)
        mask_hw[window] |= covered_hw >= 128
    return mask_hw
