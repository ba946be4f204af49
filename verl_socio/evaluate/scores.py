"""From rows to figures: each stage and the baseline, over all samples and by level."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from verl_socio.answer import Status
from verl_socio.data import LEVELS
from verl_socio.errors import invalid
from verl_socio.evaluate.rows import SampleRow
from verl_socio.metrics import SegmentationScore

ALL = "all"
CENTER_BOX = "centre box"


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes:
        level: "all", or a level.
        name: The baseline or a stage.
        samples: How many.
        ciou: Sum of intersections over sum of unions, 0..1.
        giou: Mean of the images' IoU, 0..1.
        f1: Of instances matched one to one at IoU >= 0.5, over the whole set, 0..1.
        unparsed: Share of the answers that could not be parsed; None for the baseline or where there was no answer.
        failures: Samples without a result; they count as intersection 0 and union of the target's area.
    """

    level: str
    name: str
    samples: int
    ciou: float
    giou: float
    f1: float
    unparsed: float | None
    failures: int


@dataclass(frozen=True)
class Summary:
    """An evaluation in figures.

    Attributes:
        samples: How many.
        failures: Samples without a result.
        center_box_share: Share of the image inside the baseline's box: the mean share of the targets.
        lines: The table: "all" first, then the levels that occur; in each the baseline, then the stages in order.
    """

    samples: int
    failures: int
    center_box_share: float
    lines: tuple[Line, ...]


def summarise(rows: Iterable[SampleRow], stages: Iterable[str]) -> Summary:
    """Add up an evaluation.

    Args:
        rows: The samples; read once, none is kept.
        stages: The recipe's stage names, in order.

    Returns:
        The figures.

    Raises:
        ValueError: There is no row.
    """
    stages = tuple(stages)
    tallies: dict[tuple[str, str], SegmentationScore] = defaultdict(SegmentationScore)
    unparsed: dict[tuple[str, str], int] = defaultdict(int)
    samples = failures = 0
    share = 0.0
    for row in rows:
        samples += 1
        failures += row.failure is not None
        share += row.target_area / (row.size_wh[0] * row.size_wh[1])
        for level in (ALL, row.level):
            tallies[level, CENTER_BOX].add(row.center_box)
            for stage in row.stages:
                tallies[level, stage.name].add(stage.score)
                unparsed[level, stage.name] += stage.status == Status.UNPARSEABLE
            if row.failure is not None:
                for name in stages:
                    tallies[level, name].add_failed(row.target_area, row.target_instances)
    if samples == 0:
        raise invalid("results", 0, "there is no sample to score", "check data and split")
    levels = [level for level in (ALL, *LEVELS) if (level, CENTER_BOX) in tallies]
    keys = [(level, name) for level in levels for name in (CENTER_BOX, *stages)]
    lines = tuple(_line(level, name, tallies[level, name], unparsed[level, name]) for level, name in keys)
    return Summary(samples, failures, share / samples, lines)


def _line(level: str, name: str, tally: SegmentationScore, unparsed: int) -> Line:
    figures = tally.compute()
    answered = int(figures["n"]) - tally.failures
    rate = None if name == CENTER_BOX or answered == 0 else unparsed / answered
    ciou, giou, f1 = (figures[key] for key in ("ciou", "giou", "f1"))
    return Line(level, name, int(figures["n"]), ciou, giou, f1, rate, tally.failures)
