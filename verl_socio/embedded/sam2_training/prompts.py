"""Prompts for training: boxes and points that mean a place, or a group of cells that only points can tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_closing

_TOP_LEFT, _BOTTOM_RIGHT = 2.0, 3.0
_LEAST_DISTRACTOR = 25
"""Pixels of a foreign cell inside the box from which on a segmenter may take it wrongly."""

_LEAST_CELL = 200
"""Pixels of the smallest cell that a random group holds."""
_STEP, _LEAST_SIDE = 5, 10
"""Two cells are neighbours when that many pixels of one lie so many pixels beside pixels of the other."""


@dataclass(frozen=True)
class Mix:
    """What is asked in a stage of training.

    Attributes:
        kinds: Weight of each kind of prompt: whether it has a box, and how many points.
        several: Share of targets that have several parts.
        jittered: Share of boxes that are off.
        negative: Share of prompts with points, among those whose box holds a foreign cell, with a negative one.
        groups: Share of targets, where there are two points or more, that are no places but neighbouring cells chosen
            at random, one for each point: what belongs together is then told by the points alone.
    """

    kinds: Mapping[tuple[bool, int], float]
    several: float = 0.5
    jittered: float = 0.5
    negative: float = 0.35
    groups: float = 0.0


def draw_prompt(
    rng: np.random.Generator,
    target_hw: np.ndarray,
    cells_hw: np.ndarray,
    is_part: np.ndarray,
    mix: Mix,
    with_box: bool,
    num_points: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a prompt for a target.

    Positive points lie in parts of the target, in as many of them as there are points; a negative one in a foreign
    cell that lies in the target's box.

    Args:
        rng: Source of chance.
        target_hw: The target, bool (H, W).
        cells_hw: Number of the cell of each pixel, 0 for none.
        is_part: Whether a cell is a part of the target, bool, by cell number.
        mix: Shares of jittered boxes and of negative points.
        with_box: Whether there is a box.
        num_points: How many points there are.

    Returns:
        Coordinates (P, 2) in parts of the image's sides, the box's corners first, and SAM's labels (P,).
    """
    height, width = target_hw.shape
    rows, columns = np.flatnonzero(target_hw.any(1)), np.flatnonzero(target_hw.any(0))
    box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=float)
    inside = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    points, labels = [], []
    if num_points:
        counts = np.bincount(cells_hw[inside].ravel(), minlength=len(is_part))
        foreign = np.flatnonzero((counts >= _LEAST_DISTRACTOR) & ~is_part)
        foreign = foreign[foreign > 0]
        parts = np.flatnonzero(is_part)
        parts = parts[np.isin(parts, cells_hw[inside])]
        num_negative = int(len(foreign) > 0 and rng.random() < mix.negative)
        # Without a box, a negative point alone says nothing.
        num_negative = min(num_negative, num_points - (not with_box))
        chosen = rng.permutation(parts).tolist()
        while len(chosen) < num_points - num_negative:
            chosen.append(int(rng.choice(parts)))
        for cell in chosen[: num_points - num_negative]:
            points.append(_point_in(rng, cells_hw == cell))
            labels.append(1.0)
        if num_negative:
            cell = rng.choice(foreign, p=counts[foreign] / counts[foreign].sum())
            shown_hw = np.zeros_like(target_hw)
            shown_hw[inside] = cells_hw[inside] == cell
            points.append(_point_in(rng, shown_hw))
            labels.append(0.0)
    if with_box:
        if rng.random() < mix.jittered:
            sides = np.tile(box[2:] - box[:2], 2)
            box = box + rng.normal(0.0, rng.uniform(0.0, 0.08), 4) * sides
            box = np.clip(box, 0.0, [width, height, width, height])
        points = [box[:2], box[2:], *points]
        labels = [_TOP_LEFT, _BOTTOM_RIGHT, *labels]
    return np.array(points) / (width, height), np.array(labels)


def draw_group(
    rng: np.random.Generator, cells_hw: np.ndarray, num_cells: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Choose neighbouring cells at random, and join them as a place joins its parts.

    Args:
        rng: Source of chance.
        cells_hw: Number of the cell of each pixel, 0 for none.
        num_cells: Length of the second result.
        count: How many cells; fewer where the first one has no neighbours left.

    Returns:
        The cells with the strips between them, bool (H, W), and whether a cell is among them, bool, by cell number.
    """
    sizes = np.bincount(cells_hw.ravel(), minlength=num_cells)
    large = (sizes >= _LEAST_CELL) & (np.arange(num_cells) > 0)
    touching = np.zeros((num_cells, num_cells), dtype=int)
    for one, other in ((cells_hw[_STEP:], cells_hw[:-_STEP]), (cells_hw[:, _STEP:], cells_hw[:, :-_STEP])):
        np.add.at(touching, (one.ravel(), other.ravel()), 1)
    near = (touching + touching.T >= _LEAST_SIDE) & large & large[:, None]
    is_part = np.zeros(num_cells, dtype=bool)
    choice = np.flatnonzero(large)
    assert len(choice), "every scene has cells large enough for a place"
    while len(choice) and is_part.sum() < count:
        is_part[rng.choice(choice)] = True
        choice = np.flatnonzero(near[is_part].any(0) & ~is_part)
    joined_hw = binary_closing(np.pad(is_part[cells_hw], 2), np.ones((5, 5)))[2:-2, 2:-2]
    return joined_hw & (is_part[cells_hw] | (cells_hw == 0)), is_part


def _point_in(rng: np.random.Generator, region_hw: np.ndarray) -> np.ndarray:
    """A point (x, y) in a region, half of the time rather in its middle."""
    rows, columns = np.nonzero(region_hw)
    drawn = rng.integers(len(rows), size=3)
    if rng.random() < 0.5:
        row, column = rows[drawn].mean(), columns[drawn].mean()
        if region_hw[int(row), int(column)]:
            return np.array([column + 0.5, row + 0.5])
    return np.array([columns[drawn[0]], rows[drawn[0]]]) + rng.uniform(0.0, 1.0, 2)
