"""The rows of supervised fine-tuning beside what the same episode gives reinforcement learning, token for token."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf, open_dict
from torch.utils.data import DataLoader
from verl.experimental.agent_loop.agent_loop import AgentLoopOutput, AgentLoopWorker
from verl.utils import hf_processor
from verl.utils.dataset.dataset_utils import SFTTensorCollator
from verl.workers.rollout.replica import TokenOutput

from verl_socio.chat import ChatModel
from verl_socio.data import load_samples
from verl_socio.engine.agent_loop import EpisodeAgentLoop, training_features
from verl_socio.engine.dataset import with_split
from verl_socio.engine.group import Group, Host, current_group
from verl_socio.engine.lessons import LessonDataset
from verl_socio.recipes import Recipe
from verl_socio.segment import SegmenterConfig, create
from verl_socio.train.settings import resolve

_Worker: Any = AgentLoopWorker.__ray_metadata__.modified_class if hasattr(
    AgentLoopWorker, "__ray_metadata__"
) else AgentLoopWorker  # fmt: skip


@pytest.fixture(scope="module")
def config(tiny_model: Path, tiny_data: Path) -> DictConfig:
    config = resolve("sft_embedded", [f"model.path={tiny_model}", f"data.train_files={tiny_data}", "run=r"])
    with open_dict(config.data):
        config.data.episode = {name: config[name] for name in ("recipe", "segmenter", "frame")}
    return config


@pytest.fixture(scope="module")
def processor(tiny_model: Path) -> Any:
    """As verl's trainer loads it."""
    return hf_processor(str(tiny_model))


def dataset_of(config: DictConfig, processor: Any, **changes: object) -> LessonDataset:
    data = OmegaConf.merge(config.data, changes)
    return LessonDataset(with_split(config.data.train_files, "train"), None, data, processor)


@pytest.fixture(scope="module")
def dataset(config: DictConfig, processor: Any) -> LessonDataset:
    return dataset_of(config, processor)


class Repeats:
    """An LLM server that writes what it is told to, and keeps what it was asked."""

    def __init__(self, answers: list[list[int]]) -> None:
        self.answers = answers
        self.asked: list[list[int]] = []

    async def generate(self, prompt_ids: list[int], **_: Any) -> TokenOutput:
        self.asked.append(prompt_ids)
        answer = self.answers[len(self.asked) - 1]
        return TokenOutput(token_ids=answer, log_probs=[0.0] * len(answer))


def rollout(config: DictConfig, model: Path, question: int, answers: list[list[int]]) -> tuple[Repeats, list[Any]]:
    """The same question in the agent loop that reinforcement learning trains with: prompts asked, outputs given."""
    sample = load_samples(config.data.train_files, "train")[question]
    recipe = Recipe.from_config(OmegaConf.to_container(config.recipe, resolve=True))
    loop, server = object.__new__(EpisodeAgentLoop), Repeats(answers)
    loop.rollout_config, loop.server_manager = SimpleNamespace(prompt_length=512, response_length=192), server
    loop.config = resolve("embedded", [])

    async def run() -> list[AgentLoopOutput]:
        segmenter = create(SegmenterConfig(**config.segmenter))
        current_group.set(Group(Host(recipe, ChatModel.load(model), segmenter), 1))
        return await loop.run({}, sample=sample.to_row())

    return server, asyncio.run(run())


def split(row: dict[str, Any]) -> tuple[list[int], list[int]]:
    learnt = row["loss_mask"].bool()
    return row["input_ids"][~learnt].tolist(), row["input_ids"][learnt].tolist()


def test_prompts_answers_and_images_are_those_of_the_episode_in_both_stages(
    config: DictConfig, dataset: LessonDataset, tiny_model: Path
) -> None:
    question = 3
    rows = [dataset[2 * question], dataset[2 * question + 1]]
    server, outputs = rollout(config, tiny_model, question, [split(row)[1] for row in rows])
    assert len(server.asked) == len(rows) == 2
    for row, asked, output in zip(rows, server.asked, outputs, strict=True):
        prompt, answer = split(row)
        assert prompt == asked == output.prompt_ids
        assert answer == output.response_ids
        features = training_features(output)
        assert row["multi_modal_inputs"].keys() == {"pixel_values", "image_grid_thw"}
        for name, value in row["multi_modal_inputs"].items():
            assert torch.equal(value, features[name]), name
    assert not torch.equal(rows[0]["multi_modal_inputs"]["pixel_values"], rows[1]["multi_modal_inputs"]["pixel_values"])


def test_the_answer_and_the_end_of_the_turn_are_learnt_and_nothing_else(dataset: LessonDataset, processor: Any) -> None:
    for index in range(4):
        row = dataset[index]
        prompt, answer = (processor.tokenizer.decode(ids) for ids in split(row))
        assert prompt.startswith("<|im_start|>system") and prompt.endswith("<|im_start|>assistant\n")
        assert "Zoo" in prompt and "<answer>" not in prompt
        points = "points" if index % 2 else "bbox_2d"
        assert (
            answer.startswith('<answer>[{"bbox_2d": [')
            and answer.endswith("}]</answer><|im_end|>")
            and points in answer
        )
        mask = row["loss_mask"].tolist()
        assert mask == sorted(mask), "the answer comes last and in one piece"


def test_positions_are_those_that_reinforcement_learning_gives_the_actor(
    dataset: LessonDataset, processor: Any
) -> None:
    row = dataset[1]
    worker = object.__new__(_Worker)
    worker.processor = processor
    features = {**row["multi_modal_inputs"], "mm_token_type_ids": torch.zeros(1, 1)}
    ids = row["input_ids"][None]
    theirs = worker._compute_position_ids(ids, torch.ones_like(ids), features)
    assert row["position_ids"].shape == (4, len(row["input_ids"]))
    assert torch.equal(row["position_ids"], theirs[0])
    assert row["position_ids"][1:].max() < row["position_ids"][0].max(), "an image is shorter than its tokens"


def test_verl_lays_rows_of_different_lengths_side_by_side(dataset: LessonDataset) -> None:
    rows = [dataset[0], dataset[1]]
    batch = SFTTensorCollator("no_padding")(rows)
    for name in ("input_ids", "loss_mask", "position_ids"):
        assert [torch.equal(row[name], laid) for row, laid in zip(rows, batch[name].unbind(), strict=True)] == [
            True,
            True,
        ]


def test_a_data_loaders_workers_give_the_same_rows(dataset: LessonDataset) -> None:
    here = [dataset[index]["input_ids"] for index in range(4)]  # with the segmenter that the workers must not inherit
    loader = DataLoader(dataset, batch_size=None, sampler=range(4), num_workers=2, timeout=60)
    assert [torch.equal(row["input_ids"], ids) for row, ids in zip(loader, here, strict=True)] == [True] * 4


def test_every_question_gives_a_row_a_stage(config: DictConfig, dataset: LessonDataset, processor: Any) -> None:
    assert len(dataset) == 16
    name = [with_split(config.data.train_files, "val"), with_split(config.data.train_files, "test")]
    assert len(LessonDataset(name, None, config.data, processor)) == 8
    assert len(LessonDataset(name, None, config.data, processor, max_samples=3)) == 6


@pytest.mark.parametrize("name", ["prompt", "response"])
def test_a_row_that_is_too_long_is_an_error_and_is_not_cut(config: DictConfig, processor: Any, name: str) -> None:
    short = dataset_of(config, processor, **{f"max_{name}_length": 10})
    with pytest.raises(
        ValueError, match=rf"data\.max_{name}_length = 10: is too small: stage localise of sample train_0"
    ):
        short[0]
