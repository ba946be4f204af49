"""What a single sample gives to each figure that is a ratio of sums: bootstrap intervals draw these again and again."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from verl_socio.answer import Status
from verl_socio.box_metrics import box_found
from verl_socio.evaluate.protocols.tallies import THRESHOLDS, boxes_of
from verl_socio.evaluate.rows import SampleRow, StageRow
from verl_socio.metrics import MaskScore

# What is summed above the line and below it.
Term = Callable[[SampleRow, StageRow | None], tuple[float, float]]


def _precision(threshold: float) -> Callable[[MaskScore], tuple[float, float]]:
    return lambda score: (float(score.iou >= threshold), 1.0)


MASK_TERMS: dict[str, Callable[[MaskScore], tuple[float, float]]] = {
    "ciou": lambda score: (score.intersection, score.union),
    "giou": lambda score: (score.iou, 1.0),
    "f1": lambda score: (2 * score.hits, score.predicted + score.targeted),
    **{f"p{round(100 * level)}": _precision(level) for level in THRESHOLDS},
}
"""The figures of masks, by key, for a mask that was measured."""

# What a sample without a result is summed with, below the line; there is nothing above it.
_FAILED: dict[str, Callable[[SampleRow], int | None]] = {
    "ciou": lambda row: row.target_area,
    "f1": lambda row: row.target_instances,
}


def _mask(key: str) -> Term:
    def of(row: SampleRow, stage: StageRow | None) -> tuple[float, float]:
        if stage is None:
            below = _FAILED[key](row) if key in _FAILED else 1
            assert below is not None, row.id
            return 0.0, below
        return MASK_TERMS[key](stage.mask_score)

    return of


def _no_target(row: SampleRow, stage: StageRow | None) -> tuple[float, float]:
    if row.target_area:
        return 0.0, 0.0
    return float(stage is not None and stage.mask_score.iou == 1.0), 1.0


def _box_accuracy(row: SampleRow, stage: StageRow | None) -> tuple[float, float]:
    if row.truth.boxes_xyxy is None:
        return 0.0, 0.0
    if stage is None or stage.status == Status.UNPARSEABLE:
        return 0.0, 1.0
    return float(box_found(boxes_of(stage), np.asarray(row.truth.boxes_xyxy, dtype=np.float64).reshape(-1, 4))), 1.0


def _count(term: Callable[[int | None, int], float]) -> Term:
    def of(row: SampleRow, stage: StageRow | None) -> tuple[float, float]:
        counted = None if stage is None or stage.status == Status.UNPARSEABLE else len(stage.prompts)
        assert row.truth.count is not None, row.id
        return term(counted, row.truth.count), 1.0

    return of


TERMS: dict[str, Term] = {
    **{key: _mask(key) for key in MASK_TERMS},
    "no_target": _no_target,
    "box_accuracy": _box_accuracy,
    "accuracy": _count(lambda counted, target: counted == target),
    "mae": _count(lambda counted, target: abs((counted or 0) - target)),
    "rmse": _count(lambda counted, target: ((counted or 0) - target) ** 2),
}
"""The figures that are ratios, by key. Average precision is none: it orders all boxes of the set."""

AFTER: dict[str, Callable[[float], float]] = {"rmse": math.sqrt}
"""What is done to a ratio at last."""
