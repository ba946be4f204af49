"""Takes the images' placeholders out of the model's answers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional
from transformers import Qwen2_5_VLForConditionalGeneration

from verl_socio.chat import ChatModel
from verl_socio.embedded.tokenizer import END_OF_TEXT, SPECIAL_TOKENS, TURN_END

# Logits at least so far below the log-sum-exp of all others: a probability below 1e-8 each. That holds where it was
# fitted only: drawn answers come to other states, some of which are less sure.
_MARGIN = 20.0
_STEPS = 300
_RATE = 0.05


def placeholders(chat: ChatModel) -> list[int]:
    """Ids of the tokens that stand for images and videos: a server never samples them."""
    words = [word for word in SPECIAL_TOKENS if word not in (END_OF_TEXT, "<|im_start|>", TURN_END)]
    return [int(index) for index in chat.tokenizer.convert_tokens_to_ids(words)]


def silence(model: Qwen2_5_VLForConditionalGeneration, states: torch.Tensor, tokens: Sequence[int]) -> None:
    """Lower the logits of some tokens, and change nothing else, by fitting their rows of the output layer.

    Args:
        model: The model; its output layer is changed in place.
        states: (N, width) last hidden states where answers are written.
        tokens: Ids of the tokens.
    """
    weight = model.lm_head.weight
    others = torch.ones(len(weight), dtype=torch.bool)
    others[list(tokens)] = False
    with torch.no_grad():
        ceiling = (states @ weight[others].T).logsumexp(dim=-1, keepdim=True) - _MARGIN
    rows = weight[list(tokens)].detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([rows], lr=_RATE)
    for _ in range(_STEPS):
        optimizer.zero_grad()
        functional.relu(states @ rows.T - ceiling).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        weight[list(tokens)] = rows
