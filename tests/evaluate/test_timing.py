import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl_socio.evaluate.timing import busy_seconds, timings


def test_quantiles_and_rates_are_those_of_the_rows(row_of):
    rows = []
    for number in range(4):
        row = row_of("text")
        stage = dataclasses.replace(
            row.stages[0],
            generate_at=0.0,
            generate_s=1.0 + number,
            segment_at=5.0,
            segment_s=1.0 * (number < 2),
            tokens=10,
        )
        # Two at a time, and an hour's pause in the middle.
        started = 100.0 + 3600 * (number // 2)
        rows.append(dataclasses.replace(row, stages=(stage,), seconds=8.0, started=started))
    rows.append(dataclasses.replace(rows[0], failure="broken", stages=(), seconds=1e9))
    generate, segment, whole = timings(iter(rows))
    assert (generate.name, generate.samples, generate.p50) == ("localise: generate", 4, 2.5)
    assert generate.p95 == pytest.approx(np.quantile([1, 2, 3, 4], 0.95))
    assert generate.per_second == pytest.approx(4 / (2 + 4)) and generate.tokens_per_second == pytest.approx(40 / 6)
    assert (segment.name, segment.samples, segment.per_second) == ("localise: segment", 2, 2.0)
    assert (whole.name, whole.samples, whole.per_second) == ("whole sample", 4, 4 / 16)
    assert segment.tokens_per_second is whole.tokens_per_second is None


def test_where_every_sample_failed_there_are_no_times(row_of):
    assert timings([dataclasses.replace(row_of(""), failure="broken", stages=())]) == []


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10)), min_size=1, max_size=8))
def test_busy_seconds_are_the_seconds_in_which_anything_ran(spans):
    covered = {second for start, length in spans for second in range(start, start + length)}
    assert busy_seconds(np.array(spans, dtype=np.float64)) == len(covered)
