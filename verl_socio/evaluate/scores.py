"""From rows to figures: each stage and the baseline, over all samples and by level."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from verl_socio.answer import Status
from verl_socio.data import LEVELS
from verl_socio.errors import invalid
from verl_socio.evaluate.protocols import PROTOCOLS, Protocol, Tally
from verl_socio.evaluate.protocols.tallies import MaskTally
from verl_socio.evaluate.rows import SampleRow

ALL = "all"
CENTER_BOX = "centre box"
_OF_MASKS = ("ciou", "giou", "f1")


@dataclass(frozen=True)
class Line:
    """One line of the table of a protocol that asks for masks.

    Attributes:
        level: "all", or a level.
        name: The baseline or a stage.
        samples: How many.
        ciou: Sum of intersections over sum of unions, 0..1.
        giou: Mean of the images' IoU, 0..1.
        f1: Of instances matched one to one at IoU >= 0.5, over the whole set, 0..1.
        unparsed: Share of the answers that could not be parsed; None for the baseline or where there was no answer.
        failures: Samples without a result; they count as intersection 0 and union of the target's area.
        more: The protocol's other figures, by key; None where nothing of the samples tells.
    """

    level: str
    name: str
    samples: int
    ciou: float
    giou: float
    f1: float
    unparsed: float | None
    failures: int
    more: dict[str, float | None] = field(default_factory=dict)

    @property
    def figures(self) -> dict[str, float | None]:
        """All figures, by key."""
        return {"ciou": self.ciou, "giou": self.giou, "f1": self.f1, **self.more}


@dataclass(frozen=True)
class LineWithoutMasks:
    """One line of the table of a protocol that asks for boxes or counts; as `Line`, but for its figures.

    Attributes:
        level: "all", or a level.
        name: A stage.
        samples: How many.
        figures: The protocol's figures, by key.
        unparsed: Share of the answers that could not be parsed; None where there was no answer.
        failures: Samples without a result: nothing found, a wrong count.
    """

    level: str
    name: str
    samples: int
    figures: dict[str, float | None]
    unparsed: float | None
    failures: int


@dataclass(frozen=True)
class Summary:
    """An evaluation in figures.

    Attributes:
        protocol: The name of what was measured.
        samples: How many.
        failures: Samples without a result.
        without_target: Samples whose target is empty.
        center_box_share: Share of the image inside the baseline's box: the mean share of the targets; None where there
            is no baseline.
        lines: The table: "all" first, then the levels that occur; in each the baseline, then the stages in order.
    """

    protocol: str
    samples: int
    failures: int
    without_target: int
    center_box_share: float | None
    lines: tuple[Line | LineWithoutMasks, ...]


def summarise(
    rows: Iterable[SampleRow], stages: Iterable[str], protocol: Protocol = PROTOCOLS["levels"]
) -> Summary:  # fmt: skip
    """Add up an evaluation.

    Args:
        rows: The samples; read once, none is kept.
        stages: The recipe's stage names, in order.
        protocol: What is measured.

    Returns:
        The figures.

    Raises:
        ValueError: There is no row.
    """
    stages = tuple(stages)
    parts = {stage: defaultdict[str, _Part](lambda: _Part(protocol)) for stage in stages}
    baseline: dict[str, _Baseline] = defaultdict(_Baseline)
    samples = failures = without_target = 0
    share = 0.0
    for row in rows:
        samples += 1
        failures += row.failure is not None
        without_target += row.target_area == 0
        share += (row.target_area or 0) / (row.size_wh[0] * row.size_wh[1])
        for level in (ALL, row.level) if row.level is not None else (ALL,):
            baseline[level].add(row)
            for number, name in enumerate(stages):
                parts[name][level].add(row, number)
    if samples == 0:
        raise invalid("results", 0, "there is no sample to score", "check data and split")
    lines: list[Line | LineWithoutMasks] = []
    for level in (level for level in (ALL, *LEVELS) if level in baseline):
        if protocol.baseline and baseline[level].samples:
            lines.append(baseline[level].line(level))
        lines += [parts[name][level].line(level, name) for name in stages]
    center_box_share = share / samples if protocol.baseline else None
    return Summary(protocol.name, samples, failures, without_target, center_box_share, tuple(lines))


class _Part:
    """A stage's samples of one level."""

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol
        self._tallies: tuple[Tally, ...] = tuple(make() for make in protocol.tallies)
        self._samples = self._failures = self._unparsed = 0

    def add(self, row: SampleRow, number: int) -> None:
        """Add a sample's stage of that number."""
        self._samples += 1
        if row.failure is not None:
            self._failures += 1
            for tally in self._tallies:
                tally.add_failed(row)
            return
        stage = row.stages[number]
        self._unparsed += stage.status == Status.UNPARSEABLE
        for tally in self._tallies:
            tally.add(row, stage)

    def line(self, level: str, name: str) -> Line | LineWithoutMasks:
        """The figures."""
        answered = self._samples - self._failures
        rate = self._unparsed / answered if answered else None
        figures = self._protocol.figures(self._tallies)
        if not self._protocol.needs_masks:
            return LineWithoutMasks(level, name, self._samples, figures, rate, self._failures)
        return _line(level, name, self._samples, figures, rate, self._failures)


def _line(
    level: str, name: str, samples: int, figures: Mapping[str, float | None], unparsed: float | None, failures: int
) -> Line:
    ciou, giou, f1 = (figures[key] for key in _OF_MASKS)
    assert ciou is not None and giou is not None and f1 is not None, "MaskTally gives all three"
    more = {key: value for key, value in figures.items() if key not in _OF_MASKS}
    return Line(level, name, samples, ciou, giou, f1, unparsed, failures, more)


class _Baseline:
    """The centre box's samples of one level."""

    def __init__(self) -> None:
        self._tally = MaskTally()
        self.samples = 0

    def add(self, row: SampleRow) -> None:
        """Add a sample's baseline, where it has one."""
        if row.center_box is not None:
            self.samples += 1
            self._tally.add_score(row.center_box)

    def line(self, level: str) -> Line:
        """The figures."""
        figures = {key: value for key, value in self._tally.compute().items() if key in _OF_MASKS}
        return _line(level, CENTER_BOX, self.samples, figures, None, 0)
