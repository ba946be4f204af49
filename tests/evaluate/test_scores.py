import pytest

from verl_socio.evaluate.rows import SampleRow, StageRow
from verl_socio.evaluate.scores import summarise
from verl_socio.metrics import MaskScore


def stage(name, score, status="ok"):
    return StageRow(name, "", "", status, "", True, (), (), score, None, None, 0.0, 0.0, 0.0, 0.0)


def row(number, level, first, second, *, failure=None, status="ok"):
    stages = () if failure else (stage("localise", first, status), stage("refine", second))
    baseline = MaskScore(0.1, 10, 100, 0, 1, 1)
    return SampleRow(f"s{number}", "q", level, (20, 10), 50, 1, baseline, failure, stages, 0.0, 0.0, number)


def test_lines_are_the_hand_computed_figures_of_each_stage_and_level():
    half, whole, none = (
        MaskScore(0.5, 50, 100, 1, 1, 1),
        MaskScore(1.0, 50, 50, 1, 1, 1),
        MaskScore(0.0, 0, 50, 0, 0, 1),
    )
    rows = [
        row(0, "name", half, whole),
        row(1, "class", none, half, status="unparseable"),
        row(2, "class", half, half, failure="broken"),
    ]
    summary = summarise(iter(rows), ["localise", "refine"])
    assert (summary.samples, summary.failures, summary.center_box_share) == (3, 1, 0.25)
    names = [(line.level, line.name) for line in summary.lines]
    levels = ("all", "name", "class")
    assert names == [(level, name) for level in levels for name in ("centre box", "localise", "refine")]
    lines = {(line.level, line.name): line for line in summary.lines}
    first = lines["all", "localise"]
    # The failed sample: intersection 0, union 50, IoU 0, one target that was not hit.
    assert first.ciou == (50 + 0 + 0) / (100 + 50 + 50)
    assert first.giou == pytest.approx(0.5 / 3)
    assert first.f1 == 2 * 1 / (2 + 1 + 1)
    assert (first.samples, first.failures, first.unparsed) == (3, 1, 0.5)
    second = lines["class", "refine"]
    assert (second.ciou, second.giou, second.f1) == (50 / 150, 0.25, 2 / 3)
    assert (second.samples, second.failures, second.unparsed) == (2, 1, 0.0)
    baseline = lines["all", "centre box"]
    assert (baseline.ciou, baseline.f1, baseline.unparsed, baseline.failures) == (0.1, 0.0, None, 0)


def test_where_everything_failed_there_is_no_rate_and_the_score_is_zero():
    none = MaskScore(0.0, 0, 50, 0, 0, 1)
    summary = summarise([row(0, "name", none, none, failure="broken")], ["localise"])
    line = next(line for line in summary.lines if line.name == "localise")
    assert (line.ciou, line.giou, line.f1, line.unparsed, line.failures) == (0.0, 0.0, 0.0, None, 1)


def test_nothing_to_score_is_an_error():
    with pytest.raises(ValueError, match=r"no sample to score.*Fix:"):
        summarise([], ["localise"])
