"""What stands on a surface: trees, cars, vents, stacks, the lines of a pitch.

What stands on a cell lies within its outline; crowns of trees, whose middles do, and shadows may reach beyond it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import aggdraw
import numpy as np
import shapely
from shapely import LineString, Point, Polygon

from verl_socio.city.catalog import Rgb
from verl_socio.city.drawing import disc, fill, stroke
from verl_socio.city.surfaces import Colour, Palette


class Site:
    """A cell with coordinates of its own: u along its long rows, v across, in units, 0 at its centre.

    Args:
        polygon: The cell's outline in pixels.
        angle: Direction of u, in radians.
        unit: Pixels of one unit.
    """

    def __init__(self, polygon: Polygon, angle: float, unit: float) -> None:
        self.polygon = polygon
        self.unit = unit
        self._inner: dict[float, Polygon] = {}
        self._cos, self._sin = math.cos(angle), math.sin(angle)
        self._centre_xy = (0.0, 0.0)
        x, y = shapely.get_coordinates(polygon.exterior).T
        u, v = self.to_local(x, y)
        self._centre_xy = self.to_image((u.max() + u.min()) / 2.0, (v.max() + v.min()) / 2.0)
        self.half_uv = (float(np.ptp(u)) / 2.0, float(np.ptp(v)) / 2.0)

    def to_local(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """From pixels of the image to u and v."""
        dx, dy = x - self._centre_xy[0], y - self._centre_xy[1]
        return (dx * self._cos + dy * self._sin) / self.unit, (dy * self._cos - dx * self._sin) / self.unit

    def to_image(self, u: float, v: float) -> tuple[float, float]:
        """From u and v to pixels of the image."""
        x = self._centre_xy[0] + self.unit * (u * self._cos - v * self._sin)
        y = self._centre_xy[1] + self.unit * (u * self._sin + v * self._cos)
        return x, y

    def box(self, u: float, v: float, half_u: float, half_v: float) -> Polygon:
        """A rectangle along the cell's directions, in pixels."""
        corners = ((-half_u, -half_v), (half_u, -half_v), (half_u, half_v), (-half_u, half_v))
        return Polygon([self.to_image(u + du, v + dv) for du, dv in corners])

    def grid(self, step_u: float, step_v: float) -> list[tuple[float, float]]:
        """Points of a grid over the cell, as u and v."""
        columns = np.arange(-self.half_uv[0] + step_u / 2.0, self.half_uv[0], step_u)
        rows = np.arange(-self.half_uv[1] + step_v / 2.0, self.half_uv[1], step_v)
        return [(float(u), float(v)) for v in rows for u in columns]

    def holds(self, shape: shapely.Geometry, margin: float = 0.0) -> bool:
        """Whether a shape lies inside the cell, `margin` units off its edge."""
        if margin not in self._inner:
            self._inner[margin] = self.polygon.buffer(-margin * self.unit)
            shapely.prepare(self._inner[margin])
        return bool(self._inner[margin].contains(shape))


def draw_objects(
    draw: aggdraw.Draw, rng: np.random.Generator, site: Site, objects: str, palette: Palette, sun: np.ndarray
) -> None:
    """Draw what stands on one cell.

    Args:
        draw: Where to.
        rng: Source of chance of this cell.
        site: The cell.
        objects: What stands there; a surface's `objects`.
        palette: Colours of the region.
        sun: Where a shadow of height 1 falls, as x and y in pixels.
    """
    if objects:
        DRAWERS[objects](draw, rng, site, palette, sun)


def draw_tree(
    draw: aggdraw.Draw, rng: np.random.Generator, xy: np.ndarray, radius: float, palette: Palette, sun: np.ndarray
) -> None:
    """Draw one crown with its shadow and its lit side; lengths in pixels."""
    x, y = float(xy[0]), float(xy[1])
    tone = float(rng.uniform(0.85, 1.2))
    reach = 0.35 * radius
    disc(draw, (x + reach * sun[0] / np.hypot(*sun), y + reach * sun[1] / np.hypot(*sun)), radius, (24, 30, 24), 120)
    disc(draw, (x, y), radius, _toned(palette.tree, tone))
    disc(draw, (x - 0.25 * radius, y - 0.25 * radius), 0.55 * radius, _toned(palette.tree, tone * 1.3), 150)


def _trees(draw: aggdraw.Draw, rng: np.random.Generator, site: Site, palette: Palette, sun: np.ndarray) -> None:
    for u, v in site.grid(4.2, 4.2):
        xy = site.to_image(u + rng.uniform(-1.6, 1.6), v + rng.uniform(-1.6, 1.6))
        radius = float(rng.uniform(1.8, 3.0))
        if site.holds(Point(xy), 1.7):
            draw_tree(draw, rng, np.array(xy), radius * site.unit, palette, sun)


def _few_trees(draw: aggdraw.Draw, rng: np.random.Generator, site: Site, palette: Palette, sun: np.ndarray) -> None:
    for _ in range(int(rng.integers(1, 6))):
        xy = site.to_image(*(rng.uniform(-0.9, 0.9, 2) * site.half_uv).tolist())
        radius = float(rng.uniform(1.2, 2.2))
        if site.holds(Point(xy), 1.7):
            draw_tree(draw, rng, np.array(xy), radius * site.unit, palette, sun)


def _orchard(draw: aggdraw.Draw, rng: np.random.Generator, site: Site, palette: Palette, sun: np.ndarray) -> None:
    for u, v in site.grid(5.2, 5.2):
        xy = site.to_image(u, v)
        if site.holds(Point(xy), 1.6) and rng.random() < 0.95:
            draw_tree(draw, rng, np.array(xy), float(rng.uniform(1.5, 1.9)) * site.unit, palette, sun)


_PAINTS: tuple[Rgb, ...] = (
    (232, 234, 236),
    (190, 194, 198),
    (60, 62, 68),
    (128, 132, 138),
    (150, 44, 40),
    (48, 74, 130),
)


def _cars(draw: aggdraw.Draw, rng: np.random.Generator, site: Site, palette: Palette, sun: np.ndarray) -> None:
    taken = float(rng.uniform(0.45, 0.85))
    for u, v in site.grid(3.0, 4.9):
        # Two rows of cars, then a lane.
        row = round((v + site.half_uv[1]) / 4.9 - 0.5)
        car = site.box(u, v, 0.95, 1.8)
        if row % 3 != 2 and rng.random() < taken and site.holds(car, 0.6):
            fill(draw, car, _PAINTS[int(rng.integers(len(_PAINTS)))])


def _vents(draw: aggdraw.Draw, rng: np.random.Generator, site: Site, palette: Palette, sun: np.ndarray) -> None:
    for _ in range(int(rng.integers(2, 7))):
        u, v = (rng.uniform(-0.8, 0.8, 2) * site.half_uv).tolist()
        vent = site.box(u, v, *rng.uniform(0.9, 2.2, 2).tolist())
        if site.holds(vent, 1.5):
            fill(draw, shapely.transform(vent, lambda xy: xy + sun), (30, 30, 34), 110)
            tone = int(rng.integers(130, 225))
            fill(draw, vent, (tone, tone, tone))


_CONTAINERS: tuple[Rgb, ...] = ((164, 84, 58), (74, 106, 146), (92, 122, 88), (150, 146, 140), (196, 164, 92))


def _stacks(draw: aggdraw.Draw, rng: np.random.Generator, site: Site, palette: Palette, sun: np.ndarray) -> None:
    for u, v in site.grid(7.4, 4.2):
        if rng.random() < 0.3:
            continue
        stack = site.box(u, v, 3.0, 1.35)
        if site.holds(stack, 1.0):
            fill(draw, shapely.transform(stack, lambda xy: xy + sun), (40, 36, 32), 110)
            fill(draw, stack, _CONTAINERS[int(rng.integers(len(_CONTAINERS)))])


def _pitch(draw: aggdraw.Draw, rng: np.random.Generator, site: Site, palette: Palette, sun: np.ndarray) -> None:
    half_u, half_v = 0.78 * site.half_uv[0], 0.76 * site.half_uv[1]
    width = max(0.8, 0.62 * site.unit)
    edge = site.box(0.0, 0.0, half_u, half_v)
    if not site.holds(edge):
        return
    white = (238, 240, 236)
    stroke(draw, edge.exterior, white, width, 210)
    stroke(draw, LineString([site.to_image(0.0, -half_v), site.to_image(0.0, half_v)]), white, width, 210)
    circle = Point(site.to_image(0.0, 0.0)).buffer(0.3 * min(half_u, half_v) * site.unit)
    stroke(draw, circle.exterior, white, width, 210)


def _houses(draw: aggdraw.Draw, rng: np.random.Generator, site: Site, palette: Palette, sun: np.ndarray) -> None:
    """Small hipped roofs in rows, each in a garden."""
    for u, v in site.grid(9.0, 11.0):
        size = rng.uniform((2.6, 2.2), (3.5, 3.2))
        middle = (u + float(rng.uniform(-0.6, 0.6)), v + float(rng.uniform(-1.0, 1.0)))
        house = site.box(*middle, *size.tolist())
        if not site.holds(house, 0.8):
            continue
        roof = palette.tiles if rng.random() < 0.6 else palette.dark
        tone = float(rng.uniform(0.85, 1.15))
        fill(draw, shapely.transform(house, lambda xy: xy + 1.2 * sun), (22, 24, 22), 120)
        fill(draw, house, _toned(roof, 0.86 * tone))
        fill(draw, site.box(middle[0], middle[1] - 0.5 * size[1], size[0], 0.5 * size[1]), _toned(roof, 1.14 * tone))


def _slabs(draw: aggdraw.Draw, rng: np.random.Generator, site: Site, palette: Palette, sun: np.ndarray) -> None:
    """Long flat roofs in rows, with the shadows of tall buildings."""
    half_u = max(4.0, min(12.0, 0.8 * site.half_uv[0]))
    for u, v in site.grid(2.0 * half_u + 2.0, 9.0):
        slab = site.box(u, v, half_u, float(rng.uniform(2.2, 2.8)))
        if not site.holds(slab, 0.8):
            continue
        fill(draw, shapely.transform(slab, lambda xy: xy + 2.2 * sun), (22, 24, 26), 130)
        fill(draw, slab, _toned(palette.flat, float(rng.uniform(0.82, 1.08))))
        for _ in range(3):
            vent = site.box(u + float(rng.uniform(-0.8, 0.8)) * half_u, v, 0.8, 0.8)
            fill(draw, vent, _toned(palette.flat, 0.7))


def _toned(colour: Colour, tone: float) -> Rgb:
    red, green, blue = (int(min(255.0, value * tone)) for value in colour)
    return red, green, blue


_Drawer = Callable[[aggdraw.Draw, np.random.Generator, Site, Palette, np.ndarray], None]
DRAWERS: Mapping[str, _Drawer] = {
    "trees": _trees,
    "few trees": _few_trees,
    "orchard": _orchard,
    "cars": _cars,
    "vents": _vents,
    "stacks": _stacks,
    "pitch": _pitch,
    "houses": _houses,
    "slabs": _slabs,
}
