"""The picture of a stage-2 prompt changes what the actor makes of an answer: it is really seen."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from verl_socio.chat import ChatModel
from verl_socio.data import load_samples
from verl_socio.episode import Turn
from verl_socio.render import FeedbackStyle, draw_feedback

FIGURE = Path(__file__).parents[1] / "fixtures" / "socioseg_figure"
ANSWER = '<think>a park</think><answer>[{"bbox_2d": [20, 30, 90, 120]}]</answer>'


def log_prob(chat: ChatModel, model: torch.nn.Module, turn: Turn) -> float:
    """Sum of the answer's log-probabilities after a turn, in nats."""
    encoded = chat.encode(turn)
    answer = chat.tokenizer(ANSWER)["input_ids"]
    ids = torch.tensor([encoded.prompt_ids + answer])
    features = {name: value for name, value in encoded.features.items() if name != "mm_token_type_ids"}
    types = torch.zeros_like(ids)
    types[ids == model.config.image_token_id] = 1
    with torch.no_grad():
        logits = model(input_ids=ids, mm_token_type_ids=types, **features).logits[0, -len(answer) - 1 : -1]
    chosen = logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None])
    return float(chosen.sum())


def test_another_rendered_box_changes_the_log_probs(tiny_model: Path, tiny_chat: ChatModel) -> None:
    from verl_socio.torchvision_cpu import make_importable

    make_importable()
    import transformers

    model = transformers.AutoModelForImageTextToText.from_pretrained(tiny_model, dtype=torch.float32).eval()
    sample = load_samples(str(FIGURE), "test")[0]
    images = [reference.open() for reference in (sample.map, sample.satellite) if reference is not None]

    def shown(box: tuple[int, int, int, int]) -> tuple[Image.Image, ...]:
        mask_hw = np.zeros(images[0].size[::-1], dtype=bool)
        mask_hw[box[1] : box[3], box[0] : box[2]] = True
        return tuple(draw_feedback(image, np.array([box], dtype=float), mask_hw, FeedbackStyle()) for image in images)

    turn = Turn(1, shown((20, 30, 90, 120)), "Which places belong to: park?")
    other = replace(turn, images=shown((150, 140, 220, 230)))
    same = log_prob(tiny_chat, model, turn)
    assert log_prob(tiny_chat, model, turn) == pytest.approx(same, abs=1e-5)
    assert abs(log_prob(tiny_chat, model, other) - same) > 1e-2
