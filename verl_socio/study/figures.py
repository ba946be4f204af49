"""A study's figures: what each variant reached, and whether a difference is more than noise."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from verl_socio.errors import invalid
from verl_socio.evaluate.scores import Line
from verl_socio.study.margin import margin_of
from verl_socio.study.plan import Claim, Comparison, Study
from verl_socio.study.records import Result, read_result, training_codes
from verl_socio.study.steps import record_folder, runs_of, shared_seed
from verl_socio.train.run_folder import SETTINGS


class Verdict(StrEnum):
    """What is to be said of a claim."""

    HOLDS = "holds"
    FAILS = "does not hold"
    NOISE = "within the noise"
    MISSING = "not enough seeds yet"
    SHOWN = "no claim, shown only"


@dataclass(frozen=True)
class Spread:
    """A figure over seeds.

    Attributes:
        values: One a seed.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Their mean."""
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """Standard deviation of a sample; None for a single seed."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Difference:
    """Two figures set against each other, in points of gIoU (0..100).

    Attributes:
        comparison: What is compared.
        planned: How many seeds both variants have in the plan.
        by_seed: The difference of each seed that is there.
        sample_error: Standard error of the difference over the samples, seeds taken together; infinite below two.
        samples: How many samples it is over.
        one_place: Whether these are only the questions that mean one place, since one of the two can name no more.
    """

    comparison: Comparison
    planned: int
    by_seed: Mapping[int, float]
    sample_error: float
    samples: int
    one_place: bool

    @property
    def spread(self) -> Spread:
        """The differences over the seeds."""
        return Spread(tuple(self.by_seed.values()))

    @property
    def margin(self) -> float:
        """What chance alone may make of it, in points; a difference of more is more than noise."""
        return margin_of(self.spread.values, self.sample_error, self.samples)

    @property
    def verdict(self) -> Verdict:
        """What is to be said of it.

        It holds where it is as large as was claimed and above its margin; it is undecided where both what was claimed
        and what there is lie within the margin; else it does not hold.
        """
        wanted = self.comparison.at_least
        if len(self.by_seed) < self.planned:
            return Verdict.MISSING
        if wanted is None:
            return Verdict.SHOWN
        mean, noise = self.spread.mean, self.margin
        if mean >= wanted and mean > noise:
            return Verdict.HOLDS
        if abs(mean) <= noise and wanted <= noise:
            return Verdict.NOISE
        return Verdict.FAILS


class Figures:
    """The records of a study, each read once.

    Args:
        study: The plan.
        last_steps: Each variant's last step, from `checks.settle`.
    """

    def __init__(self, study: Study, last_steps: Mapping[str, int]) -> None:
        self.study = study
        self.runs = {(run.variant.name, run.seed): run for run in runs_of(study, last_steps, (), ())}
        self._results: dict[tuple[str, int, str, int], Result | None] = {}

    def result(self, variant: str, seed: int, evaluation: str, at: int | None = None) -> Result | None:
        """A result after a step, the last where none is given; None where it is not there yet.

        Raises:
            ValueError: Its record cannot be read.
        """
        planned = self.study.variants[variant]
        run = self.runs[variant, shared_seed(planned, self.study.evaluations[evaluation], seed)]
        step = run.last_step if at is None else at
        key = (variant, run.seed, evaluation, step)
        if key not in self._results:
            self._results[key] = read_result(self.study, run, evaluation, step)
        return self._results[key]

    def seeds(self, variant: str, evaluation: str) -> tuple[int, ...]:
        """The seeds that have a result of their own in the plan."""
        planned, asked = self.study.variants[variant], self.study.evaluations[evaluation]
        return tuple(seed for seed in planned.seeds if shared_seed(planned, asked, seed) == seed)

    def results(self, variant: str, evaluation: str) -> list[Result]:
        """Those results that are there, in the order of the seeds."""
        found = (self.result(variant, seed, evaluation) for seed in self.seeds(variant, evaluation))
        return [each for each in found if each is not None]

    def spread(self, variant: str, evaluation: str, figure: Callable[[Result], float]) -> Spread | None:
        """A figure over the seeds that are there; None where there is none."""
        values = tuple(figure(each) for each in self.results(variant, evaluation))
        return Spread(values) if values else None

    def codes(self) -> int:
        """How many states of the code made the results that are there."""
        results = [each for name in self.study.variants for test in self.study.evaluations
                   for each in self.results(name, test)]  # fmt: skip
        return len({each.code for each in results})

    def training_codes(self) -> tuple[int, int]:
        """How many states of the code made the trainings that are there, and how many of these do not tell theirs.

        Raises:
            ValueError: A record cannot be read.
        """
        trained = [run for run in self.runs.values() if (record_folder(self.study, run) / SETTINGS).is_file()]
        codes = [training_codes(self.study, run) for run in trained]
        return len(set().union(*codes)), codes.count(set())

    def difference(self, comparison: Comparison) -> Difference:
        """Set two variants against each other, seed by seed and sample by sample.

        Raises:
            ValueError: Two results that belong together are of different data or segmenters.
        """
        of, against = self.study.variants[comparison.of], self.study.variants[comparison.against]
        planned = [seed for seed in of.seeds if seed in against.seeds]
        one_place = of.one_place or against.one_place
        by_seed, by_sample = {}, []
        for seed in planned:
            one = self.result(of.name, seed, comparison.evaluation)
            other = self.result(against.name, seed, comparison.evaluation)
            if one is not None and other is not None:
                if one.rests_on != other.rests_on:
                    rule = f"was evaluated on other data, or with another segmenter, than {against.name}, seed {seed}"
                    fix = "delete the older of the two evaluations and run the study again"
                    raise invalid(f"{of.name}, {comparison.evaluation}", f"seed {seed}", rule, fix)
                line, other_line = one.line(comparison.mask), other.line(comparison.against_mask)
                differences = 100 * (one.ious[line.name] - other.ious[other_line.name])
                if not one_place:
                    by_seed[seed] = 100 * (line.giou - other_line.giou)
                    by_sample.append(differences)
                elif len(of_one := differences[one.places == 1]):
                    by_seed[seed] = float(of_one.mean())
                    by_sample.append(of_one)
        samples = len(by_sample[0]) if by_sample else 0
        return Difference(comparison, len(planned), by_seed, _error(by_sample), samples, one_place)

    def center_box(self, city: str, evaluation: str) -> Line | None:
        """The centre box on a city's data; every result on them has the same."""
        runs = [key for key, run in self.runs.items() if run.variant.city == city]
        found = (self.result(name, seed, evaluation) for name, seed in runs)
        return next((each.center_box for each in found if each is not None), None)


def _error(by_sample: list[np.ndarray]) -> float:
    mean = np.mean(by_sample, axis=0) if by_sample else np.empty(0)
    return float(np.std(mean, ddof=1) / math.sqrt(len(mean))) if len(mean) > 1 else math.inf


def verdict_of(claim: Claim, differences: list[Difference]) -> Verdict:
    """What is to be said of a whole claim: as much as of its weakest comparison."""
    found = {each.verdict for each in differences}
    order = (Verdict.MISSING, Verdict.FAILS, Verdict.NOISE, Verdict.HOLDS)
    assert len(differences) == len(claim.comparisons)
    return next((verdict for verdict in order if verdict in found), Verdict.SHOWN)
