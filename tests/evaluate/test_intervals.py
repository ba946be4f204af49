import dataclasses
import json

import numpy as np
import pytest

from verl_socio.bootstrap import Interval
from verl_socio.evaluate.intervals import intervals
from verl_socio.evaluate.scores import summarise
from verl_socio.evaluate.summary import summary_values
from verl_socio.evaluate.timing import timings
from verl_socio.metrics import MaskScore


@pytest.fixture
def rows(row_of):
    """Thirty samples of two levels, the first of them failed."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(30):
        row = row_of("nonsense" if number % 5 == 0 else '<answer>[{"bbox_2d": [1, 1, 2, 2]}]</answer>')
        inside = int(rng.integers(0, 100))
        stage = dataclasses.replace(row.stages[0], score=MaskScore(inside / 100, inside, 100, inside // 50, 1, 1))
        level = "name" if number % 2 else "class"
        row = dataclasses.replace(row, id=f"s{number}", level=level, stages=(stage,), index=number)
        made.append(row if number else dataclasses.replace(row, failure="broken", stages=()))
    return made


def test_every_figure_of_the_summary_has_an_interval_around_it(rows):
    summary, found = summarise(rows, ["localise"]), intervals(iter(rows), ["localise"])
    assert set(found) == {(line.level, line.name) for line in summary.lines}
    for line in summary.lines:
        of_line = found[line.level, line.name]
        assert set(of_line) == {"ciou", "giou", "f1"} | ({"unparsed"} if line.name == "localise" else set())
        for name, interval in of_line.items():
            assert 0 <= interval.low <= getattr(line, name) <= interval.high <= 1
    wide, narrow = found["name", "localise"]["giou"], found["all", "localise"]["giou"]
    assert wide.high - wide.low > narrow.high - narrow.low > 0.05


def test_where_nothing_was_answered_no_rate_has_an_interval(rows):
    found = intervals(rows[:1], ["localise"])
    assert found["all", "localise"] == {"ciou": Interval(0, 0), "giou": Interval(0, 0), "f1": Interval(0, 0)}


def test_the_summary_s_file_holds_them_and_the_times(rows):
    found = intervals(rows, ["localise"])
    content = json.loads(json.dumps(summary_values(summarise(rows, ["localise"]), found, timings(rows))))
    line = next(each for each in content["lines"] if (each["level"], each["name"]) == ("all", "localise"))
    interval = found["all", "localise"]["ciou"]
    assert line["intervals"]["ciou"] == [interval.low, interval.high]
    assert [each["name"] for each in content["timings"]] == ["localise: generate", "localise: segment", "whole sample"]
