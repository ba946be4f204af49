"""A study's plan: which trainings, on which data, how they are evaluated, and what they are to show.

A plan is a YAML file such as `configs/study/city.yaml`. `reading.py` reads it and checks names and kinds; `checks.py`
asks the verbs themselves whether they would take the settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MASKS = ("first", "last")


@dataclass(frozen=True)
class City:
    """Generated data: `verl-socio data city --samples --seed --size`; samples are those of train, val and test."""

    name: str
    samples: int
    seed: int
    size: int


@dataclass(frozen=True)
class Training:
    """What the variants of one kind share.

    Attributes:
        name: What variants call it.
        config: The configuration that `verl-socio train` starts from.
        overrides: Settings as key=value.
        seeded: The keys that are set to the seed.
    """

    name: str
    config: str
    overrides: tuple[str, ...] = ()
    seeded: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of a model.

    Attributes:
        name: Word for it in records and tables.
        split: Of the data. Evaluations that differ in nothing else share one start of the model.
        overrides: Settings of `verl-socio evaluate` as key=value.
        seeded: The keys that are set to the seed; without any, a model has one result whatever the seed.
        along: Whether the checkpoints that a variant names (`also_at`) are evaluated too.
    """

    name: str
    split: str
    overrides: tuple[str, ...] = ()
    seeded: tuple[str, ...] = ()
    along: bool = False

    @property
    def settings(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What has to be the same for evaluations that share a start."""
        return self.overrides, self.seeded


@dataclass(frozen=True)
class Baseline:
    """What the segmenter does with the true boxes: `verl_socio/study/true_boxes.py`.

    Attributes:
        name: Word for it in records.
        city: Its data.
        split: Of the data.
        points: Numbers of points to add to each box; 0 is the box alone.
        evaluations: Beside which evaluations it is shown: those that ask the same questions about the same satellite
            images.
    """

    name: str
    city: str
    split: str
    points: tuple[int, ...]
    evaluations: tuple[str, ...]


@dataclass(frozen=True)
class Variant:
    """One line of the study: a training, or none, with every seed.

    Attributes:
        name: Word for it in folders and tables.
        about: What it is, for the page.
        seeds: The seeds, in the order in which they are run.
        city: Its data.
        training: What it is trained by; None: the start is evaluated as it is.
        train: Settings of the training on top of the shared ones.
        evaluate: Settings of every evaluation on top of that evaluation's own.
        begins_as: The variant without a training that it begins as, for the curves.
        also_at: Steps before the last whose checkpoints are evaluated where an evaluation asks for it.
        first: Whether it is run before those that are not.
        one_place: Whether its recipe can name one place only: it is compared on the questions that mean one.
    """

    name: str
    about: str
    seeds: tuple[int, ...]
    city: str
    training: str | None = None
    train: tuple[str, ...] = ()
    evaluate: tuple[str, ...] = ()
    begins_as: str | None = None
    also_at: tuple[int, ...] = ()
    first: bool = False
    one_place: bool = False


@dataclass(frozen=True)
class Comparison:
    """Two figures to be set against each other.

    Attributes:
        of: The variant that is said to be better.
        against: The other one; it may be the same where the masks differ.
        evaluation: The evaluation.
        mask: Which of its masks: the "first" stage's or the "last".
        against_mask: Which of the other's masks.
        at_least: Points of gIoU (0..100) that it has to be better by; None: shown without a claim.
    """

    of: str
    against: str
    evaluation: str
    mask: str = "last"
    against_mask: str = "last"
    at_least: float | None = None


@dataclass(frozen=True)
class Claim:
    """What the study is to show.

    Attributes:
        name: Word for it in the page's template.
        text: The claim in words.
        comparisons: What has to hold for it.
        also: Variants shown in its table that no comparison names.
        fall_from: An evaluation; the table then says how much less there is in the others. None: it does not.
        note: What the figures do not say of themselves: why it does not hold, what was tried. Markdown.
    """

    name: str
    text: str
    comparisons: tuple[Comparison, ...]
    also: tuple[str, ...] = ()
    fall_from: str | None = None
    note: str | None = None

    @property
    def variants(self) -> tuple[str, ...]:
        """Every variant in it, once, in order: what is compared with before what is compared."""
        named = [name for each in self.comparisons for name in (each.against, each.of)]
        return tuple(dict.fromkeys((*self.also, *named)))

    @property
    def evaluations(self) -> tuple[str, ...]:
        """Every evaluation in it, once, in order."""
        return tuple(dict.fromkeys(each.evaluation for each in self.comparisons))


@dataclass(frozen=True)
class Study:
    """A whole plan.

    Attributes:
        path: The file it was read from.
        runs: Folder of the runs.
        results: Folder of the records that stay; the page lies beside it, `<results>.md`.
        template: The page's template.
        cities: Data by name.
        trainings: What variants are trained by, by name.
        evaluations: Evaluations by name, in order; `asked` tells which of them a variant needs.
        variants: Variants by name, in order.
        claims: Claims by name, in order.
        baselines: What the segmenter reaches from the truth, by name.
        curves: Variants whose trainings are drawn.
    """

    path: Path
    runs: Path
    results: Path
    template: Path
    cities: Mapping[str, City]
    trainings: Mapping[str, Training]
    evaluations: Mapping[str, Evaluation]
    variants: Mapping[str, Variant]
    claims: Mapping[str, Claim]
    baselines: Mapping[str, Baseline]
    curves: tuple[str, ...]

    def asked(self, variant: str) -> tuple[Evaluation, ...]:
        """The evaluations of a variant that the claims and the curves need, in the plan's order."""
        needed: set[str] = set()
        for claim in self.claims.values():
            if variant in claim.variants:
                needed.update(claim.evaluations, [claim.fall_from] if claim.fall_from else [])
        drawn = [each for each in self.variants.values() if each.name in self.curves and each.also_at]
        if any(variant in (each.name, each.begins_as) for each in drawn):
            needed.update(name for name, evaluation in self.evaluations.items() if evaluation.along)
        return tuple(evaluation for name, evaluation in self.evaluations.items() if name in needed)
