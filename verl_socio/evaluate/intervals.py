"""The interval of every figure of an evaluation, from its rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np

from verl_socio.answer import Status
from verl_socio.bootstrap import FIGURES, Interval, Ratios, SegmentationRatios
from verl_socio.evaluate.rows import SampleRow
from verl_socio.evaluate.scores import ALL, CENTER_BOX

# (level, stage or baseline) -> figure -> interval; figures as a `scores.Line` names them.
Intervals = Mapping[tuple[str, str], Mapping[str, Interval]]


def intervals(rows: Iterable[SampleRow], stages: Iterable[str]) -> Intervals:
    """Compute the intervals of what `scores.summarise` adds up.

    Args:
        rows: The samples; read once, none is kept.
        stages: The recipe's stage names, in order.

    Returns:
        For each line of the summary the intervals of `ciou`, `giou` and `f1`, and of `unparsed` where the line has it.

    Raises:
        ValueError: There is no row.
    """
    stages = tuple(stages)
    scores: dict[tuple[str, str], SegmentationRatios] = defaultdict(SegmentationRatios)
    unparsed: dict[tuple[str, str], list[tuple[bool, bool]]] = defaultdict(list)
    for row in rows:
        for level in (ALL, row.level):
            scores[level, CENTER_BOX].add(row.center_box)
            for number, name in enumerate(stages):
                add(scores[level, name], row, number)
                answered = row.failure is None
                broken = answered and row.stages[number].status == Status.UNPARSEABLE
                unparsed[level, name].append((broken, answered))
    found = {key: dict(zip(FIGURES, each.ratios().intervals(), strict=True)) for key, each in scores.items()}
    for key, pairs in unparsed.items():
        broken, answered = np.array(pairs, dtype=np.float64).T
        if answered.any():
            [found[key]["unparsed"]] = Ratios(broken[:, None], answered[:, None], answered > 0).intervals()
    return found


def add(scores: SegmentationRatios, row: SampleRow, stage: int) -> None:
    """Add a sample's stage, or its failure."""
    if row.failure is None:
        scores.add(row.stages[stage].score)
    else:
        scores.add_failed(row.target_area, row.target_instances)
