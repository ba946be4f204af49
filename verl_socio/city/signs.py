"""What places are: their classes, names and marks on the map, drawn without touching their extents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from shapely import Polygon

from verl_socio.city.catalog import KINDS, MARKERS, Marker, PlaceClass
from verl_socio.city.plots import Plot


@dataclass(frozen=True)
class Sign:
    """What the map tells of a place.

    Attributes:
        place_class: Its class: the icon's colour and shape.
        marker: The first word of its name: the colour of the bar under the icon.
        icon_xy: Centre of the icon in pixels; inside one of the parts, off its centre.
        dots_xy: A dot in the icon's colour for each of the other parts.
    """

    place_class: PlaceClass
    marker: Marker
    icon_xy: tuple[float, float]
    dots_xy: tuple[tuple[float, float], ...]

    @property
    def name(self) -> str:
        """The proper name, as a question asks for it; there are no two of it in a scene."""
        return f"{self.marker.word} {self.place_class.kind.word}"


def icon_size(unit: float) -> float:
    """Width of an icon in pixels: 10 at an image size of 140, larger on larger images, never below 9."""
    return max(9.0, 10.0 * math.pow(unit, 0.72))


def assign(
    rng: np.random.Generator,
    plots: Sequence[Plot],
    size_wh: tuple[int, int],
    unit: float,
    pool: Sequence[PlaceClass],
    repeats: int,
) -> tuple[Sign, ...]:
    """Give every plot a class, a name and its marks.

    Within a block no function occurs twice: dots belong to one icon only, and no two instances of a target touch.

    Args:
        rng: Source of chance.
        plots: The plots, none of which is changed or looked at beyond its parts' outlines and its block.
        size_wh: Width and height of the image.
        unit: Pixels of one unit of design.
        pool: Classes to choose from.
        repeats: How many places of one class there shall be, as far as there are blocks; the other classes occur once
            as long as there are enough.

    Returns:
        A sign for each plot.
    """
    classes = _classes(rng, [plot.block for plot in plots], pool, repeats)
    markers = _markers(rng, classes)
    marks = _marks(rng, plots, size_wh, icon_size(unit))
    return tuple(
        Sign(place_class, marker, icon_xy, dots_xy)
        for place_class, marker, (icon_xy, dots_xy) in zip(classes, markers, marks, strict=True)
    )


def _classes(
    rng: np.random.Generator, blocks: Sequence[int], pool: Sequence[PlaceClass], repeats: int
) -> list[PlaceClass]:
    given: dict[int, PlaceClass] = {}
    order = rng.permutation(len(blocks)).tolist()
    first_of_block = {blocks[index]: index for index in reversed(order)}
    repeated = pool[int(rng.integers(len(pool)))]
    for index in [index for index in order if first_of_block[blocks[index]] == index][:repeats]:
        given[index] = repeated
    for index in order:
        if index in given:
            continue
        near = {given[other].function for other in given if blocks[other] == blocks[index]}
        kinds = [place_class.kind for place_class in given.values()]
        fitting = [one for one in pool if one.function not in near and kinds.count(one.kind) < len(MARKERS)]
        new = [one for one in fitting if one not in given.values()]
        choice = new or fitting
        assert choice, "more places than names"
        given[index] = choice[int(rng.integers(len(choice)))]
    return [given[index] for index in range(len(blocks))]


def _markers(rng: np.random.Generator, classes: Sequence[PlaceClass]) -> list[Marker]:
    """A marker for each place, different for places of one kind: a name is a marker and a kind."""
    free = {kind.word: [MARKERS[index] for index in rng.permutation(len(MARKERS))] for kind in KINDS}
    return [free[place_class.kind.word].pop() for place_class in classes]


def _marks(
    rng: np.random.Generator, plots: Sequence[Plot], size_wh: tuple[int, int], icon: float
) -> list[tuple[tuple[float, float], tuple[tuple[float, float], ...]]]:
    taken: list[tuple[float, float]] = []
    icons, mains = [], []
    for plot in plots:
        areas = np.array([part.polygon.area for part in plot.parts])
        main = int(rng.choice(len(areas), p=areas / areas.sum()))
        xy = _spot(rng, plot.parts[main].polygon, size_wh, icon, taken, icon)
        taken.append(xy)
        icons.append(xy)
        mains.append(main)
    found = []
    for plot, main, icon_xy in zip(plots, mains, icons, strict=True):
        others = [part for index, part in enumerate(plot.parts) if index != main]
        dots = tuple(_spot(rng, part.polygon, size_wh, dot_size(icon), taken, icon) for part in others)
        found.append((icon_xy, dots))
    return found


def dot_size(icon: float) -> float:
    """Width of a dot in pixels, for an icon of this width."""
    return 0.46 * icon


def bar_box(icon_xy: tuple[float, float], icon: float) -> tuple[float, float, float, float]:
    """The bar under an icon: x1, y1, x2, y2 in pixels."""
    x, y = icon_xy
    return x - 0.6 * icon, y + 0.66 * icon, x + 0.6 * icon, y + 0.98 * icon


def _spot(
    rng: np.random.Generator,
    polygon: Polygon,
    size_wh: tuple[int, int],
    size: float,
    taken: Sequence[tuple[float, float]],
    icon: float,
) -> tuple[float, float]:
    """A place for a mark: inside the polygon, off its centre, in the image with its bar, clear of the icons."""
    x1, y1, x2, y2 = polygon.bounds
    xy = rng.uniform((x1, y1), (x2, y2), (64, 2))
    core = polygon.buffer(-0.5 * size - 1.0)
    xy = np.concatenate([xy, [(polygon if core.is_empty else core).representative_point().coords[0]]])
    points = shapely.points(xy)
    inside = np.where(shapely.contains(polygon, points), 1.0, -1.0) * shapely.distance(polygon.exterior, points)
    centre = np.asarray(polygon.centroid.coords[0])
    off_centre = np.linalg.norm(xy - centre, axis=1) / math.sqrt(polygon.area)
    cost = 10.0 * np.maximum(0.0, 0.55 * size + 0.5 - inside) + 12.0 * np.maximum(0.0, 0.2 - off_centre)
    for other_xy in taken:
        apart = np.abs(xy - other_xy) / (icon * np.array([1.3, 1.65]))
        cost += 60.0 * np.maximum(0.0, 1.0 - apart.max(axis=1))
    low, high = np.array([0.62, 0.62]) * size + 1.0, np.array(size_wh) - np.array([0.62, 1.05]) * size - 1.0
    cost += 20.0 * np.maximum(0.0, np.maximum(low - xy, xy - high)).sum(axis=1)
    cost += 1000.0 * (inside <= 0.0)
    x, y = xy[int(np.argmin(cost + rng.uniform(0.0, 0.05, len(cost))))].tolist()
    return x, y
