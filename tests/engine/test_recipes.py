"""Each recipe from training to answers: trained by the real engine, merged, evaluated through vLLM, asked by infer.

SocioReasoner goes this way in tests/end_to_end, supervised fine-tuning in test_supervised.py. Starting verl takes most
of the time, so that each start shows more than one thing.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from verl_socio.city import generate
from verl_socio.data import load_samples
from verl_socio.data.write import write_raw_sample
from verl_socio.geometry import mask_boxes
from verl_socio.recipes import Recipe
from verl_socio.rewards import TERMS
from verl_socio.train.merge import merge
from verl_socio.train.settings import shipped_recipe

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
# FSDP over two ranks with a vLLM each, LoRA with the base model as the reference.
TWO_REPLICAS_OF_AN_ADAPTER = (
    "trainer.n_gpus_per_node=2",
    "actor_rollout_ref.actor.use_kl_loss=true",
    "actor_rollout_ref.model.lora_rank=8",
    "actor_rollout_ref.model.lora_alpha=16",
    # An adapter starts at zero: at the others' rate, a step or two would be lost when it is rounded to bfloat16.
    "actor_rollout_ref.actor.optim.lr=1e-3",
)
STEPS = 20


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 questions to train on, 6 to be tested with."""
    folder = tmp_path_factory.mktemp("data") / "city"
    generate(folder, samples=20, seed=1)
    return folder


def cut(city: Path, recipe: Recipe, folder: Path) -> Path:
    """The city in a recipe's form: one place a question where it names one only, and where it may, one without any."""
    single = any(stage.grammar.single for stage in recipe.stages)
    for split in ("train", "val", "test"):
        for number, sample in enumerate(load_samples(str(city), split)):
            question, target_hw = sample.question, sample.target_mask()
            if recipe.no_target and number == 0:
                question, target_hw = "Zoo", np.zeros_like(target_hw)
            if not single or len(mask_boxes(target_hw)) == 1:
                images = sample.satellite.open(), sample.map.open()
                write_raw_sample(folder / split / sample.id, question, sample.level, *images, target_hw)
    return folder


def assert_paid(run: Any, rollouts: int) -> None:
    """vLLM and the actor agree in every step, and every rollout of the first was paid by the recipe's terms."""
    assert run.code == 0, run.output
    (stage,) = Recipe.from_config(OmegaConf.to_container(OmegaConf.load(run.folder / "config.yaml").recipe)).stages
    assert all(step[f"{stage.name}/agreement/pearson"] >= 0.9999 for number, step in run.steps.items() if number > 0)
    lines = (run.folder / "rollouts" / "step_1.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == rollouts
    for rollout in map(json.loads, lines):
        paid = {key.removeprefix("reward/"): value for key, value in rollout.items() if key.startswith("reward/")}
        assert set(paid) == {term.term for term in stage.reward.terms}
        assert all(TERMS[key].low <= value <= TERMS[key].high for key, value in paid.items())


@pytest.mark.parametrize(("name", "overrides"), [("vision_reasoner", ()), ("seg_zero", TWO_REPLICAS_OF_AN_ADAPTER)])
def test_a_recipe_trains_merges_evaluates_and_answers(
    name: str, overrides: tuple[str, ...], city: Path, tmp_path: Path, train: Callable[..., Any],
    moved: Callable[[Path], set[str]], put_to_use: Callable[..., Any],
) -> None:  # fmt: skip
    recipe = shipped_recipe(f"embedded/{name}")
    data = cut(city, recipe, tmp_path / "city")
    run = train(
        name, f"recipe=embedded/{name}", f"data.train_files={data}", "data.train_split=train", "data.val_split=val",
        "data.train_batch_size=4", "actor_rollout_ref.rollout.n=2", "data.max_response_length=96",
        "trainer.total_training_steps=2", *overrides,
    )  # fmt: skip
    assert_paid(run, rollouts=8)
    assert sorted(run.steps)[-1] == 2
    ranks = 2 if overrides else 1
    actor = run.folder / "checkpoints" / "global_step_2" / "actor"
    assert {path.name for path in actor.glob("model_world_size_*.pt")} == {
        f"model_world_size_{ranks}_rank_{rank}.pt" for rank in range(ranks)
    }
    merged = merge(run.folder)
    # vLLM takes adapters of the language model only.
    trained = {"language_model"} if overrides else {"language_model", "visual"}
    assert trained <= moved(merged)
    for row in put_to_use(merged, data):
        assert not recipe.stages[0].grammar.single or len(row.stages[0].prompts) <= 1


@pytest.mark.timeout(1200)
def test_think2seg_learns_and_answers(
    tmp_path: Path, train: Callable[..., Any], moved: Callable[[Path], set[str]], put_to_use: Callable[..., Any]
) -> None:
    """A short run raises the masks of questions that it was not trained on.

    Answers are drawn at a high temperature, in training and in validation: the start is bad, much can be gained. At
    1.5 the gain of so short a run is no larger than its error. Answers in form are rare then, so that an empty one must
    not be paid for its form: it would earn twice what most do, and the run could learn to name nothing.
    """
    recipe = shipped_recipe("embedded/think2seg")
    generate(tmp_path / "whole", samples=240, seed=5)
    data = cut(tmp_path / "whole", recipe, tmp_path / "city")
    run = train(
        "think2seg",
        "recipe=embedded/think2seg",
        "+recipe.stages.answer.reward.terms.answer_format.params.empty_is_right=false",
        f"data.train_files={data}",
        "data.train_split=train",
        "data.val_split=test",
        "data.val_max_samples=72",
        "data.train_batch_size=8",
        # A whole answer takes half of this; those that ramble on would be most of the work.
        "data.max_response_length=96",
        "actor_rollout_ref.rollout.n=8",
        "actor_rollout_ref.rollout.temperature=2.0",
        "actor_rollout_ref.rollout.val_kwargs.temperature=2.0",
        "actor_rollout_ref.rollout.val_kwargs.n=8",
        "actor_rollout_ref.actor.entropy_coeff=0",
        "actor_rollout_ref.actor.optim.lr=2e-4",
        "trainer.val_before_train=true",
        f"trainer.total_training_steps={STEPS}",
        f"trainer.test_freq={STEPS}",
    )
    assert_paid(run, rollouts=64)
    before, after = (run.steps[step]["val/answer/giou"] for step in (0, STEPS))
    assert run.steps[0]["val/episodes/count"] == 8 * 72
    curve = {step: (data.get("answer/giou"), data.get("answer/nothing_found")) for step, data in run.steps.items()}
    assert after > before, (before, after, curve)
    merged = merge(run.folder)
    assert {"language_model", "visual"} <= moved(merged), "words and images were trained"
    put_to_use(merged, data)
