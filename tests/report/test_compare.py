import dataclasses
import os

import pytest
from rich.console import Console

from verl_socio.metrics import MaskScore
from verl_socio.report.compare import compare, tables


def better(row):
    """The same sample with 10 pixels more found by the last stage; sample 3 found whole."""
    last = row.stages[-1]
    inside = 100 if row.index == 3 else min(last.score.intersection + 10, 100)
    score = MaskScore(inside / 100, inside, 100, int(inside >= 50), 1, 1)
    return dataclasses.replace(row, stages=(row.stages[0], dataclasses.replace(last, score=score)))


def printed(comparison, most=3):
    console = Console(width=140)
    with console.capture() as capture:
        for table in tables(comparison, most):
            console.print(table)
    return capture.get()


def test_a_small_but_steady_gain_is_clear_because_samples_are_paired(write_evaluation, tmp_path):
    a = write_evaluation(tmp_path / "a", 60, model="m1")
    b = write_evaluation(tmp_path / "b", 60, change=better, model="m2")
    found = compare(a, b)
    assert [(each.level, each.figure) for each in found.differences][:3] == [
        ("all", "ciou"), ("all", "giou"), ("all", "f1"),
    ]  # fmt: skip
    giou = found.differences[1]
    mean = sum(each.b - each.a for each in found.changed) / 60
    assert giou.b - giou.a == pytest.approx(mean) and 0.05 < mean < 0.15
    assert giou.is_clear and giou.interval.low < mean < giou.interval.high
    assert giou.interval.high - giou.interval.low < 0.06, "unpaired it would be about 0.2"
    assert [abs(each.b - each.a) for each in found.changed] == sorted(
        (abs(each.b - each.a) for each in found.changed), reverse=True
    )
    assert found.settings == (("model", "m1", "m2"),)
    turned = compare(b, a).differences[1]
    assert (turned.a, turned.b, turned.interval.low) == pytest.approx((giou.b, giou.a, -giou.interval.high))


def test_an_evaluation_beside_itself_differs_nowhere(write_evaluation, tmp_path):
    a = write_evaluation(tmp_path / "a", 9)
    found = compare(a, a)
    assert all((each.interval.low, each.interval.high, each.is_clear) == (0, 0, False) for each in found.differences)
    assert not found.settings


def test_a_failed_sample_counts_as_found_nothing(write_evaluation, tmp_path):
    def change(row):
        return dataclasses.replace(row, failure="broken", stages=()) if row.index == 2 else row

    a, b = write_evaluation(tmp_path / "a", 9), write_evaluation(tmp_path / "b", 9, change=change)
    [lost] = [each for each in compare(a, b).changed if each.b != each.a]
    assert (lost.id, lost.b) == ("sample_2", 0.0)


def test_other_data_are_refused(write_evaluation, tmp_path):
    a, b = write_evaluation(tmp_path / "a", 4), write_evaluation(tmp_path / "b", 4, data="d2")
    with pytest.raises(ValueError, match=r"compare = .*is of other data than .*Fix: evaluate both on the same data"):
        compare(a, b)


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_an_unfinished_one_is_refused(write_evaluation, tmp_path, order):
    write_evaluation(tmp_path / "a", 6)
    write_evaluation(tmp_path / "b", 4)
    with pytest.raises(ValueError, match=r"b'.*has no result for 2 samples of .*a, such as sample_4.*Fix: finish it"):
        compare(*(tmp_path / name for name in order))


def test_two_that_stopped_after_the_same_samples_are_refused(write_evaluation, tmp_path):
    a, b = (write_evaluation(tmp_path / name, 4, finished=False) for name in "ab")
    with pytest.raises(ValueError, match=r"a': is not finished: it has no summary.json beside its 4.*Fix: finish"):
        compare(a, b)


def test_two_that_went_on_beside_an_old_summary_are_refused(write_evaluation, tmp_path):
    a, b = (write_evaluation(tmp_path / name, 4, size=6) for name in "ab")
    with pytest.raises(ValueError, match=r"a': is not finished: it has 2 samples without a result beside its 4 resul"):
        compare(a, b)


@pytest.mark.parametrize("silent", ["a", "b"])
def test_an_answer_that_could_not_be_read_says_nothing_of_an_empty_target(write_evaluation, tmp_path, silent):
    def answered(iou):
        score = MaskScore(iou, 0, 0, 0, 0, 0)
        return lambda row: dataclasses.replace(
            row,
            target_area=0,
            target_instances=0,
            stages=tuple(dataclasses.replace(stage, score=score) for stage in row.stages),
        )

    a, b = (write_evaluation(tmp_path / name, 6, change=answered(float(name != silent))) for name in "ab")
    for each in compare(a, b).differences:
        assert {"a": each.a, "b": each.b} == {"a": 1.0, "b": 1.0} | {silent: 0.0}
        assert each.interval.low == each.interval.high == each.b - each.a


def test_ids_that_are_no_utf8_are_shown(write_evaluation, tmp_path):
    def change(row):
        return dataclasses.replace(row, id=os.fsdecode(b"caf\xe9") + row.id)

    a, b = (write_evaluation(tmp_path / name, 4, change=change, seed=seed) for seed, name in enumerate("ab"))
    text = printed(compare(a, b))
    assert "caf?sample_" in text
    text.encode()


def test_what_a_terminal_would_obey_is_shown(write_evaluation, tmp_path):
    def change(row):
        return dataclasses.replace(row, question=f"\x1b[2J{row.question}")

    a, b = (write_evaluation(tmp_path / name, 4, change=change, seed=seed) for seed, name in enumerate("ab"))
    assert "?[2J" in (text := printed(compare(a, b))) and "\x1b" not in text


def test_the_tables_show_figures_samples_and_settings(write_evaluation, tmp_path):
    a = write_evaluation(tmp_path / "a", 12, model="m1")
    b = write_evaluation(tmp_path / "b", 12, change=better, model="[red]m2")
    text = " ".join(printed(compare(a, b)).split())
    assert "all (12)" in text and "gIoU" in text and "[red]m2" in text and "paired bootstrap" in text
    assert text.count("sample_") == 3
