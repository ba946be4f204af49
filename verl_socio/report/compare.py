"""Two evaluations of the same samples, compared sample by sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from verl_socio.bootstrap import FIGURES, REPLICATES, SEED, Interval, SegmentationRatios, intervals_of
from verl_socio.data import LEVELS
from verl_socio.errors import invalid
from verl_socio.evaluate.intervals import add
from verl_socio.evaluate.rows import SampleRow
from verl_socio.evaluate.scores import ALL
from verl_socio.nested import differences
from verl_socio.report.load import Evaluated, load
from verl_socio.text import for_terminal

_FINISH = "finish it first: the command that began it goes on"


@dataclass(frozen=True)
class Difference:
    """One figure of both.

    Attributes:
        level: "all", or a level.
        figure: "ciou", "giou" or "f1".
        samples: How many.
        a: The figure of the first, 0..1.
        b: Of the second.
        interval: Of b - a, paired: each draw takes the same samples of both.
    """

    level: str
    figure: str
    samples: int
    a: float
    b: float
    interval: Interval

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return not self.interval.low <= 0.0 <= self.interval.high


@dataclass(frozen=True)
class Changed:
    """A sample of both: its IoU by the last stage, 0 where it failed."""

    id: str
    question: str
    a: float
    b: float


@dataclass(frozen=True)
class Comparison:
    """Two evaluations of the same samples, by their last stages.

    Attributes:
        titles: What each is.
        differences: "all" first, then the levels that occur.
        changed: Every sample, the most changed first.
        settings: What differs between their fingerprints: (key, first, second).
    """

    titles: tuple[str, str]
    differences: tuple[Difference, ...]
    changed: tuple[Changed, ...]
    settings: tuple[tuple[str, object, object], ...]


def compare(first: Path, second: Path) -> Comparison:
    """Compare two evaluations.

    Args:
        first: An evaluation's folder.
        second: Another's.

    Raises:
        ValueError: A folder holds no evaluation or an unfinished one, or the two are of different data.
    """
    a, b = load(first), load(second)
    pairs = _paired(a, b)
    levels = [level for level in (ALL, *LEVELS) if level == ALL or any(row.level == level for row, _ in pairs)]
    found = [each for level in levels for each in _differences(a, b, pairs, level)]
    changed = [Changed(row.id, row.question, _iou(row), _iou(other)) for row, other in pairs]
    changed.sort(key=lambda each: -abs(each.b - each.a))
    settings = tuple(differences(a.mark["identity"], b.mark["identity"]))
    return Comparison((a.title, b.title), tuple(found), tuple(changed), settings)


def _paired(a: Evaluated, b: Evaluated) -> list[tuple[SampleRow, SampleRow]]:
    of_a, of_b = a.mark["identity"].get("data"), b.mark["identity"].get("data")
    if of_a != of_b:
        rule = f"is of other data than {a.folder} ({b.config.data}, split {b.config.split}; that one has "
        rule += f"{a.config.data}, split {a.config.split}): the samples, their images or their targets differ"
        raise invalid("compare", str(b.folder), rule, "evaluate both on the same data, split and max_samples")
    for one in (a, b):
        # Two may have stopped after the same samples.
        if not one.is_finished:
            lacking = "no summary.json" if not one.has_summary else f"{one.missing} samples without a result"
            rule = f"is not finished: it has {lacking} beside its {len(one.rows)} results"
            raise invalid("compare", str(one.folder), rule, _FINISH)
    rows = {row.id: row for row in b.rows}
    for one, other in ((a, b), (b, a)):
        known = {row.id for row in one.rows}
        if left_out := [row.id for row in other.rows if row.id not in known]:
            rule = f"has no result for {len(left_out)} samples of {other.folder}, such as {left_out[0]}"
            raise invalid("compare", str(one.folder), rule, _FINISH)
    return [(row, rows[row.id]) for row in a.rows]


def _differences(
    a: Evaluated, b: Evaluated, pairs: Sequence[tuple[SampleRow, SampleRow]], level: str
) -> Iterator[Difference]:
    chosen = [pair for pair in pairs if level in (ALL, pair[0].level)]
    one, other = SegmentationRatios(), SegmentationRatios()
    for row, twin in chosen:
        add(one, row, len(a.stages) - 1)
        add(other, twin, len(b.stages) - 1)
    of_a, of_b = one.ratios(), other.ratios()
    # Both draw the same samples.
    spreads = intervals_of(of_b.replicates() - of_a.replicates())
    for figure, first, second, spread in zip(FIGURES, of_a.values(), of_b.values(), spreads, strict=True):
        yield Difference(level, figure, len(chosen), float(first), float(second), spread)


def _iou(row: SampleRow) -> float:
    return 0.0 if row.failure is not None else row.stages[-1].mask_score.iou


_NAMES = {"ciou": "cIoU", "giou": "gIoU", "f1": "F1@0.5"}


def tables(comparison: Comparison, most: int) -> list[Table]:
    """Lay a comparison out for the console.

    Args:
        comparison: The comparison.
        most: How many of the most changed samples to list.
    """
    rule = (
        f"In percent, by the last stage. Interval of B - A: 95 %, paired bootstrap ({REPLICATES} draws, seed {SEED});"
    )
    figures = Table(
        title=f"A: {_shown(comparison.titles[0])}\nB: {_shown(comparison.titles[1])}",
        caption=f"{rule} * where it leaves out 0.", title_justify="left", caption_justify="left",
    )  # fmt: skip
    for name in ("level", "figure"):
        figures.add_column(name)
    for name in ("A", "B", "B - A", "interval", ""):
        figures.add_column(name, justify="right")
    for level in dict.fromkeys(each.level for each in comparison.differences):
        figures.add_section()
        for number, each in enumerate(each for each in comparison.differences if each.level == level):
            shown = [f"{100 * value:.1f}" for value in (each.a, each.b)]
            spread = f"{100 * each.interval.low:+.1f}..{100 * each.interval.high:+.1f}"
            head = f"{level} ({each.samples})" if number == 0 else ""
            star = "*" if each.is_clear else ""
            figures.add_row(head, _NAMES[each.figure], *shown, f"{100 * (each.b - each.a):+.1f}", spread, star)
    changed = Table(title="Most changed samples", title_justify="left")
    for name in ("sample", "question"):
        changed.add_column(name, overflow="fold")
    for name in ("IoU of A", "of B", "B - A"):
        changed.add_column(name, justify="right")
    for sample in comparison.changed[:most]:
        values = (f"{100 * sample.a:.1f}", f"{100 * sample.b:.1f}", f"{100 * (sample.b - sample.a):+.1f}")
        changed.add_row(_shown(sample.id), _shown(sample.question), *values)
    settings = Table(title="What differs between them", title_justify="left")
    for name in ("key", "A", "B"):
        settings.add_column(name, overflow="fold")
    for key, old, new in comparison.settings:
        settings.add_row(*(_shown(str(value)) for value in (key, old, new)))
    return [figures, changed, *([settings] if comparison.settings else [])]


def _shown(text: str) -> str:
    return escape(for_terminal(text))
