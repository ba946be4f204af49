import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from verl_socio.evaluate.scores import Line
from verl_socio.study.figures import Figures
from verl_socio.study.plan import Study
from verl_socio.study.records import collect, read_baseline, read_metrics, read_result, training_codes, write_lines
from verl_socio.study.steps import Run, record_folder, runs_of
from verl_socio.train.run_folder import SETTINGS
from verl_socio.train.settings import ROOT
from verl_socio.train.starts import STARTS

LAST = {"start": 0, "other": 4, "trained": 4}


@pytest.fixture
def run(study: Study) -> Run:
    (run,) = runs_of(study, LAST, ["trained"], [0])
    return run


def write_metrics(run: Run, name: str, entries: list[tuple[int, dict]], tail: str = "") -> None:
    (run.folder / "metrics").mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"step": step, "data": data}) + "\n" for step, data in entries]
    (run.folder / "metrics" / name).write_text("".join(lines) + tail)


def test_an_evaluation_is_kept_with_each_samples_iou_in_order(
    study: Study, run: Run, write_evaluation: Callable[..., Path]
) -> None:
    ious = {"localise": [0.5, 0.25, 0.0], "refine": [1.0, 0.3333, 0.1]}
    write_evaluation(run.folder / "eval" / "test-step_4-test", ious, data="hash", failed=1)
    collect(study, [run])
    result = read_result(study, run, "test", 4)
    assert (result.rests_on, result.code, result.failures) == (("hash", "w"), "c", 1)
    assert result.center_box.giou == pytest.approx(0.1)
    assert [line.name for line in result.lines] == ["localise", "refine"]
    np.testing.assert_allclose(result.ious["localise"], [0.0, 0.25, 0.0])
    np.testing.assert_allclose(result.ious["refine"], [0.0, 0.333, 0.1], err_msg="the first sample failed")
    assert result.line("last").giou == pytest.approx((0.3333 + 0.1) / 3)
    assert result.line("first").giou == pytest.approx(0.25 / 3)
    assert result.giou_of_one_place("last") == pytest.approx((0.333 + 0.1) / 3)
    assert read_result(study, run, "test", 2) is None
    assert read_result(study, run, "sampled", 4) is None


def test_a_training_is_kept_with_the_code_that_made_it(study: Study, run: Run) -> None:
    assert training_codes(study, run) == set()
    run.folder.mkdir(parents=True)
    (run.folder / SETTINGS).write_text("{}")
    lines = [json.dumps({"command": [f"{ROOT}/x"], "identity": {"code": code}}) for code in ("a", "a", "b")]
    (run.folder / STARTS).write_text("".join(f"{line}\n" for line in lines))
    collect(study, [run])
    assert training_codes(study, run) == {"a", "b"}
    assert str(ROOT) not in (record_folder(study, run) / STARTS).read_text()
    figures = Figures(study, LAST)
    assert figures.training_codes() == (2, 0)
    (record_folder(study, figures.runs["other", 1])).mkdir(parents=True)
    (record_folder(study, figures.runs["other", 1]) / SETTINGS).write_text("{}")
    assert figures.training_codes() == (2, 1)


def test_the_questions_that_mean_one_place_have_a_figure_of_their_own(
    study: Study, run: Run, write_evaluation: Callable[..., Path]
) -> None:
    folder = run.folder / "eval" / "test-step_4-test"
    write_evaluation(folder, {"localise": [0.2, 0.9, 0.4], "refine": [0.3, 1.0, 0.5]}, places=[1, 2, 1])
    collect(study, [run])
    result = read_result(study, run, "test", 4)
    assert (result.giou_of_one_place("first"), result.giou_of_one_place("last")) == pytest.approx((0.3, 0.4))
    write_evaluation(run.folder / "eval" / "test-step_2-test", {"localise": [0.2]}, places=[3])
    collect(study, [run])
    assert read_result(study, run, "test", 2).giou_of_one_place("last") is None, "and not 0"


def test_what_is_not_finished_is_not_kept(study: Study, run: Run, write_evaluation: Callable[..., Path]) -> None:
    folder = write_evaluation(run.folder / "eval" / "test-step_4-test", {"localise": [0.5]})
    (folder / "summary.json").unlink()
    collect(study, [run])
    assert not study.results.exists()


def test_a_record_stays_when_the_run_is_gone(study: Study, run: Run, write_evaluation: Callable[..., Path]) -> None:
    folder = write_evaluation(run.folder / "eval" / "test-step_4-test", {"localise": [0.5]})
    collect(study, [run])
    before = {path: path.read_bytes() for path in study.results.rglob("*") if path.is_file()}
    (folder / "summary.json").unlink()
    collect(study, [run])
    assert before == {path: path.read_bytes() for path in study.results.rglob("*") if path.is_file()}
    assert [path.name for path in before] == ["test-step_4.json"], "and no draft is left"


def test_of_the_metrics_what_is_looked_at_is_kept_and_the_last_start_counts(study: Study, run: Run) -> None:
    first = {"localise/giou": 0.1, "timing_s/gen": 3.0, "localise/reward/box_count": 1 / 3, "perf/throughput": 1.0}
    write_metrics(run, "1.jsonl", [(0, {"val/localise/giou": 0.2}), (1, first), (2, {"localise/giou": 0.5})])
    write_metrics(run, "2.jsonl", [(2, {"localise/giou": 0.6}), (2, {"val/localise/giou": 0.7})], tail='{"step": 3')
    collect(study, [run])
    assert read_metrics(study, run) == [
        (0, {"val/localise/giou": 0.2}),
        (1, {"localise/giou": 0.1, "localise/reward/box_count": 0.333333}),
        (2, {"localise/giou": 0.6, "val/localise/giou": 0.7}),
    ]


def test_a_training_before_its_end_replaces_nothing_of_a_whole_record(
    study: Study, run: Run, write_checkpoint: Callable[[Path, int], None]
) -> None:
    def kept() -> tuple[str, list[int]]:
        collect(study, [run])
        return (record_folder(study, run) / "config.yaml").read_text(), [step for step, _ in read_metrics(study, run)]

    def train(settings: str, steps: range) -> None:
        write_metrics(run, "1.jsonl", [(step, {"localise/giou": 0.1}) for step in steps])
        (run.folder / "config.yaml").write_text(settings)

    train("old", range(1, 3))
    assert kept() == ("old", [1, 2]), "what there is of a first training"
    train("old", range(1, 5))
    assert kept() == ("old", [1, 2, 3, 4])
    train("new", range(1, 4))
    write_checkpoint(run.folder, 2)
    assert kept() == ("old", [1, 2, 3, 4])
    train("new", range(2, 5))
    assert kept() == ("old", [1, 2, 3, 4]), "its last checkpoint is not whole yet"
    write_checkpoint(run.folder, 4)
    assert kept() == ("new", [2, 3, 4])
    train("new", range(2, 4))
    assert kept() == ("new", [2, 3, 4]), "metrics were lost"


def test_a_torn_line_of_metrics_that_is_not_the_last_is_named(study: Study, run: Run) -> None:
    write_metrics(run, "1.jsonl", [], tail='{"step": 1}\n')
    with pytest.raises(ValueError, match=r"metrics = .*1\.jsonl.*line 1 does not.*Fix: "):
        collect(study, [run])


def test_the_settings_are_kept_without_the_place_of_the_clone(study: Study, run: Run) -> None:
    run.folder.mkdir(parents=True)
    (run.folder / "config.yaml").write_text(f"a: {ROOT}/outputs/x\nb: {ROOT.parent}\n")
    collect(study, [run])
    assert (record_folder(study, run) / "config.yaml").read_text() == f"a: outputs/x\nb: {ROOT.parent}\n"


def test_baselines_are_kept(study: Study) -> None:
    line = Line("all", "true boxes", 3, 0.1, 0.2, 0.3, None, 0)
    assert read_baseline(study, "true_boxes") == ()
    write_lines(study.runs / "baselines" / "true_boxes.json", [line])
    collect(study, [])
    assert read_baseline(study, "true_boxes") == (line,)


SOUND = {"failures": 0, "data": "d", "segmenter": "w", "code": "c", "iou": {"a": [1]}, "places": [1], "lines": [
    asdict(Line("all", name, 1, 0.1, 0.1, 0.1, None, 0)) for name in ("centre box", "a")
]}  # fmt: skip


def test_a_sound_record_is_read(study: Study, run: Run) -> None:
    record_folder(study, run).mkdir(parents=True)
    (record_folder(study, run) / "test-step_4.json").write_text(json.dumps(SOUND))
    assert read_result(study, run, "test", 4).line("last").name == "a"


TEXT = st.text(max_size=2)
CHANGED = st.none() | st.integers() | TEXT | st.lists(TEXT, max_size=3)
CHANGED |= st.dictionaries(TEXT, st.lists(st.integers() | TEXT, max_size=2), max_size=2)


@pytest.mark.parametrize("key", list(SOUND))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=CHANGED)
def test_a_record_that_was_changed_by_hand_is_read_or_refused(study: Study, run: Run, key: str, value: object) -> None:
    path = record_folder(study, run) / "test-step_4.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**SOUND, key: value}))
    try:
        result = read_result(study, run, "test", 4)
    except ValueError as error:
        assert "test-step_4.json" in str(error)
        assert "Fix: " in str(error)
    else:
        assert result.line("last")


@pytest.mark.parametrize("text", ["", "[]", "{", "\x00", "[" * 5000])
def test_a_record_that_is_none_is_refused(study: Study, run: Run, text: str) -> None:
    path = record_folder(study, run) / "test-step_4.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(ValueError, match=r"record = .*cannot be read.*Fix: "):
        read_result(study, run, "test", 4)
