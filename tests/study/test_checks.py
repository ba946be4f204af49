import copy
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from verl_socio.study.checks import check_evaluations, settle
from verl_socio.study.plan import Study
from verl_socio.study.steps import record_folder, runs_of, steps_of
from verl_socio.train.prepare import prepare
from verl_socio.train.run_folder import SETTINGS, claim
from verl_socio.train.settings import resolve


def test_the_last_step_is_that_of_the_resolved_settings(
    plan_values: dict, read_plan: Callable[[object], Study]
) -> None:
    plan_values["variants"]["other"]["train"] = ["trainer.total_training_steps=6"]
    # Two checkpoints are written and two are kept: the one on the way is among them.
    plan_values["variants"]["trained"]["train"] = ["trainer.max_actor_ckpt_to_keep=2"]
    assert settle(read_plan(plan_values)).last_steps == {"start": 0, "other": 6, "trained": 4}


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
        settle(read_plan(plan_values))


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
        settle(read_plan(plan_values))


def test_an_evaluation_that_would_be_refused_is_named(plan_values: dict, read_plan: Callable[[object], Study]) -> None:
    check_evaluations(read_plan(plan_values))
    plan_values["evaluations"]["sampled"]["overrides"] = ["sampling.heat=1"]
    with pytest.raises(ValueError, match=r"variants\.start, evaluations\.sampled: settings = .*heat"):
        check_evaluations(read_plan(plan_values))


def test_a_run_or_a_record_with_other_settings_than_the_plans_is_refused(
    plan_values: dict, read_plan: Callable[[object], Study]
) -> None:
    del plan_values["variants"]["other"], plan_values["claims"]["second"]["also"]
    study = read_plan(plan_values)
    settled = settle(study)
    first, second = runs_of(study, settled.last_steps, ["trained"], ())
    settled.check_unchanged([first])
    # As the verb `train` leaves them, for the second seed.
    config = copy.deepcopy(settled.settings["trained"])
    config.run, config.data.seed, config.trainer.save_freq = "seed_1", 1, 1
    for folder in (second.folder, record_folder(study, second)):
        folder.mkdir(parents=True)
        (folder / SETTINGS).write_text(OmegaConf.to_yaml(config))
    settled.check_unchanged([first, second])
    config.actor_rollout_ref.actor.optim.lr = 0.5
    for folder in (record_folder(study, second), second.folder):
        before = (folder / SETTINGS).read_text()
        (folder / SETTINGS).write_text(OmegaConf.to_yaml(config))
        with pytest.raises(ValueError, match=r"trained seed 1 = .*1 differ; actor_rollout_ref\.actor\.optim\.lr was 0"):
            settled.check_unchanged([first, second])
        (folder / SETTINGS).write_text(before)


def test_the_settings_that_a_training_keeps_are_those_of_the_plan(
    plan_values: dict, read_plan: Callable[[object], Study], tmp_path: Path
) -> None:
    """Made by the verb itself up to the point where the engine would start."""
    del plan_values["variants"]["other"], plan_values["claims"]["second"]["also"]
    study = read_plan(plan_values)
    settled = settle(study)
    run = runs_of(study, settled.last_steps, ["trained"], [1])[0]
    train = next(step for step in steps_of(study, run) if step.name == "train")
    config = resolve(train.command[2], train.command[3:])
    prepare(config)
    with claim(config) as folder:
        assert folder == run.folder
    settled.check_unchanged([run])
