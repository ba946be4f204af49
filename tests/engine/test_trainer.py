"""What the trainer does about rollouts that failed, without the workers, models and data that it starts."""

from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from verl_socio.engine.report import Report
from verl_socio.engine.trainer import EpisodeTrainer


def told(report: Report, allowed: float = 0.1) -> dict[str, Any]:
    """The step's metrics, after its workers have given this report."""
    trainer, metrics = object.__new__(EpisodeTrainer), {}
    trainer.config = OmegaConf.create({"trainer": {"max_segmenter_failures": allowed}})
    trainer.agent_loop_manager = SimpleNamespace(take_report=lambda: report)
    trainer.global_steps = 7
    trainer._check_rollouts(metrics)
    return metrics


def test_failures_of_the_segmenter_are_counted() -> None:
    assert told(Report(20, ["gone"] * 2)) == {"episodes/count": 20, "episodes/segmenter_failures": 2}
    assert told(Report(20)) == {"episodes/count": 20, "episodes/segmenter_failures": 0}
    assert told(Report(20, ["gone"] * 19), allowed=1.0)["episodes/segmenter_failures"] == 19


@pytest.mark.parametrize(("failures", "allowed"), [(3, 0.1), (1, 0.0), (20, 1.0)])
def test_too_many_of_them_end_the_run(failures: int, allowed: float) -> None:
    message = rf"segmenter failed in {failures} of 20 episodes of step 7, .*max_segmenter_failures = .*: out of memory"
    with pytest.raises(RuntimeError, match=message):
        told(Report(20, ["out of memory"] * failures), allowed)


def test_any_other_error_ends_it_at_once() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)1 rollouts of step 7 failed; the first:\nTraceback: server gone"):
        told(Report(20, ["gone"], ["Traceback: server gone"]))
