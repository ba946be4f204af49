from collections.abc import Callable

import numpy as np
import pytest

from verl_socio.study.figures import Difference, Figures, Spread, Verdict, verdict_of
from verl_socio.study.plan import Comparison, Study

LAST = {"start": 0, "other": 4, "trained": 4}
Write = Callable[..., None]
# So many samples that the margin is 1.96 times the error.
MANY = 10**6


def compared(mean: float, error: float, at_least: float | None, planned: int = 2) -> Verdict:
    comparison = Comparison("a", "b", "test", at_least=at_least)
    return Difference(comparison, planned, {0: mean, 1: mean}, error, MANY, False).verdict


def test_mean_and_deviation_are_those_of_a_sample() -> None:
    assert Spread((1.0, 3.0)).mean == 2.0
    assert Spread((1.0, 3.0)).deviation == pytest.approx(2**0.5)
    assert Spread((1.0,)).deviation is None


@pytest.mark.parametrize(
    ("mean", "error", "at_least", "verdict"),
    [
        (9.0, 1.0, 8.0, Verdict.HOLDS),
        (7.9, 1.0, 8.0, Verdict.FAILS),
        (-9.0, 1.0, 8.0, Verdict.FAILS),
        (9.0, 5.0, 8.0, Verdict.NOISE),
        (1.0, 0.4, 0.0, Verdict.HOLDS),
        (1.0, 0.6, 0.0, Verdict.NOISE),
        (-1.0, 0.6, 0.0, Verdict.NOISE),
        (-1.0, 0.4, 0.0, Verdict.FAILS),
        (0.0, 0.0, 0.0, Verdict.NOISE),
        (5.0, 1.0, None, Verdict.SHOWN),
    ],
)
def test_a_claim_holds_where_it_is_large_enough_and_more_than_noise(
    mean: float, error: float, at_least: float | None, verdict: Verdict
) -> None:
    assert compared(mean, error, at_least) is verdict


def test_with_a_seed_missing_nothing_is_said() -> None:
    assert compared(9.0, 0.1, 8.0, planned=3) is Verdict.MISSING
    assert compared(9.0, 0.1, None, planned=3) is Verdict.MISSING


def test_two_seeds_that_differ_much_show_nothing() -> None:
    comparison = Comparison("a", "b", "test", at_least=0)
    assert Difference(comparison, 2, {0: 2.0, 1: 6.0}, 0.5, MANY, False).verdict is Verdict.NOISE
    assert Difference(comparison, 2, {0: 4.0, 1: 4.1}, 0.5, MANY, False).verdict is Verdict.HOLDS


def test_seeds_are_paired_and_a_start_without_chance_serves_them_all(study: Study, keep: Write) -> None:
    keep("start", 0, "test", {"localise": [0.2, 0.4]})
    keep("trained", 0, "test", {"localise": [0.3, 0.5], "refine": [0.4, 0.6]})
    keep("trained", 1, "test", {"localise": [0.3, 0.5], "refine": [0.2, 0.6]})
    figures = Figures(study, LAST)
    difference = figures.difference(study.claims["improves"].comparisons[0])
    assert (difference.planned, list(difference.by_seed)) == (2, [0, 1])
    assert list(difference.by_seed.values()) == pytest.approx([20.0, 10.0])
    assert figures.seeds("start", "test") == (0,)
    assert figures.seeds("start", "sampled") == (0, 1)
    # Seeds taken together the samples differ by 10 and 20 points.
    assert (difference.sample_error, difference.samples) == (pytest.approx(5.0), 2)
    masks = figures.difference(study.claims["second"].comparisons[0])
    assert list(masks.by_seed.values()) == pytest.approx([10.0, 0.0])


def test_what_names_one_place_only_is_compared_on_the_questions_that_mean_one(
    plan_values: dict, read_plan: Callable[[object], Study], keep: Write
) -> None:
    keep("start", 0, "test", {"answer": [0.2, 0.9, 0.4, 0.2]}, places=[1, 2, 1, 1])
    for seed in (0, 1):
        keep("trained", seed, "test", {"answer": [0.3, 0.1, 0.7, 0.2 + seed / 10]}, places=[1, 2, 1, 1])
    plan_values["variants"]["trained"]["one_place"] = True
    study = read_plan(plan_values)
    difference = Figures(study, LAST).difference(study.claims["improves"].comparisons[0])
    assert list(difference.by_seed.values()) == pytest.approx([40 / 3, 50 / 3])
    assert (difference.samples, difference.one_place) == (3, True)
    assert difference.sample_error == pytest.approx(np.std([10, 30, 5], ddof=1) / 3**0.5)


def test_where_no_question_means_one_place_nothing_is_compared(
    plan_values: dict, read_plan: Callable[[object], Study], keep: Write
) -> None:
    for name in ("start", "trained"):
        keep(name, 0, "test", {"answer": [0.3]}, places=[2])
    plan_values["variants"]["start"]["one_place"] = True
    study = read_plan(plan_values)
    difference = Figures(study, LAST).difference(study.claims["improves"].comparisons[0])
    assert (difference.by_seed, difference.samples, difference.verdict) == ({}, 0, Verdict.MISSING)


def test_with_chance_each_seed_has_its_own_start(study: Study, keep: Write) -> None:
    keep("start", 0, "sampled", {"localise": [0.2]})
    keep("start", 1, "sampled", {"localise": [0.4]})
    for seed in (0, 1):
        keep("trained", seed, "sampled", {"localise": [0.5]})
    difference = Figures(study, LAST).difference(study.claims["improves"].comparisons[1])
    assert list(difference.by_seed.values()) == pytest.approx([30.0, 10.0])


def test_what_is_missing_is_no_zero(study: Study, keep: Write) -> None:
    keep("trained", 1, "test", {"localise": [0.5]})
    figures = Figures(study, LAST)
    difference = figures.difference(study.claims["improves"].comparisons[0])
    assert (difference.by_seed, difference.samples, difference.verdict) == ({}, 0, Verdict.MISSING)
    assert figures.spread("start", "test", lambda result: result.line("last").giou) is None
    assert figures.spread("trained", "test", lambda result: result.line("last").giou).values == (0.5,)
    claim = study.claims["improves"]
    assert verdict_of(claim, [figures.difference(each) for each in claim.comparisons]) is Verdict.MISSING


def test_results_of_other_data_are_not_compared(study: Study, keep: Write) -> None:
    keep("start", 0, "test", {"localise": [0.2]}, data="one")
    keep("trained", 0, "test", {"localise": [0.5]}, data="two")
    with pytest.raises(ValueError, match=r"trained, test = 'seed 0': was evaluated on other data.*Fix: "):
        Figures(study, LAST).difference(study.claims["improves"].comparisons[0])


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ((Verdict.HOLDS, Verdict.SHOWN), Verdict.HOLDS),
        ((Verdict.HOLDS, Verdict.NOISE), Verdict.NOISE),
        ((Verdict.FAILS, Verdict.NOISE), Verdict.FAILS),
        ((Verdict.FAILS, Verdict.MISSING), Verdict.MISSING),
        ((Verdict.SHOWN, Verdict.SHOWN), Verdict.SHOWN),
    ],
)
def test_a_claim_is_as_good_as_its_weakest_comparison(
    study: Study, verdicts: tuple[Verdict, Verdict], expected: Verdict
) -> None:
    figure = {
        Verdict.HOLDS: (9.0, 0.0, 2), Verdict.NOISE: (0.0, 0.0, 2), Verdict.FAILS: (-9.0, 0.0, 2),
        Verdict.MISSING: (9.0, 0.0, 3), Verdict.SHOWN: (9.0, None, 2),
    }  # fmt: skip
    differences = []
    for verdict in verdicts:
        mean, wanted, planned = figure[verdict]
        comparison = Comparison("a", "b", "test", at_least=wanted)
        differences.append(Difference(comparison, planned, {0: mean, 1: mean}, 0.1, MANY, False))
        assert differences[-1].verdict is verdict
    assert verdict_of(study.claims["improves"], differences) is expected


def test_the_centre_box_is_that_of_any_result_on_the_data(study: Study, keep: Write) -> None:
    assert Figures(study, LAST).center_box("plain", "test") is None
    keep("other", 1, "test", {"localise": [0.5]})
    assert Figures(study, LAST).center_box("plain", "test").giou == pytest.approx(0.1)
