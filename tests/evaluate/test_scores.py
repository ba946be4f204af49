import numpy as np
import pytest

from verl_socio.evaluate.rows import MaskScore, SampleRow, StageRow
from verl_socio.evaluate.scores import Tally, measure, summarise
from verl_socio.metrics import SegmentationScore


def masks(seed, empty=False):
    rng = np.random.default_rng(seed)
    mask_hw = np.zeros((40, 50), dtype=bool)
    for x, y in () if empty else rng.integers(0, 30, (3, 2)):
        mask_hw[y : y + 8, x : x + 9] = True
    return mask_hw


def test_a_tally_of_measured_masks_is_the_score_of_the_masks():
    expected, tally = SegmentationScore(), Tally()
    for seed in range(12):
        prediction_hw, target_hw = masks(seed, empty=seed in (3, 5)), masks(seed + 6, empty=seed in (5, 7))
        if seed % 4 == 2:
            expected.add_failure(target_hw)
            score = measure(target_hw, target_hw)
            tally.add_failed(score.union, score.targeted)
        else:
            expected.update(prediction_hw, target_hw)
            tally.add(measure(prediction_hw, target_hw))
    assert tally.compute() == expected.compute()
    assert 0 < expected.compute()["f1"] < 1, "the masks must tell"
    assert tally.failures == 3


def stage(name, score, status="ok"):
    return StageRow(name, "", "", status, "", True, (), (), score, None, None, 0.0, 0.0)


def row(number, level, first, second, *, failure=None, status="ok"):
    stages = () if failure else (stage("localise", first, status), stage("refine", second))
    baseline = MaskScore(0.1, 10, 100, 0, 1, 1)
    return SampleRow(f"s{number}", "q", level, (20, 10), 50, 1, baseline, failure, stages, 0.0)


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
