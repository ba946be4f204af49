"""Each recipe from training to answers: trained by the real engine, merged, evaluated through vLLM, asked by infer.

SocioReasoner goes this way in tests/end_to_end, supervised fine-tuning in test_supervised.py. Starting verl takes most
of the time, so that each start shows more than one thing.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from ray.cluster_utils import Cluster

from verl_socio.city import generate
from verl_socio.data import load_samples
from verl_socio.data.write import write_raw_sample
from verl_socio.geometry import mask_boxes
from verl_socio.recipes import Recipe
from verl_socio.rewards import TERMS
from verl_socio.train.merge import merge
from verl_socio.train.settings import shipped_recipe

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
STEPS = 20


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 questions to train on, 6 to be tested with."""
    folder = tmp_path_factory.mktemp("data") / "city"
    generate(folder, samples=20, seed=1)
    return folder


@pytest.fixture
def two_machines() -> Iterator[str]:
    """The address of a Ray cluster that is there already: two of Ray's nodes, with a pretended GPU each."""
    node = {"num_cpus": 8, "num_gpus": 1, "object_store_memory": 300_000_000}
    cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    try:
        cluster.add_node(**node)
        cluster.wait_for_nodes()
        yield cluster.address
    finally:
        cluster.shutdown()


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


def trained(name: str, city: Path, folder: Path, train: Callable[..., Any], *overrides: str) -> tuple[Any, Path]:
    """Two steps with a recipe: the run, and the city in the recipe's form."""
    data = cut(city, shipped_recipe(f"embedded/{name}"), folder)
    run = train(
        name, f"recipe=embedded/{name}", f"data.train_files={data}", "data.train_split=train", "data.val_split=val",
        "data.train_batch_size=4", "actor_rollout_ref.rollout.n=2", "data.max_response_length=96",
        "trainer.total_training_steps=2", *overrides,
    )  # fmt: skip
    assert_paid(run, rollouts=8)
    assert max(run.steps) == 2
    return run, data


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


def test_vision_reasoner_trains_and_answers(
    city: Path, tmp_path: Path, train: Callable[..., Any], moved: Callable[[Path], set[str]],
    put_to_use: Callable[..., Any],
) -> None:  # fmt: skip
    run, data = trained("vision_reasoner", city, tmp_path / "city", train)
    assert list((run.folder / "logs").glob("*/ray")), "a cluster of its own leaves its logs"
    merged = merge(run.folder)
    assert {"language_model", "visual"} <= moved(merged)
    put_to_use(merged, data)


def test_an_adapter_of_seg_zero_trains_on_two_machines_and_answers(
    city: Path, tmp_path: Path, train: Callable[..., Any], moved: Callable[[Path], set[str]],
    put_to_use: Callable[..., Any], two_machines: str, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """FSDP over a rank on each of two machines with a vLLM each, LoRA with the base model as the reference."""
    monkeypatch.setenv("RAY_ADDRESS", two_machines)
    run, data = trained(
        "seg_zero", city, tmp_path / "city", train,
        "trainer.nnodes=2",
        "actor_rollout_ref.actor.use_kl_loss=true",
        "actor_rollout_ref.model.lora_rank=8",
        "actor_rollout_ref.model.lora_alpha=16",
        # An adapter starts at zero: at the others' rate, a step or two would be lost when it is rounded to bfloat16.
        "actor_rollout_ref.actor.optim.lr=1e-3",
    )  # fmt: skip
    monkeypatch.delenv("RAY_ADDRESS")
    assert not list((run.folder / "logs").glob("*/ray")), "a cluster that was joined keeps its logs"
    actor = run.folder / "checkpoints" / "global_step_2" / "actor"
    assert {path.name for path in actor.glob("model_*.pt")} == {f"model_world_size_2_rank_{rank}.pt" for rank in (0, 1)}
    merged = merge(run.folder)
    # vLLM takes adapters of the language model only.
    assert "language_model" in moved(merged)
    assert all(len(row.stages[0].prompts) <= 1 for row in put_to_use(merged, data))


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
