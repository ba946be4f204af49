import math

import numpy as np
import pytest
from scipy import stats

from verl_socio.study.margin import margin_of

MANY = 10**6


def test_one_seed_leaves_students_margin_over_the_samples() -> None:
    assert margin_of([7.0], 1.0, 3) == pytest.approx(4.303, abs=1e-3)
    assert margin_of([7.0], 1.0, MANY) == pytest.approx(1.960, abs=1e-3)


def test_where_only_seeds_differ_they_alone_count() -> None:
    assert margin_of([1.0, 3.0], 0.0, MANY) == pytest.approx(12.706, abs=1e-3)
    assert margin_of([1.0, 2.0, 3.0], 0.0, MANY) == pytest.approx(4.303 / 3**0.5, abs=1e-3)


def test_the_variances_of_seeds_and_samples_are_added_by_welch_and_satterthwaite() -> None:
    # Two groups whose means have the same variances as the mean over seeds and that over samples.
    low, high = stats.ttest_ind([1.0, 3.0], [-(3**0.5), 0.0, 3**0.5], equal_var=False).confidence_interval()
    assert margin_of([1.0, 3.0], 1.0, 3) == pytest.approx((high - low) / 2)
    assert margin_of([1.0, 3.0], 1.0, MANY) == pytest.approx(2**0.5 * 2.776, abs=1e-3), "4 degrees of freedom"


def test_where_nothing_differs_there_is_no_margin_and_of_one_sample_nothing_is_known() -> None:
    assert margin_of([2.0, 2.0], 0.0, 5) == 0.0
    assert margin_of([2.0, 2.5], math.inf, 1) == math.inf


@pytest.mark.parametrize("seeds", [2, 3])
@pytest.mark.parametrize("spread", [0.5, 8.0])
def test_without_a_difference_few_margins_are_exceeded(seeds: int, spread: float) -> None:
    """The error over samples is 1; twice the larger of both errors was exceeded by up to 28 %."""
    random = np.random.default_rng(0)
    by_seed = random.normal(0, spread, (2000, seeds)) + random.normal(0, 1, (2000, 1))
    exceeded = np.mean([abs(each.mean()) > margin_of(list(each), 1.0, 600) for each in by_seed])
    assert exceeded < (0.06 if spread < 1 else 0.14)
