"""Scenes of the city as arrays: what the pictures show, and what is to be said about them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from verl_socio.city import Scene, draw_sample
from verl_socio.city.catalog import KINDS, MARKERS, PLACE_FUNCTIONS
from verl_socio.city.drawing import mask_of

SPLIT = "train"


@dataclass(frozen=True)
class Spot:
    """One place of a scene, in whole pixels.

    Attributes:
        texts: The questions that mean it: its name, its class, its function.
        look: Indices of its function, kind and marker in the catalogue: the colours and the shape of its icon.
        box_xyxy: (4,) half-open box of its mask.
        marks_xy: (P, 2) the icon, then the dots from left to right: one mark in each of its parts.
        cells: (P,) numbers in `Shot.cells_hw` of its parts, in the order of the marks.
        ends_xy: (4, 2) for each end of the box the mark of the part that reaches it.
    """

    texts: tuple[str, str, str]
    look: tuple[int, int, int]
    box_xyxy: np.ndarray
    marks_xy: np.ndarray
    cells: np.ndarray
    ends_xy: np.ndarray


@dataclass(frozen=True)
class Shot:
    """A scene.

    Attributes:
        map_hw3: uint8 (H, W, 3).
        satellite_hw3: uint8 (H, W, 3).
        cells_hw: uint8 (H, W), the number of the cell that a pixel lies in; 0 for roads and open ground.
        spots: The places.
        asked: The sample's own question.
    """

    map_hw3: np.ndarray
    satellite_hw3: np.ndarray
    cells_hw: np.ndarray
    spots: tuple[Spot, ...]
    asked: str

    def questions(self) -> dict[str, tuple[int, ...]]:
        """Every question that the scene answers, with the places it means from left to right."""
        found: dict[str, list[int]] = {}
        for index in sorted(range(len(self.spots)), key=lambda index: tuple(self.spots[index].box_xyxy)):
            for text in self.spots[index].texts:
                found.setdefault(text, []).append(index)
        return {text: tuple(places) for text, places in found.items()}

    def glance(self, place: int) -> Spot:
        """A place as who overlooks its dots sees it: the part that the icon is in."""
        spot = self.spots[place]
        rows, columns = ndimage.find_objects(self.cells_hw)[spot.cells[0] - 1]
        icon_xy = spot.marks_xy[:1]
        return replace(
            spot,
            box_xyxy=np.array([columns.start, rows.start, columns.stop, rows.stop]),
            marks_xy=icon_xy,
            cells=spot.cells[:1],
            ends_xy=np.repeat(icon_xy, 4, axis=0),
        )

    def mirrored(self) -> Shot:
        """The scene seen in a mirror: every icon is its own mirror image."""
        width = self.cells_hw.shape[1]
        spots = []
        for spot in self.spots:
            x1, y1, x2, y2 = spot.box_xyxy
            box_xyxy = np.array([width - x2, y1, width - x1, y2])
            # Left and right end change places.
            marks_xy, ends_xy = (xy * [-1, 1] + [width - 1, 0] for xy in (spot.marks_xy, spot.ends_xy[[2, 1, 0, 3]]))
            order = _left_to_right(marks_xy)
            spots.append(
                replace(spot, box_xyxy=box_xyxy, marks_xy=marks_xy[order], cells=spot.cells[order], ends_xy=ends_xy)
            )
        flipped = (picture[:, ::-1] for picture in (self.map_hw3, self.satellite_hw3, self.cells_hw))
        map_hw3, satellite_hw3, cells_hw = flipped
        return Shot(map_hw3, satellite_hw3, cells_hw, tuple(spots), self.asked)


def shoot(index: int, seed: int, split: str = SPLIT) -> Shot:
    """Draw the scene of one sample of the city.

    Args:
        index: Number of the sample in its split.
        seed: Seed of the city.
        split: A split of the city.
    """
    scene, question = draw_sample(split, index, seed)
    cells_hw = np.zeros(scene.size_wh[::-1], dtype=np.uint8)
    parts = [part for place in scene.places for part in place.plot.parts]
    for number, part in enumerate([*parts, *scene.rest], start=1):
        cells_hw[mask_of([part.polygon], scene.size_wh)] = number
    spots = tuple(_spot(scene, place, cells_hw) for place in range(len(scene.places)))
    return Shot(np.asarray(scene.map()), np.asarray(scene.satellite()), cells_hw, spots, question.text)


def shoot_all(count: int, seed: int, workers: int = 1, split: str = SPLIT) -> list[Shot]:
    """Draw the first scenes of a split; the result does not depend on the number of processes."""
    tasks = (range(count), [seed] * count, [split] * count)
    if workers == 1:
        return list(map(shoot, *tasks))
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork")) as pool:
        return list(pool.map(shoot, *tasks, chunksize=16))


def _spot(scene: Scene, number: int, cells_hw: np.ndarray) -> Spot:
    place = scene.places[number]
    sign = place.sign
    rows, columns = (np.flatnonzero(scene.mask([number]).any(axis=axis)) for axis in (1, 0))
    box_xyxy = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    first = 1 + sum(len(other.plot.parts) for other in scene.places[:number])
    marks_xy = np.clip(np.rint([sign.icon_xy, *sign.dots_xy]).astype(int), 0, np.array(scene.size_wh) - 1)
    parts = range(first, first + len(place.plot.parts))
    marks_xy = marks_xy[_left_to_right(marks_xy)]
    cells = np.array([_nearest_cell(cells_hw, xy, parts) for xy in marks_xy])
    windows = ndimage.find_objects(cells_hw)
    starts_yx, stops_yx = (
        np.array([[getattr(side, end) for side in windows[cell - 1]] for cell in cells]) for end in ("start", "stop")
    )
    reached = [*starts_yx.argmin(axis=0)[::-1], *stops_yx.argmax(axis=0)[::-1]]
    return Spot(
        texts=(sign.name, sign.place_class.name, sign.place_class.function.name),
        look=(
            PLACE_FUNCTIONS.index(sign.place_class.function),
            KINDS.index(sign.place_class.kind),
            MARKERS.index(sign.marker),
        ),
        box_xyxy=box_xyxy,
        marks_xy=marks_xy,
        cells=cells,
        ends_xy=marks_xy[reached],
    )


def _left_to_right(marks_xy: np.ndarray) -> list[int]:
    """The order of marks in which the icon comes first, then the dots by x."""
    return [0, *(1 + np.lexsort(marks_xy[1:, ::-1].T)).tolist()]


def _nearest_cell(cells_hw: np.ndarray, xy: np.ndarray, choices: Sequence[int]) -> int:
    """The cell that a mark lies in; a mark on the rim of a small cell can fall a pixel beside it."""
    distances = []
    for cell in choices:
        rows, columns = np.nonzero(cells_hw == cell)
        distances.append(np.min(np.hypot(columns - xy[0], rows - xy[1])))
    return choices[int(np.argmin(distances))]
