from collections.abc import Callable

import pytest

from verl_socio.study.checks import check_evaluations, last_steps
from verl_socio.study.plan import Study


def test_the_last_step_is_that_of_the_resolved_settings(
    plan_values: dict, read_plan: Callable[[object], Study]
) -> None:
    plan_values["variants"]["other"]["train"] = ["trainer.total_training_steps=6"]
    # Two checkpoints are written and two are kept: the one on the way is among them.
    plan_values["variants"]["trained"]["train"] = ["trainer.max_actor_ckpt_to_keep=2"]
    assert last_steps(read_plan(plan_values)) == {"start": 0, "other": 6, "trained": 4}


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (["data.no_such=1"], r"variants\.other: settings = .*data\.no_such.*Fix: "),
        (["recipe.stages.refine.points=0"], r"variants\.other: recipe\.stages\.refine\.points = 0: must be 1 or more"),
        (["trainer.total_training_steps=null"], r"total_training_steps = None: must be set"),
    ],
)
def test_a_training_that_would_be_refused_is_named(
    plan_values: dict, read_plan: Callable[[object], Study], train: list[str], message: str
) -> None:
    plan_values["variants"]["other"]["train"] = train
    with pytest.raises(ValueError, match=message):
        last_steps(read_plan(plan_values))


@pytest.mark.parametrize(
    ("train", "also_at", "message"),
    [
        ([], [3], r"also_at = 3: must be a multiple of trainer\.save_freq = 2 below the last step, 4"),
        (["trainer.max_actor_ckpt_to_keep=1"], [2], r"also_at = 2: is removed again before the end"),
    ],
)
def test_a_checkpoint_that_will_not_be_there_is_not_waited_for(
    plan_values: dict, read_plan: Callable[[object], Study], train: list[str], also_at: list[int], message: str
) -> None:
    plan_values["variants"]["other"] |= {"train": train, "also_at": also_at}
    with pytest.raises(ValueError, match=message + ".*Fix: "):
        last_steps(read_plan(plan_values))


def test_an_evaluation_that_would_be_refused_is_named(plan_values: dict, read_plan: Callable[[object], Study]) -> None:
    check_evaluations(read_plan(plan_values))
    plan_values["evaluations"]["sampled"]["overrides"] = ["sampling.heat=1"]
    with pytest.raises(ValueError, match=r"variants\.start, evaluations\.sampled: settings = .*heat"):
        check_evaluations(read_plan(plan_values))
