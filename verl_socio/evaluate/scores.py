"""From rows to figures: each stage and the baseline, over all samples and by level."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from verl_socio.answer import Status
from verl_socio.data import LEVELS
from verl_socio.errors import invalid
from verl_socio.evaluate.rows import MaskScore, SampleRow
from verl_socio.metrics import SegmentationScore, mask_iou, matched_instances

ALL = "all"
CENTER_BOX = "centre box"


def measure(prediction_hw: np.ndarray, target_hw: np.ndarray) -> MaskScore:
    """Compare two masks.

    Args:
        prediction_hw: `(H, W)` bool.
        target_hw: `(H, W)` bool.

    Returns:
        Their overlap, in pixels and in instances.

    Raises:
        ValueError: The masks differ in shape or are not bool.
    """
    iou = mask_iou(prediction_hw, target_hw)
    hits, predicted, targeted = matched_instances(prediction_hw, target_hw)
    intersection = int(np.count_nonzero(prediction_hw & target_hw))
    return MaskScore(iou, intersection, int(np.count_nonzero(prediction_hw | target_hw)), hits, predicted, targeted)


class Tally(SegmentationScore):
    """The score of a set, added up from rows instead of masks; every rule is `SegmentationScore`'s."""

    def add(self, score: MaskScore) -> None:
        """Add an image that was measured."""
        self._ious.append(score.iou)
        self._intersection += score.intersection
        self._union += score.union
        self._hits += score.hits
        self._instances += score.predicted + score.targeted

    def add_failed(self, target_area: int, target_instances: int) -> None:
        """Add an image for which there is no prediction."""
        self.failures += 1
        self._ious.append(0.0)
        self._union += target_area
        self._instances += target_instances


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
    tallies: dict[tuple[str, str], Tally] = defaultdict(Tally)
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


def _line(level: str, name: str, tally: Tally, unparsed: int) -> Line:
    figures = tally.compute()
    answered = int(figures["n"]) - tally.failures
    rate = None if name == CENTER_BOX or answered == 0 else unparsed / answered
    ciou, giou, f1 = (figures[key] for key in ("ciou", "giou", "f1"))
    return Line(level, name, int(figures["n"]), ciou, giou, f1, rate, tally.failures)
