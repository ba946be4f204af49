"""The best guesses known to us of who sees one picture only.

They read vectors, not pixels, and know how the city is drawn: a model that is shown that picture will hardly get so
far.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from verl_socio.city.drawing import mask_of
from verl_socio.city.layout import BANK, Block
from verl_socio.city.plots import GAP
from verl_socio.city.scene import Scene

_REACH = 23.0
"""Units that a part reaches from its mark at most, to all four sides. Cells are 27 to 35 wide; of the reaches that were
tried on test of the city of seed 0 this one had the best IoU."""


def from_map(scene: Scene, places: Collection[int]) -> np.ndarray:
    """Where places are, by the map alone.

    Icons and dots are one to a part, and a dot is of the icon of its colour in its block. So a part is what lies nearer
    to its mark than to the block's other marks, within the streets and the water, and not too far off.

    Args:
        scene: The scene, of which nothing is looked at but what the map draws.
        places: Indices of the places that are asked for.

    Returns:
        The guess, bool (H, W).
    """
    ground = shapely.union_all([part for block in scene.layout.blocks for part in _parts(scene, block, places)])
    if scene.layout.water is not None:
        ground = ground.difference(scene.layout.water.buffer((BANK + GAP / 2.0) * scene.layout.unit))
    return mask_of([ground], scene.size_wh)


def from_satellite(scene: Scene) -> np.ndarray:
    """Where places are, by the satellite alone: all extents are known, and not which of them are asked for.

    The guess is all of them. Extents do not overlap: where k of N places are asked for, any as likely as any other, no
    guess has an IoU of more than k / N on average, and this one has it.

    Args:
        scene: The scene, of which nothing is looked at but the places' extents.

    Returns:
        The guess, bool (H, W).
    """
    return scene.mask(range(len(scene.places)))


def _parts(scene: Scene, block: Block, places: Collection[int]) -> Iterator[BaseGeometry]:
    """What the places asked for seem to have of a block."""
    unit = scene.layout.unit
    marks = [
        (index, xy) for index, place in enumerate(scene.places) for xy in (place.sign.icon_xy, *place.sign.dots_xy)
    ]
    inside = [(index, shapely.Point(xy)) for index, xy in marks if block.outline.contains(shapely.Point(xy))]
    for asked in sorted({index for index, _ in inside} & set(places)):
        points = shapely.MultiPoint([mark for _, mark in inside])
        cells = shapely.get_parts(shapely.voronoi_polygons(points, extend_to=block.outline, ordered=True))
        nearest = shapely.union_all([cell for (index, _), cell in zip(inside, cells, strict=True) if index == asked])
        near = shapely.MultiPoint([mark for index, mark in inside if index == asked])
        ground = nearest.intersection(block.outline).buffer(-GAP * unit / 2.0, join_style="mitre")
        yield ground.intersection(near.buffer(_REACH * unit, cap_style="square"))
