"""Roads, water, blocks and their cells, without any meaning yet. Unit: pixels of the image, y down."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from shapely import LineString, Polygon, affinity
from shapely.geometry.base import BaseGeometry

REGIONS = ("home", "new")

BANK = 2.5
"""Units of open ground between water and the cells beside it."""


@dataclass(frozen=True)
class Road:
    """A stretch of road: its middle line, its width, and whether it is a main road."""

    line: LineString
    width: float
    main: bool


@dataclass(frozen=True)
class Cell:
    """A piece of a block as it would be without the frame: what one surface will cover.

    Attributes:
        polygon: Its outline.
        angle: Direction of its long rows, in radians.
    """

    polygon: Polygon
    angle: float


@dataclass(frozen=True)
class Block:
    """The land between some roads: its outline and the cells that it is divided into."""

    outline: Polygon
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Layout:
    """The ground plan.

    Attributes:
        unit: Pixels of one unit of design: 1 at an image size of 140, growing more slowly than the image, so that a
            larger image shows more places as well as larger ones.
        roads: Roads.
        water: A river, or None.
        blocks: The blocks between the roads.
    """

    unit: float
    roads: tuple[Road, ...]
    water: Polygon | None
    blocks: tuple[Block, ...]


def design_unit(size_wh: tuple[int, int]) -> float:
    """Pixels of one unit of design for an image of this size."""
    ratio = max(size_wh) / 140.0
    return math.pow(ratio, 0.6 if ratio >= 1.0 else 0.5)


def draw_layout(rng: np.random.Generator, size_wh: tuple[int, int], region: str) -> Layout:
    """Draw a ground plan that covers the image.

    Args:
        rng: Source of chance.
        size_wh: Width and height of the image.
        region: "home": streets of a grown grid, meeting at right angles; "new": streets between irregular blocks.

    Returns:
        The plan. It reaches beyond the image on all sides.
    """
    unit = design_unit(size_wh)
    roads, blocks = (_grid if region == "home" else _web)(rng, size_wh, unit)
    water = _river(rng, size_wh, unit) if rng.random() < 0.3 else None
    if water is not None:
        bank = water.buffer(BANK * unit)
        blocks = [Block(block.outline, tuple(_without(cell, bank) for cell in block.cells)) for block in blocks]
    frame = shapely.box(0, 0, *size_wh)
    kept = (_trimmed(block, (9.0 * unit) ** 2) for block in blocks if block.outline.intersects(frame))
    seen = tuple(road for road in roads if road.line.distance(frame) < road.width)
    return Layout(unit, seen, water, tuple(block for block in kept if block.cells))


def _grid(rng: np.random.Generator, size_wh: tuple[int, int], unit: float) -> tuple[list[Road], list[Block]]:
    reach = 0.5 * math.hypot(*size_wh) + 60.0 * unit
    shift = rng.uniform(-50.0, 50.0, 2) * unit
    angle = float(rng.uniform(-0.32, 0.32))
    move = _bend(rng, unit, shift, angle, np.asarray(size_wh) / 2.0)

    def place(shape: BaseGeometry) -> BaseGeometry:
        return shapely.transform(shape.segmentize(10.0 * unit), move)

    roads: list[Road] = []
    leaves: list[tuple[float, float, float, float]] = []
    parts = [(-reach, -reach, reach, reach, 0)]
    while parts:
        x1, y1, x2, y2, depth = parts.pop()
        width, height = x2 - x1, y2 - y1
        if max(width, height) < 116.0 * unit:
            leaves.append((x1, y1, x2, y2))
            continue
        share = rng.uniform(0.4, 0.6)
        main = depth == 0 or (depth == 1 and bool(rng.random() < 0.5))
        road_width = unit * (8.5 if main else 5.0)
        if width >= height:
            x = x1 + share * width
            line = LineString([(x, y1), (x, y2)])
            parts += [(x1, y1, x, y2, depth + 1), (x, y1, x2, y2, depth + 1)]
        else:
            y = y1 + share * height
            line = LineString([(x1, y), (x2, y)])
            parts += [(x1, y1, x2, y, depth + 1), (x1, y, x2, y2, depth + 1)]
        roads.append(Road(line, road_width, main))
    street = shapely.union_all([road.line.buffer(road.width / 2.0 + 1.2 * unit, cap_style="flat") for road in roads])
    frame = shapely.box(0, 0, *size_wh)
    blocks = []
    for x1, y1, x2, y2 in leaves:
        block = shapely.box(x1, y1, x2, y2).difference(street)
        outline = place(block)
        if outline.intersects(frame):
            cells = tuple(Cell(place(cell), angle) for cell in _cells(rng, block, unit))
            blocks.append(Block(outline, cells))
    return [Road(place(road.line), road.width, road.main) for road in roads], blocks


def _web(rng: np.random.Generator, size_wh: tuple[int, int], unit: float) -> tuple[list[Road], list[Block]]:
    pitch = 82.0 * unit
    count_x, count_y = (math.ceil(side / pitch) + 4 for side in size_wh)
    grid = np.stack(np.meshgrid(np.arange(count_x), np.arange(count_y)), axis=-1).reshape(-1, 2).astype(float)
    grid[:, 0] += 0.5 * (grid[:, 1] % 2)
    seeds_xy = (grid - 2.0 + rng.uniform(-0.28, 0.28, grid.shape) + rng.uniform(0, 1, 2)) * pitch
    diagram = shapely.voronoi_polygons(shapely.MultiPoint(seeds_xy), ordered=True)
    lines = shapely.voronoi_polygons(shapely.MultiPoint(seeds_xy), only_edges=True)
    frame = shapely.box(0, 0, *size_wh)
    near = frame.buffer(pitch)
    streets = [line for line in shapely.get_parts(shapely.get_parts(lines)) if line.intersects(near)]
    avenue = _avenue(rng, streets, size_wh)
    roads = [Road(line, unit * (8.0 if main else 5.0), main) for line, main in zip(streets, avenue, strict=True)]
    street = shapely.union_all([road.line.buffer(road.width / 2.0 + 1.2 * unit) for road in roads])
    blocks = []
    for raw in diagram.geoms:
        if not raw.intersects(near):
            continue
        block = _largest(raw.difference(street).buffer(-4.0 * unit).buffer(4.0 * unit))
        if not block.intersects(frame):
            continue
        angle = _long_side(block)
        centre = block.centroid
        level = affinity.rotate(block, -angle, centre, use_radians=True)
        turned = (affinity.rotate(cell, angle, centre, use_radians=True) for cell in _cells(rng, level, unit))
        blocks.append(Block(block, tuple(Cell(cell, angle) for cell in turned)))
    return roads, blocks


def _avenue(rng: np.random.Generator, streets: Sequence[LineString], size_wh: tuple[int, int]) -> list[bool]:
    """Which streets are on the shortest way from one side of the image to the other."""
    # Only the new region needs it, and it takes longer to import than the rest of the city.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import dijkstra

    ends = np.round([np.asarray(line.coords)[[0, -1]] for line in streets], 6)
    nodes_xy, number = np.unique(ends.reshape(-1, 2), axis=0, return_inverse=True)
    first, second = number.reshape(-1, 2).T
    lengths = coo_array(([line.length for line in streets], (first, second)), shape=(len(nodes_xy), len(nodes_xy)))
    turn = rng.uniform(0.0, math.pi)
    reach = 0.8 * max(size_wh) * np.array([math.cos(turn), math.sin(turn)])
    middle = np.asarray(size_wh) / 2.0
    start, goal = (int(np.argmin(np.linalg.norm(nodes_xy - middle - way, axis=1))) for way in (reach, -reach))
    _, before = dijkstra(lengths.tocsr(), directed=False, indices=start, return_predecessors=True)
    steps: set[frozenset[int]] = set()
    while goal != start and before[goal] >= 0:
        steps.add(frozenset((goal, int(before[goal]))))
        goal = int(before[goal])
    return [frozenset(pair) in steps for pair in zip(first.tolist(), second.tolist(), strict=True)]


def _cells(rng: np.random.Generator, block: Polygon, unit: float) -> list[Polygon]:
    """Divide a block whose sides run along the axes into columns with cuts of their own: cells interlock."""
    x1, y1, x2, y2 = block.bounds
    pitch = rng.uniform(27.0, 35.0) * unit
    columns = max(1, round((x2 - x1) / pitch))
    rows = max(1, round((y2 - y1) / pitch))
    if columns * rows == 1:
        rows = 2
    cuts_x = _cuts(rng, x1, x2, columns, 0.16)
    cells = []
    for left, right in itertools.pairwise(cuts_x):
        cuts_y = _cuts(rng, y1, y2, rows, 0.26)
        for top, bottom in itertools.pairwise(cuts_y):
            cells.append(_largest(shapely.box(left, top, right, bottom).intersection(block)))
    return [cell for cell in cells if not cell.is_empty]


def _cuts(rng: np.random.Generator, low: float, high: float, count: int, jitter: float) -> list[float]:
    inner = (np.arange(1, count) + rng.uniform(-jitter, jitter, count - 1)) * (high - low) / count + low
    return [low, *inner.tolist(), high]


def _river(rng: np.random.Generator, size_wh: tuple[int, int], unit: float) -> Polygon:
    span = math.hypot(*size_wh)
    along = np.linspace(-0.7, 0.7, 15) * span
    across = rng.uniform(-0.3, 0.3) * span + rng.uniform(4.0, 9.0) * unit * np.sin(
        along / span * rng.uniform(5.0, 9.0) + rng.uniform(0.0, 6.3)
    )
    line = LineString(np.stack([along, across], axis=1)).buffer(rng.uniform(5.0, 8.0) * unit)
    turned = affinity.rotate(line, float(rng.uniform(0.0, math.pi)), (0, 0), use_radians=True)
    return affinity.translate(turned, size_wh[0] / 2, size_wh[1] / 2)


def _bend(
    rng: np.random.Generator, unit: float, shift_xy: np.ndarray, angle: float, middle_xy: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """The way from the grid, around 0, to the image: bent a little, shifted, turned, moved to the middle."""
    size = rng.uniform(1.0, 3.5, 2) * unit
    length = rng.uniform(120.0, 220.0, 2) * unit
    phase = rng.uniform(0.0, 2.0 * math.pi, 2)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])

    def move(xy: np.ndarray) -> np.ndarray:
        bent = xy + size * np.sin(2.0 * math.pi * xy[:, ::-1] / length + phase) + shift_xy
        return np.asarray(bent @ turn + middle_xy)

    return move


def _long_side(block: Polygon) -> float:
    corners = np.asarray(block.minimum_rotated_rectangle.exterior.coords)
    sides = np.diff(corners[:3], axis=0)
    longest = sides[np.argmax(np.linalg.norm(sides, axis=1))]
    angle = math.atan2(longest[1], longest[0])
    return (angle + math.pi / 2.0) % math.pi - math.pi / 2.0


def _trimmed(block: Block, least_area: float) -> Block:
    return Block(block.outline, tuple(cell for cell in block.cells if cell.polygon.area > least_area))


def _without(cell: Cell, taken: Polygon) -> Cell:
    return Cell(_largest(cell.polygon.difference(taken)), cell.angle) if cell.polygon.intersects(taken) else cell


def _largest(shape: BaseGeometry) -> Polygon:
    polygons: Iterable[BaseGeometry] = (part for part in shapely.get_parts(shape) if isinstance(part, Polygon))
    return max(polygons, key=lambda part: part.area, default=Polygon())
