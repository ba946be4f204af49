"""Each recipe from training to answers: trained by the real engine, merged, evaluated through vLLM, asked by infer.

SocioReasoner goes this way in tests/end_to_end, supervised fine-tuning in test_supervised.py. Starting verl takes most
of the time: one_stage, which has SocioReasoner's terms and the prompt of these, is trained in test_training.py alone.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from verl_socio.city import generate
from verl_socio.data import load_samples
from verl_socio.data.write import write_raw_sample
from verl_socio.geometry import mask_boxes
from verl_socio.recipes import Recipe
from verl_socio.rewards import TERMS
from verl_socio.train.merge import merge
from verl_socio.train.settings import shipped_recipe

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
QUESTIONS, ROLLOUTS = 4, 2


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


@pytest.mark.parametrize("name", ["seg_zero", "think2seg", "vision_reasoner"])
def test_a_recipe_trains_merges_evaluates_and_answers(
    name: str, city: Path, tmp_path: Path, train: Callable[..., Any], moved: Callable[[Path], set[str]],
    put_to_use: Callable[..., Any],
) -> None:  # fmt: skip
    recipe = shipped_recipe(f"embedded/{name}")
    data = cut(city, recipe, tmp_path / "city")
    run = train(
        name, f"recipe=embedded/{name}", f"data.train_files={data}", "data.train_split=train", "data.val_split=val",
        f"data.train_batch_size={QUESTIONS}", f"actor_rollout_ref.rollout.n={ROLLOUTS}", "data.max_response_length=96",
        "trainer.total_training_steps=1", "actor_rollout_ref.actor.optim.lr=2e-4",
    )  # fmt: skip
    assert run.code == 0, run.output
    (stage,) = recipe.stages
    assert run.steps[1][f"{stage.name}/agreement/pearson"] >= 0.9999
    lines = (run.folder / "rollouts" / "step_1.jsonl").read_text(encoding="utf-8").splitlines()
    rollouts = [json.loads(line) for line in lines]
    assert len(rollouts) == QUESTIONS * ROLLOUTS
    for rollout in rollouts:
        paid = {key.removeprefix("reward/"): value for key, value in rollout.items() if key.startswith("reward/")}
        assert set(paid) == {term.term for term in stage.reward.terms}
        assert all(TERMS[key].low <= value <= TERMS[key].high for key, value in paid.items())
    merged = merge(run.folder)
    assert {"language_model", "visual"} <= moved(merged), "words and images were trained"
    for row in put_to_use(merged, data):
        assert not stage.grammar.single or len(row.stages[0].prompts) <= 1
