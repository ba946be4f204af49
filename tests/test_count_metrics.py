import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from verl_socio.count_metrics import CountScore

counts = st.integers(0, 200)


@settings(deadline=None)
@given(pairs=st.lists(st.tuples(counts, counts), min_size=1))
def test_errors_are_those_of_torchmetrics(torchmetrics, pairs):
    score = CountScore()
    for predicted, target in pairs:
        score.add(predicted, target)
    predicted, target = (torch.tensor(side, dtype=torch.float64) for side in zip(*pairs, strict=True))
    mean = torchmetrics.MeanAbsoluteError().set_dtype(torch.float64)
    square = torchmetrics.MeanSquaredError(squared=False).set_dtype(torch.float64)
    figures = score.compute()
    assert figures["mae"] == pytest.approx(float(mean(predicted, target)), abs=1e-9)
    assert figures["rmse"] == pytest.approx(float(square(predicted, target)), abs=1e-9)
    assert figures["accuracy"] == sum(a == b for a, b in pairs) / len(pairs)
    assert figures["n"] == len(pairs)


def test_a_failed_sample_is_wrong_and_counts_nothing():
    score = CountScore()
    score.add(3, 3)
    score.add_failed(4)
    score.add_failed(0)
    assert score.compute() == {"accuracy": 1 / 3, "mae": 4 / 3, "rmse": math.sqrt(16 / 3), "n": 3}


def test_no_sample_is_an_error():
    with pytest.raises(ValueError, match=r"no sample to score.*Fix:"):
        CountScore().compute()
