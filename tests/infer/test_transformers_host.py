import asyncio
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from verl_socio.chat import ChatModel
from verl_socio.episode import Turn
from verl_socio.evaluate.vllm_host import Sampling
from verl_socio.infer.transformers_host import TransformersHost


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
        host = TransformersHost.load(folder, tiny_chat, Sampling(temperature), 24)
        answers.append(asyncio.run(host(turn())).text)
    assert answers[0] == answers[1]
