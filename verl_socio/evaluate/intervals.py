"""The interval of every figure of an evaluation that is a ratio of sums, from its rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from verl_socio.answer import Status
from verl_socio.bootstrap import Interval, Ratios, SegmentationRatios
from verl_socio.evaluate.protocols import PROTOCOLS, Protocol
from verl_socio.evaluate.protocols.terms import AFTER, MASK_TERMS, TERMS
from verl_socio.evaluate.rows import SampleRow
from verl_socio.evaluate.scores import ALL, CENTER_BOX
from verl_socio.metrics import MaskScore

# (level, stage or baseline) -> figure -> interval; figures as a `scores.Line` names them.
Intervals = Mapping[tuple[str, str], Mapping[str, Interval]]

_UNPARSED = "unparsed"
# Of a set where nothing is to be found and nothing was, these are 1: the rule of `Ratios`.
_ALWAYS_KNOWN = ("ciou", "giou", "f1")


def intervals(
    rows: Iterable[SampleRow], stages: Iterable[str], protocol: Protocol = PROTOCOLS["levels"]
) -> Intervals:  # fmt: skip
    """Compute the intervals of what `scores.summarise` adds up.

    Args:
        rows: The samples; read once, none is kept.
        stages: The recipe's stage names, in order.
        protocol: What is measured.

    Returns:
        For each line of the summary the intervals of its figures, and of `unparsed` where the line has it. A figure of
        which no sample tells anything has none, and neither has average precision.

    Raises:
        ValueError: There is no row.
    """
    stages = tuple(stages)
    keys = tuple(column.key for column in protocol.columns if column.key in TERMS)
    lines: dict[tuple[str, str], _Line] = defaultdict(_Line)
    for row in rows:
        for level in (ALL, row.level) if row.level is not None else (ALL,):
            if protocol.baseline and row.center_box is not None:
                lines[level, CENTER_BOX].add_score(row.center_box, keys)
            for number, name in enumerate(stages):
                lines[level, name].add(row, number, keys)
    return {key: line.intervals() for key, line in lines.items()}


class _Line:
    """What the samples of one line give to its figures."""

    def __init__(self) -> None:
        self._terms: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._failed: list[bool] = []

    def add(self, row: SampleRow, number: int, keys: Iterable[str]) -> None:
        """Add a sample's stage of that number, or its failure."""
        stage = row.stages[number] if row.failure is None else None
        for key in keys:
            self._terms[key].append(TERMS[key](row, stage))
        broken = stage is not None and stage.status == Status.UNPARSEABLE
        self._terms[_UNPARSED].append((float(broken), float(stage is not None)))
        self._failed.append(stage is None or (stage.score is not None and stage.score.is_silent))

    def add_score(self, score: MaskScore, keys: Iterable[str]) -> None:
        """Add a sample's baseline."""
        for key, term in MASK_TERMS.items():
            if key in keys:
                self._terms[key].append(term(score))
        self._failed.append(False)

    def intervals(self) -> dict[str, Interval]:
        """The intervals of the figures that something is known of."""
        found: dict[str, Interval] = {}
        for tells, keys in self._groups():
            terms = np.array([self._terms[key] for key in keys], dtype=np.float64)[:, tells]
            ratios = Ratios(terms[:, :, 0].T, terms[:, :, 1].T, np.array(self._failed)[tells])
            found.update(zip(keys, ratios.intervals(), strict=True))
        return {key: _after(AFTER[key], interval) if key in AFTER else interval for key, interval in found.items()}

    def _groups(self) -> list[tuple[np.ndarray, list[str]]]:
        """The figures by the samples that tell something of them: the others are not drawn."""
        groups: dict[bytes, tuple[np.ndarray, list[str]]] = {}
        for key, terms in self._terms.items():
            tells = np.array([key in _ALWAYS_KNOWN or below > 0 for _, below in terms])
            if tells.any():
                groups.setdefault(tells.tobytes(), (tells, []))[1].append(key)
        return list(groups.values())


def _after(change: Callable[[float], float], interval: Interval) -> Interval:
    return Interval(change(interval.low), change(interval.high))


def add(scores: SegmentationRatios, row: SampleRow, stage: int) -> None:
    """Add a sample's stage, or its failure. The protocol asks for masks."""
    if row.failure is None:
        scores.add(row.stages[stage].mask_score)
    else:
        assert row.target_area is not None and row.target_instances is not None, row.id
        scores.add_failed(row.target_area, row.target_instances)
