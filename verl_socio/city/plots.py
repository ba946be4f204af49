"""Which cells make up a place: extents and surfaces, drawn without knowing what the places are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from shapely import Polygon
from shapely.geometry.base import BaseGeometry

from verl_socio.city.drawing import polygons_of
from verl_socio.city.layout import Cell, Layout
from verl_socio.city.surfaces import SURFACES

GAP = 2.4
"""Units of open ground between two cells, of one place or of two: what belongs together does not show on the ground."""

_MOST_OF_A_BLOCK = 8
"""Places in a block at most: below the number of functions, none of which is twice in a block."""

_EMPTY_SHARE = 0.15
_SEVERAL_SHARE = 0.6


@dataclass(frozen=True)
class Part:
    """A piece of ground under one surface.

    Attributes:
        polygon: Its outline in pixels, within the image.
        surface: Name of its surface.
        angle: Direction of its long rows, in radians.
        seed: Seed of its texture.
    """

    polygon: Polygon
    surface: str
    angle: float
    seed: int


@dataclass(frozen=True)
class Plot:
    """The ground of one place.

    Attributes:
        extent: Its outline in pixels, within the image: the parts and the strips between them.
        parts: Its parts, of different surfaces.
        block: Number of the block it lies in; a block holds at least one cell of something else.
    """

    extent: Polygon
    parts: tuple[Part, ...]
    block: int


def divide(
    rng: np.random.Generator, layout: Layout, size_wh: tuple[int, int]
) -> tuple[tuple[Plot, ...], tuple[Part, ...]]:
    """Give the cells of a layout to places.

    Args:
        rng: Source of chance.
        layout: The ground plan.
        size_wh: Width and height of the image.

    Returns:
        The places' plots, and the cells that are no place's: on the satellite they look the same.
    """
    frame = shapely.box(0, 0, *size_wh)
    plots: list[Plot] = []
    rest: list[Part] = []
    for number, land in enumerate(layout.blocks):
        inside = [cell for cell in land.cells if cell.polygon.intersects(frame)]
        names = _surfaces(rng, len(inside))
        parts = [_part(rng, cell, name, frame, layout.unit) for cell, name in zip(inside, names, strict=True)]
        usable = [_usable(cell, part, layout.unit) for cell, part in zip(inside, parts, strict=True)]
        taken = _grouped(rng, inside, usable, frame, layout.unit)
        for group, extent in taken:
            members = tuple(part for index in group if (part := parts[index]) is not None)
            plots.append(Plot(extent, members, number))
        used = {index for group, _ in taken for index in group}
        rest += [part for index, part in enumerate(parts) if part is not None and index not in used]
    return tuple(plots), tuple(rest)


def _surfaces(rng: np.random.Generator, count: int) -> list[str]:
    """Surfaces for the cells of a block, none twice as long as there are enough."""
    names: list[str] = []
    while len(names) < count:
        names += rng.permutation(list(SURFACES)).tolist()
    return names[:count]


def _part(rng: np.random.Generator, cell: Cell, surface: str, frame: Polygon, unit: float) -> Part | None:
    seed = int(rng.integers(2**31))
    inner = cell.polygon.buffer(-GAP * unit / 2.0, join_style="mitre")
    shown = polygons_of(inner.intersection(frame))
    return Part(max(shown, key=lambda polygon: polygon.area), surface, cell.angle, seed) if shown else None


def _usable(cell: Cell, part: Part | None, unit: float) -> bool:
    """Whether enough of a cell lies in the image, and it is not too thin to carry an icon."""
    if part is None or part.polygon.area < 0.72 * cell.polygon.area - (4.0 * unit) ** 2:
        return False
    return part.polygon.area > (17.0 * unit) ** 2 and not part.polygon.buffer(-7.0 * unit).is_empty


def _grouped(
    rng: np.random.Generator, cells: Sequence[Cell], usable: Sequence[bool], frame: Polygon, unit: float
) -> list[tuple[tuple[int, ...], Polygon]]:
    free = {index for index, ok in enumerate(usable) if ok}
    found: list[tuple[tuple[int, ...], Polygon]] = []
    if len(cells) < 2:
        # A block that is one cell would show on the map where the place ends.
        return found
    neighbours = _neighbours(cells, unit)
    for index in rng.permutation(len(cells)).tolist():
        if index not in free or len(found) == _MOST_OF_A_BLOCK or rng.random() < _EMPTY_SHARE:
            continue
        groups: list[tuple[int, ...]] = [(index,)]
        if rng.random() < _SEVERAL_SHARE:
            groups = [group for group in _groups(index, free, neighbours) if len(group) < len(cells)] or groups
        extents = [_extent([cells[member].polygon for member in group], frame, unit) for group in groups]
        weights = np.array([0.0 if extent is None else _openness(extent) for extent in extents])
        if weights.sum() > 0.0:
            chosen = int(rng.choice(len(groups), p=weights / weights.sum()))
            extent = extents[chosen]
            assert extent is not None
            found.append((groups[chosen], extent))
            free -= set(groups[chosen])
    return found


def _groups(start: int, free: set[int], neighbours: dict[int, set[int]]) -> list[tuple[int, ...]]:
    """Connected sets of two or three free cells with `start` in them."""
    pairs: list[tuple[int, ...]] = [(start, other) for other in sorted(neighbours[start] & free)]
    triples = {
        (start, *sorted({second, third}))
        for second in sorted(neighbours[start] & free)
        for third in (neighbours[start] | neighbours[second]) & free - {start, second}
    }
    return pairs + sorted(triples)


def _openness(extent: Polygon) -> float:
    """Weight of an extent: the less of its box it fills, the more its box alone leaves open."""
    x1, y1, x2, y2 = extent.bounds
    return float((1.05 - extent.area / ((x2 - x1) * (y2 - y1))) ** 2)


def _extent(cells: Sequence[Polygon], frame: Polygon, unit: float) -> Polygon | None:
    """The ground of some neighbouring cells with the strips between them, or None where it would fall apart."""
    seam = 0.4 * unit
    joined: BaseGeometry = shapely.union_all([cell.buffer(seam, join_style="mitre") for cell in cells])
    # Without the slivers of a side's length that the union leaves, a mitre has a direction to follow.
    joined = joined.simplify(0.02 * unit)
    shape = joined.buffer(-seam - GAP * unit / 2.0, join_style="mitre").intersection(frame)
    return shape if isinstance(shape, Polygon) and not shape.is_empty else None


def _neighbours(cells: Sequence[Cell], unit: float) -> dict[int, set[int]]:
    """For each cell those that share a side of some length with it."""
    grown = [cell.polygon.buffer(0.25 * unit) for cell in cells]
    found: dict[int, set[int]] = {index: set() for index in range(len(cells))}
    for first in range(len(cells)):
        for second in range(first):
            shared = grown[first].intersection(grown[second]).area / (0.5 * unit)
            if shared > 8.0 * unit:
                found[first].add(second)
                found[second].add(first)
    return found
