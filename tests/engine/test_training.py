"""The real engine on a CPU: FSDP2 over gloo, vLLM, SAM2, Ray. What a run with one rank shows is in tests/end_to_end."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
STAGES = ("localise", "refine")
ROOT = Path(__file__).parents[2]


def assert_agrees(run: Any, steps: int, stages: Sequence[str] = STAGES) -> None:
    """vLLM and the actor have the same weights and see the same images, at every step and in every stage."""
    assert run.code == 0, run.output
    assert sorted(run.steps)[-1] == steps
    for step in range(1, steps + 1):
        for stage in stages:
            assert run.steps[step][f"{stage}/agreement/pearson"] >= 0.9999


def test_two_ranks_share_one_vllm_beside_a_reference_model(train: Callable[..., Any]) -> None:
    """FSDP over two ranks, tensor-parallel size 2, KL to the reference, stage 2 from the group's best."""
    run = train(
        "tensor_parallel",
        "trainer.n_gpus_per_node=2",
        "actor_rollout_ref.rollout.tensor_model_parallel_size=2",
        "actor_rollout_ref.actor.use_kl_loss=true",
        "recipe.refine_from=best",
    )
    assert_agrees(run, steps=2)
    # Stage 1 moved the policy away from the reference before stage 2 was learnt from.
    assert run.steps[1]["localise/actor/kl_loss"] == pytest.approx(0, abs=1e-6)
    assert run.steps[1]["refine/actor/kl_loss"] > 1e-6


def test_two_replicas_train_an_adapter_with_a_recipe_of_ones_own(train: Callable[..., Any]) -> None:
    """FSDP over two ranks, a vLLM each, LoRA with the base model as reference; the three looks of the docs' example."""
    run = train(
        "adapter",
        f"recipe={ROOT / 'docs' / 'examples' / 'checked' / 'checked.yaml'}",
        "data.max_prompt_length=640",
        "trainer.n_gpus_per_node=2",
        "actor_rollout_ref.actor.use_kl_loss=true",
        "actor_rollout_ref.model.lora_rank=8",
        "actor_rollout_ref.model.lora_alpha=16",
    )
    assert_agrees(run, steps=2, stages=(*STAGES, "check"))
    assert all(0 <= run.steps[step]["check/reward/area_match"] <= 1 for step in (1, 2)), "its own term was paid"
    actor = run.folder / "checkpoints" / "global_step_2" / "actor"
    assert {path.name for path in actor.glob("model_world_size_*.pt")} == {
        "model_world_size_2_rank_0.pt",
        "model_world_size_2_rank_1.pt",
    }


def test_a_run_without_weight_updates_is_stopped(train: Callable[..., Any]) -> None:
    """The comparison of log-probs finds that vLLM still has the old weights."""
    run = train("stale", "recipe=embedded/one_stage", program=Path(__file__).with_name("train_without_updates.py"))
    assert run.code == 1, run.output
    assert "log-probabilities correlate by" in run.output
    assert run.steps.keys() == {1}
