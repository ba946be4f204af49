"""Scenes of the city as arrays: what a training step reads, drawn once and kept in a file."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from verl_socio.city import Scene, draw_sample
from verl_socio.city.drawing import mask_of
from verl_socio.city.surfaces import SURFACES
from verl_socio.embedded.made_by import made_by

_log = logging.getLogger(__name__)
_SURFACES = tuple(SURFACES)
_MOST_CELLS = 64


@dataclass(frozen=True, eq=False)
class Scenes:
    """N scenes of one size.

    Attributes:
        images: The satellites, uint8 (N, H, W, 3).
        cells: Number of the cell that a pixel lies in, from 1; 0 for open ground, roads and water. uint8 (N, H, W).
        places: Number of the place that a pixel lies in, from 1; 0 for none. A place of several parts holds the strips
            between them. uint8 (N, H, W).
        cell_place: The place of each cell, 0 for cells that are no place's: uint8 (N, 64), by cell number.
        cell_surface: The surface of each cell, from 1: uint8 (N, 64), by cell number.
    """

    images: np.ndarray
    cells: np.ndarray
    places: np.ndarray
    cell_place: np.ndarray
    cell_surface: np.ndarray

    def __len__(self) -> int:
        """The number of scenes."""
        return len(self.images)


def draw_scenes(count: int, seed: int) -> Scenes:
    """Draw the first scenes of the train split.

    Args:
        count: How many.
        seed: Seed of the city.

    Returns:
        The scenes; the same arguments give the same arrays.
    """
    drawn = [_arrays(draw_sample("train", index, seed)[0]) for index in range(count)]
    return Scenes(*(np.stack(column) for column in zip(*drawn, strict=True)))


def cached_scenes(folder: Path, count: int, seed: int) -> Scenes:
    """The first training scenes from a file, which is written where it is missing, as after a change of the city.

    Args:
        folder: Where the file is; made where it is missing.
        count: How many scenes.
        seed: Seed of the city.

    Returns:
        As `draw_scenes` gives them.
    """
    path = folder / f"train_{count}_{seed}_{made_by()}.npz"
    if not path.is_file():
        _log.info("drawing %d scenes into %s", count, path)
        folder.mkdir(parents=True, exist_ok=True)
        scenes = draw_scenes(count, seed)
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, **vars(scenes))
        partial.replace(path)
    with np.load(path) as arrays:
        return Scenes(**arrays)


def _arrays(scene: Scene) -> tuple[np.ndarray, ...]:
    """One scene's rows of `Scenes`."""
    width, height = scene.size_wh
    cells_hw = np.zeros((height, width), np.uint8)
    places_hw = np.zeros((height, width), np.uint8)
    cell_place, cell_surface = np.zeros((2, _MOST_CELLS), np.uint8)
    owned = [(part, number) for number, place in enumerate(scene.places, 1) for part in place.plot.parts]
    owned += [(part, 0) for part in scene.rest]
    assert len(owned) < _MOST_CELLS
    for cell, (part, place_number) in enumerate(owned, 1):
        cells_hw[mask_of([part.polygon], scene.size_wh)] = cell
        cell_place[cell] = place_number
        cell_surface[cell] = _SURFACES.index(part.surface) + 1
    for number in range(1, len(scene.places) + 1):
        places_hw[scene.mask([number - 1])] = number
    return np.asarray(scene.satellite()), cells_hw, places_hw, cell_place, cell_surface
