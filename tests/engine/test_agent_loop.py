"""The pictures that an episode hands on, in the precision that the actor reads."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from transfer_queue.utils import serial_utils
from verl.workers.rollout.replica import TokenOutput

from verl_socio.chat import ChatModel
from verl_socio.engine.agent_loop import EpisodeAgentLoop, as_the_actor_reads
from verl_socio.engine.group import Group, Host
from verl_socio.episode import Turn
from verl_socio.recipes import Recipe
from verl_socio.train.settings import resolve, shipped_recipe

PRECISION = "actor_rollout_ref.actor.fsdp_config.mixed_precision"


@pytest.fixture
def turn() -> Turn:
    noise = Image.effect_noise((64, 48), 80).convert("RGB")
    return Turn(0, (noise, noise.rotate(180)), "school")


@pytest.mark.parametrize(
    ("name", "overrides", "dtype"),
    [
        ("embedded", [], torch.float32),
        ("embedded", [f"{PRECISION}.param_dtype=bf16"], torch.bfloat16),
        ("embedded", [f"{PRECISION}=null"], torch.bfloat16),
        ("qwen2_5_vl_3b_socioseg", ["trainer.n_gpus_per_node=1"], torch.bfloat16),
    ],
)
def test_patches_have_the_precision_of_the_actors_inputs(
    tiny_chat: ChatModel, turn: Turn, name: str, overrides: list[str], dtype: torch.dtype
) -> None:
    encoded = tiny_chat.encode(turn)
    found = as_the_actor_reads(encoded, resolve(name, overrides))
    assert found.features["pixel_values"].dtype == dtype
    assert torch.equal(found.features["pixel_values"], encoded.features["pixel_values"].to(dtype))
    assert found.prompt_ids is encoded.prompt_ids and found.features.keys() == encoded.features.keys()
    assert found.features["image_grid_thw"] is encoded.features["image_grid_thw"]


@pytest.mark.parametrize("stage", [0, 1])
def test_an_episode_keeps_them_so_in_every_stage(tiny_chat: ChatModel, turn: Turn, stage: int) -> None:
    async def generate(**_: Any) -> TokenOutput:
        return TokenOutput(token_ids=tiny_chat.answer_ids("[]"), log_probs=None)

    loop = object.__new__(EpisodeAgentLoop)
    loop.config = resolve("embedded", [f"{PRECISION}.param_dtype=bf16"])
    loop.rollout_config, loop.server_manager = SimpleNamespace(prompt_length=512), SimpleNamespace(generate=generate)
    recipe: Recipe = shipped_recipe("socioreasoner")

    async def reply() -> Any:
        return await loop._generate(Group(Host(recipe, tiny_chat, None), 1), Turn(stage, turn.images, turn.text), {})

    assert asyncio.run(reply()).record.encoded.features["pixel_values"].dtype == torch.bfloat16


def test_in_bfloat16_the_model_sees_the_same_pictures(tiny_chat: ChatModel, tiny_model: Any, turn: Turn) -> None:
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(tiny_model, dtype=torch.bfloat16)
    encoded = tiny_chat.encode(turn)
    cast = as_the_actor_reads(encoded, resolve("embedded", [f"{PRECISION}.param_dtype=bf16"]))
    ids = torch.tensor([encoded.prompt_ids])
    with torch.no_grad():
        logits = [model(input_ids=ids, **each.features).logits for each in (encoded, cast)]
    assert torch.equal(*logits)


def test_they_come_through_the_transfer_queue(tiny_chat: ChatModel, turn: Turn) -> None:
    config = resolve("embedded", [f"{PRECISION}.param_dtype=bf16"])
    features = as_the_actor_reads(tiny_chat.encode(turn), config).features
    received = serial_utils.decode(serial_utils.encode(features))
    assert received["pixel_values"].dtype == torch.bfloat16
    assert torch.equal(received["pixel_values"], features["pixel_values"])
