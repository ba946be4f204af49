import asyncio
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from verl_socio.chat import ChatModel
from verl_socio.episode import Turn
from verl_socio.evaluate.vllm_host import Limits, Sampling
from verl_socio.infer.transformers_host import TransformersHost

LIMITS = Limits(max_prompt_length=200, max_response_length=24, images=1)


def turn() -> Turn:
    pixels = np.random.default_rng(5).integers(0, 255, (140, 140, 3), dtype=np.uint8)
    return Turn(0, (Image.fromarray(pixels),), "Where is the zoo?")


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_model_s_own_settings_change_no_answer(
    tiny_model: Path, tiny_chat: ChatModel, tmp_path: Path, temperature: float
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(tiny_model, changed)
    file = changed / "generation_config.json"
    # As Qwen ships them, but stronger.
    own = {"do_sample": True, "temperature": 0.1, "top_k": 1, "top_p": 0.001, "repetition_penalty": 5.0, "min_p": 0.9}
    file.write_text(json.dumps(json.loads(file.read_text()) | own))
    answers = []
    for folder in (tiny_model, changed):
        host = TransformersHost.load(folder, tiny_chat, Sampling(temperature), LIMITS)
        answers.append(asyncio.run(host(turn())).text)
    assert answers[0] == answers[1]


class Writes:
    """A model that writes the same tokens whatever it is asked."""

    device = "cpu"

    def __init__(self, tokens: list[int], ends: int | list[int]) -> None:
        self.tokens = tokens
        self.generation_config = SimpleNamespace(eos_token_id=ends)

    def generate(self, input_ids: torch.Tensor, **_: object) -> torch.Tensor:
        return torch.cat([input_ids, torch.tensor([self.tokens])], dim=1)


@pytest.mark.parametrize(
    ("tokens", "ends", "cut_off"),
    [
        ([5] * 24, 3, True),
        ([5] * 23, 3, False),
        ([5] * 23 + [3], 3, False),
        ([5] * 23 + [4], [3, 4], False),
    ],
)
def test_an_answer_that_ends_with_its_last_token_is_whole(
    tiny_chat: ChatModel, tokens: list[int], ends: int | list[int], cut_off: bool
) -> None:
    reply = asyncio.run(TransformersHost(Writes(tokens, ends), tiny_chat, Sampling(), LIMITS)(turn()))
    assert (reply.record.tokens, reply.record.cut_off) == (len(tokens), cut_off)


def test_a_prompt_that_is_too_long_is_refused_as_vllm_s_host_does(tiny_chat: ChatModel) -> None:
    length = len(tiny_chat.encode(turn()).prompt_ids)
    enough, short = (
        TransformersHost(Writes([5], 3), tiny_chat, Sampling(), replace(LIMITS, max_prompt_length=longest))
        for longest in (length, length - 1)
    )
    assert asyncio.run(enough(turn())).record.tokens == 1
    with pytest.raises(ValueError, match=rf"^max_prompt_length = {length - 1}: is too small.* {length} tokens.*Fix: "):
        asyncio.run(short(turn()))
