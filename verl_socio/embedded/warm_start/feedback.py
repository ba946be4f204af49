"""First answers as a model in training gives them: right, nearly right and wrong, with the masks they would get."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from verl_socio.embedded.warm_start.aim import spread
from verl_socio.embedded.warm_start.scenes import Shot, Spot
from verl_socio.geometry import box_iou

_NONE_SHARE = 0.02
_WRONG_SHARE = 0.2
_MISSED_SHARE = 0.1
_FILLED_SHARE = 0.15
_LEAST_SIDE = 6


def first_answer(shot: Shot, places: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Boxes (N, 4) of whole pixels within the image, in place of those of the first stage; N may be 0."""
    if rng.random() < _NONE_SHARE:
        return np.zeros((0, 4), dtype=int)
    found = []
    for place in places:
        if len(places) > 1 and rng.random() < _MISSED_SHARE:
            continue
        if rng.random() < _WRONG_SHARE:
            place = int(rng.integers(len(shot.spots)))
        box_xyxy = shot.spots[place].box_xyxy
        size = np.tile(box_xyxy[2:] - box_xyxy[:2], 2)
        spread = rng.choice([0.03, 0.12, 0.3]) * size
        found.append(_inside(box_xyxy + rng.normal(0.0, spread), shot.cells_hw.shape))
    return np.array(found, dtype=int).reshape(-1, 4)


def likely_mask(shot: Shot, boxes_xyxy: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a segmenter makes of boxes: one of the cells in each, more of them, or all of the box: bool (H, W)."""
    mask_hw = np.zeros(shot.cells_hw.shape, dtype=bool)
    for x1, y1, x2, y2 in boxes_xyxy.tolist():
        window_hw = shot.cells_hw[y1:y2, x1:x2]
        numbers, areas = np.unique(window_hw, return_counts=True)
        numbers, areas = numbers[numbers > 0], areas[numbers > 0]
        if not len(numbers) or rng.random() < _FILLED_SHARE:
            mask_hw[y1:y2, x1:x2] = True
            continue
        order = np.argsort(-areas * rng.uniform(0.5, 1.0, len(areas)))
        count = 1 + int(rng.integers(len(order))) if rng.random() < 0.5 else 1
        mask_hw[y1:y2, x1:x2] |= np.isin(window_hw, numbers[order[:count]])
    return mask_hw


def points_for(
    boxes_xyxy: np.ndarray, spots: Sequence[Spot], mask_hw: np.ndarray, cells_hw: np.ndarray, count: int
) -> list[np.ndarray]:
    """Points (count, 2) for each box: on those parts of the place it means that the mask covers least."""
    if not len(boxes_xyxy):
        return []
    truths_xyxy = np.stack([spot.box_xyxy for spot in spots])
    overlap = box_iou(boxes_xyxy, truths_xyxy)
    apart = np.abs(boxes_xyxy[:, None] - truths_xyxy[None]).mean(axis=-1)
    meant = np.argmax(overlap - 1e-3 * apart, axis=1)
    found = []
    for place in meant.tolist():
        parts = [cells_hw == cell for cell in spots[place].cells]
        # Python sorts stably: among parts that are covered alike, the one with the sign comes first.
        found.append(spread(sorted(parts, key=lambda part_hw: round(2 * float(mask_hw[part_hw].mean()))), count))
    return found


def _inside(box_xyxy: np.ndarray, shape_hw: tuple[int, ...]) -> np.ndarray:
    size = np.array([shape_hw[1], shape_hw[0]])
    low, high = np.rint(box_xyxy[:2]), np.rint(box_xyxy[2:])
    low = np.clip(low, 0, size - _LEAST_SIDE)
    whole: np.ndarray = np.concatenate([low, np.clip(np.maximum(high, low + _LEAST_SIDE), 0, size)]).astype(int)
    return whole
