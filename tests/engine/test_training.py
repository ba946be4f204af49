"""FSDP over two ranks that share a vLLM, on a CPU: FSDP2 over gloo, vLLM, SAM2, Ray.

One rank is in tests/end_to_end, two ranks with a vLLM each in test_recipes.py.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_ranks_share_one_vllm_until_it_gets_no_more_weights(train: Callable[..., Any]) -> None:
    """Tensor-parallel size 2, KL to the reference, stage 2 from the group's best, a recipe of one's own: the docs'.

    vLLM and the actor have the same weights and see the same images in every stage, before and after an update. Then
    no weights are sent any more, which the same comparison has to find.
    """
    run = train(
        "tensor_parallel",
        f"recipe={ROOT / 'docs' / 'examples' / 'checked' / 'checked.yaml'}",
        "recipe.refine_from=best",
        "data.max_prompt_length=640",
        "trainer.n_gpus_per_node=2",
        "actor_rollout_ref.rollout.tensor_model_parallel_size=2",
        "actor_rollout_ref.actor.use_kl_loss=true",
        "trainer.total_training_steps=3",
        program=Path(__file__).with_name("train_without_updates.py"),
    )
    assert run.code == 1, run.output
    assert run.steps.keys() == {1, 2}
    for step in run.steps.values():
        for stage in ("localise", "refine", "check"):
            assert step[f"{stage}/agreement/pearson"] >= 0.9999
        assert 0 <= step["check/reward/area_match"] <= 1, "the recipe's own term was paid"
    # Stage 1 moved the policy away from the reference before stage 2 was learnt from.
    assert run.steps[1]["localise/actor/kl_loss"] == pytest.approx(0, abs=1e-6)
    assert run.steps[1]["refine/actor/kl_loss"] > 1e-6
    assert "log-probabilities correlate by" in run.output
