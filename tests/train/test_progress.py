import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from verl_socio.train.progress import MetricsFollower, summary

STAGES = ["localise", "refine"]


def of_stage(prefix: str, reward: float) -> dict[str, float]:
    return {
        f"{prefix}/reward": reward,
        f"{prefix}/giou": 0.25,
        f"{prefix}/ciou": 0.5,
        f"{prefix}/parse_failure": 0.125,
        f"{prefix}/nothing_found": 0.0625,
    }


def training(step: int) -> dict[str, float]:
    agreement = {"localise/agreement/pearson": 0.99999, "refine/agreement/pearson": 0.99875}
    return {**of_stage("localise", 2.5), **of_stage("refine", 1.5), **agreement, "timing_s/step": 30.0 + step}


def validation() -> dict[str, float]:
    return {**of_stage("val/localise", 3.0), **of_stage("val/refine", 2.0)}


def test_a_step_is_one_line_with_both_stages_and_the_lower_agreement() -> None:
    assert summary(7, training(7), STAGES) == [
        "step 7 | localise: reward 2.500 gIoU 0.250 cIoU 0.500 unparsed 12% empty 6% | "
        "refine: reward 1.500 gIoU 0.250 cIoU 0.500 unparsed 12% empty 6% | agreement 0.99875 | 37.0 s"
    ]


def test_fine_tuning_shows_its_loss() -> None:
    learnt = {"train/loss": 1.23456, "train/grad_norm": 2.5, "train/lr": 2e-4}
    line = "step 3 | loss 1.2346 | gradient 2.50 | learning rate 2.0e-04"
    assert summary(3, learnt, STAGES) == [line]
    assert summary(3, learnt | {"val/loss": 0.5}, STAGES) == [line, "validation after step 3 | loss 0.5000"]


def test_failed_episodes_are_told() -> None:
    (line,) = summary(1, {**training(1), "episodes/segmenter_failures": 3}, STAGES)
    assert line.endswith("| 31.0 s | 3 episodes left out")
    (line,) = summary(1, {**training(1), "episodes/segmenter_failures": 0}, STAGES)
    assert "left out" not in line


def test_episodes_that_failed_in_validation_are_told() -> None:
    (line,) = summary(0, validation() | {"val/episodes/segmenter_failures": 2}, STAGES)
    assert line.endswith(" | 2 episodes left out")


def test_a_validation_is_a_line_of_its_own() -> None:
    assert summary(0, validation(), STAGES) == [
        "validation after step 0 | localise: reward 3.000 gIoU 0.250 cIoU 0.500 unparsed 12% empty 6% | "
        "refine: reward 2.000 gIoU 0.250 cIoU 0.500 unparsed 12% empty 6%"
    ]
    both = summary(4, training(4) | validation(), STAGES)
    assert [line.split(" | ")[0] for line in both] == ["step 4", "validation after step 4"]


@pytest.mark.parametrize("prefix", ["", "val/"])
def test_a_stage_that_no_episode_reached_has_no_rows(prefix: str) -> None:
    data = {key: value for key, value in (training(2) | validation()).items() if not key.startswith(f"{prefix}refine")}
    lines = summary(2, data, STAGES)
    assert sum("refine: no rows" in line for line in lines) == 1


def test_other_entries_say_nothing() -> None:
    assert summary(1, {"timing_s/step": 3.0}, STAGES) == []


def follow(metrics: Path, *chunks: str) -> str:
    """What is shown of a file that grows by chunks while it is followed."""
    shown = io.StringIO()
    with MetricsFollower(metrics, 10, STAGES, Console(file=shown, width=200)):
        for chunk in chunks:
            with metrics.open("a", encoding="utf-8") as file:
                file.write(chunk)
    return shown.getvalue()


def entry(step: int, data: dict[str, float]) -> str:
    return json.dumps({"step": step, "data": data}) + "\n"


def test_every_whole_line_is_shown_once_in_order(tmp_path: Path) -> None:
    text = entry(0, validation()) + entry(1, training(1)) + entry(2, training(2))
    shown = follow(tmp_path / "m.jsonl", text[:50], text[50:333], text[333:])
    begun = [line.split(" | ")[0] for line in shown.splitlines() if " | " in line]
    assert begun == ["validation after step 0", "step 1", "step 2"]


def test_a_line_that_is_not_whole_yet_is_not_shown(tmp_path: Path) -> None:
    shown = follow(tmp_path / "m.jsonl", entry(1, training(1)), entry(2, training(2))[:-20])
    assert "step 1 |" in shown
    assert "step 2 |" not in shown


def test_a_run_that_never_wrote_metrics_ends_quietly(tmp_path: Path) -> None:
    assert " | " not in follow(tmp_path / "m.jsonl")


def test_an_error_in_the_run_comes_through(tmp_path: Path) -> None:
    metrics = tmp_path / "m.jsonl"
    shown = io.StringIO()
    with pytest.raises(RuntimeError, match="stopped"), MetricsFollower(metrics, None, STAGES, Console(file=shown)):
        metrics.write_text(entry(3, training(3)), encoding="utf-8")
        raise RuntimeError("stopped")
    assert "step 3 |" in shown.getvalue().replace("\n", " ")
