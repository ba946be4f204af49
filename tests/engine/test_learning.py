"""The engine learns: after a short run, questions that it was never trained on are answered better than before."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from verl_socio.city import generate

STEPS = 20


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_short_run_raises_the_masks_of_questions_it_was_not_trained_on(
    train: Callable[..., Any], tmp_path: Path
) -> None:
    """Answers are drawn at a high temperature, in training and in validation: the start is bad, much can be gained.

    Each of 72 questions is asked six times before and six times after.
    """
    generate(tmp_path / "city", samples=240, seed=5)
    run = train(
        "learning",
        f"data.train_files={tmp_path / 'city'}",
        "data.train_split=train",
        "data.val_split=test",
        "data.val_max_samples=72",
        "data.train_batch_size=8",
        # A whole answer takes half of this; hot answers that ramble on would be most of the work.
        "data.max_response_length=96",
        "actor_rollout_ref.rollout.n=8",
        "actor_rollout_ref.rollout.temperature=1.5",
        "actor_rollout_ref.rollout.val_kwargs.temperature=1.5",
        "actor_rollout_ref.rollout.val_kwargs.n=6",
        "actor_rollout_ref.actor.entropy_coeff=0",
        "actor_rollout_ref.actor.optim.lr=1e-4",
        f"trainer.total_training_steps={STEPS}",
        "trainer.val_before_train=true",
        f"trainer.test_freq={STEPS}",
    )
    assert run.code == 0, run.output
    before, after = (run.steps[step]["val/refine/giou"] for step in (0, STEPS))
    assert run.steps[0]["val/episodes/count"] == 6 * 72
    assert after > before, (before, after)
