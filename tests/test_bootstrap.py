import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl_socio.bootstrap import Ratios, SegmentationRatios, intervals_of
from verl_socio.metrics import MaskScore, SegmentationScore


def score(rng):
    union = int(rng.integers(1, 1000))
    intersection = int(rng.integers(0, union + 1))
    predicted, targeted = rng.integers(1, 5, 2).tolist()
    hits = int(rng.integers(0, min(predicted, targeted) + 1))
    return MaskScore(intersection / union, intersection, union, hits, predicted, targeted)


def column(tops, bottoms, failed=None):
    tops, bottoms = (np.array(each, dtype=np.float64)[:, None] for each in (tops, bottoms))
    return Ratios(tops, bottoms, np.array(failed or [False] * len(tops)))


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(0, 5))
def test_the_figures_are_those_of_the_running_score(seed, samples, failures):
    rng = np.random.default_rng(seed)
    running, collected = SegmentationScore(), SegmentationRatios()
    for _ in range(samples):
        each = score(rng)
        running.add(each)
        collected.add(each)
    for _ in range(failures):
        running.add_failed(50, 2)
        collected.add_failed(50, 2)
    expected = running.compute()
    np.testing.assert_allclose(
        collected.ratios().values(), [expected[key] for key in ("ciou", "giou", "f1")], rtol=1e-12
    )


@pytest.mark.parametrize("iou", [0.0, 1.0])
def test_an_answer_that_could_not_be_read_is_no_empty_mask(iou):
    running, collected = SegmentationScore(), SegmentationRatios()
    for each in (running, collected):
        each.add(MaskScore(iou, 0, 0, 0, 0, 0))
    expected = running.compute()
    assert collected.ratios().values().tolist() == [expected[key] for key in ("ciou", "giou", "f1")] == [iou] * 3


@pytest.mark.parametrize("failed", [False, True])
def test_where_there_is_nothing_to_find_the_rule_is_the_running_score_s(failed):
    running, collected = SegmentationScore(), SegmentationRatios()
    for each in (running, collected):
        each.add(MaskScore(1.0, 0, 0, 0, 0, 0))
        if failed:
            each.add_failed(0, 0)
    expected = running.compute()
    assert collected.ratios().values().tolist() == [expected[key] for key in ("ciou", "giou", "f1")]


def test_draws_are_those_of_a_plain_loop():
    rng = np.random.default_rng(1)
    tops, bottoms = rng.random(37), 1 + rng.random(37)
    chosen = np.random.default_rng(5).integers(0, 37, (50, 37))
    expected = [tops[each].sum() / bottoms[each].sum() for each in chosen]
    np.testing.assert_allclose(column(tops, bottoms).replicates(50, seed=5)[:, 0], expected, rtol=1e-12)


def test_large_sets_are_drawn_in_blocks_and_give_what_one_block_gives(monkeypatch):
    ratios = column(np.arange(100.0), np.full(100, 100.0))
    whole = ratios.replicates(64)
    monkeypatch.setattr("verl_socio.bootstrap._BLOCK", 700)
    np.testing.assert_array_equal(ratios.replicates(64), whole)


def test_a_ratio_of_sums_is_not_the_mean_of_ratios():
    # One large image decides cIoU: its interval must be that wide.
    ratios = column([900.0, 0.0], [1000.0, 10.0])
    [interval] = ratios.intervals()
    assert interval.low == 0.0 and interval.high == pytest.approx(0.9)


def test_the_interval_of_a_mean_is_about_the_normal_one_s():
    values = np.random.default_rng(0).normal(0.5, 0.1, 400)
    [interval] = column(values, np.ones(400)).intervals()
    half = 1.96 * values.std() / 20
    assert interval.low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.15 * half)


def test_95_of_100_intervals_hold_the_truth():
    held = 0
    for seed in range(200):
        values = np.random.default_rng(seed).random(60)
        [interval] = column(values, np.ones(60)).intervals(500, seed)
        held += interval.low <= 0.5 <= interval.high
    assert 180 <= held <= 199


def test_paired_sets_are_drawn_together():
    better, worse = column([0.9, 0.5, 0.1], [1] * 3), column([0.8, 0.4, 0.0], [1] * 3)
    draws = better.replicates(100) - worse.replicates(100)
    np.testing.assert_allclose(draws, 0.1)
    [interval] = intervals_of(draws)
    assert interval.low == pytest.approx(0.1) and interval.high == pytest.approx(0.1)


def test_the_same_seed_gives_the_same_interval():
    ratios = column(np.arange(9.0), np.arange(9.0) + 1)
    assert ratios.intervals(seed=3) == ratios.intervals(seed=3) != ratios.intervals(seed=4)


def test_no_sample_is_an_error():
    with pytest.raises(ValueError, match=r"no sample to score.*Fix:"):
        SegmentationRatios().ratios()
