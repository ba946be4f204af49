"""The figures of an evaluation that charts and tables show, each with its interval."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

from verl_socio.bootstrap import FIGURES, Interval, SegmentationRatios
from verl_socio.evaluate.intervals import Intervals, add, intervals
from verl_socio.evaluate.rows import SampleRow
from verl_socio.evaluate.scores import Summary, summarise
from verl_socio.evaluate.timing import Timing, timings
from verl_socio.report.kinds import KINDS, kind_of
from verl_socio.report.load import Evaluated

# Questions of these levels are asked of many places; a name is asked of one.
_SHARED_LEVELS = ("class", "function")
# Below this change of the IoU a sample counts as unchanged.
UNCHANGED = 0.01


@dataclass(frozen=True)
class ClassFigure:
    """How well one class or function is found, by the last stage.

    Attributes:
        level: "class" or "function".
        name: The question.
        samples: How many.
        giou: Mean IoU, 0..1.
        interval: Of it.
        ciou: Summed intersections over summed unions, 0..1.
    """

    level: str
    name: str
    samples: int
    giou: float
    interval: Interval
    ciou: float


@dataclass(frozen=True)
class Refinement:
    """What the last stage did to the first one's masks; samples that failed are left out.

    Attributes:
        helped: Samples whose IoU rose by more than 0.01.
        hurt: Samples whose IoU fell by more than 0.01.
        unchanged: All others.
    """

    helped: int
    hurt: int
    unchanged: int


@dataclass(frozen=True)
class Figures:
    """All of them.

    Attributes:
        summary: By level and stage.
        intervals: Of the summary's figures.
        timings: How long things took.
        classes: By class and function, the most frequent first.
        kinds: What became of the samples: kind to number, in the order of `KINDS`.
        refinement: None for a recipe of one stage.
    """

    summary: Summary
    intervals: Intervals
    timings: list[Timing]
    classes: list[ClassFigure]
    kinds: dict[str, int]
    refinement: Refinement | None


def figures_of(evaluated: Evaluated) -> Figures:
    """Compute the figures of an evaluation."""
    rows, stages = evaluated.rows, evaluated.stages
    kinds = [kind_of(row) for row in rows]
    changes = [change for row in rows if (change := change_of(row)) is not None]
    summary = summarise(rows, stages, evaluated.protocol)
    if not evaluated.is_finished:
        # The box was made from the targets of the whole set, of which these rows are a part.
        summary = replace(summary, center_box_share=None)
    return Figures(
        summary=summary,
        intervals=intervals(rows, stages, evaluated.protocol),
        timings=timings(rows),
        classes=_classes(evaluated),
        kinds={kind: kinds.count(kind) for kind in KINDS if kind in kinds},
        refinement=_refinement(changes) if len(stages) > 1 else None,
    )


def change_of(row: SampleRow) -> float | None:
    """IoU of the last stage minus that of the first; None for a failed sample."""
    return row.stages[-1].mask_score.iou - row.stages[0].mask_score.iou if row.failure is None else None


def _refinement(changes: list[float]) -> Refinement:
    helped, hurt = sum(each > UNCHANGED for each in changes), sum(each < -UNCHANGED for each in changes)
    return Refinement(helped, hurt, len(changes) - helped - hurt)


def _classes(evaluated: Evaluated) -> list[ClassFigure]:
    groups: dict[tuple[str, str], SegmentationRatios] = defaultdict(SegmentationRatios)
    sizes: dict[tuple[str, str], int] = defaultdict(int)
    for row in evaluated.rows:
        if row.level is not None and row.level in _SHARED_LEVELS:
            add(groups[row.level, row.question], row, len(evaluated.stages) - 1)
            sizes[row.level, row.question] += 1
    found = []
    for (level, name), scores in groups.items():
        ratios = scores.ratios()
        values, spreads = dict(zip(FIGURES, ratios.values(), strict=True)), ratios.intervals()
        interval = spreads[FIGURES.index("giou")]
        size = sizes[level, name]
        found.append(ClassFigure(level, name, size, float(values["giou"]), interval, float(values["ciou"])))
    return sorted(found, key=lambda each: (-each.samples, each.level, each.name))
