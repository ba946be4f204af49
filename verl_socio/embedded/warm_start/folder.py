"""From random weights to a model folder with a card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText, Qwen2_5_VLForConditionalGeneration

from verl_socio.chat import ChatModel
from verl_socio.embedded import qwen2_5_vl
from verl_socio.embedded.tokenizer import train_tokenizer
from verl_socio.embedded.warm_start.texts import corpus
from verl_socio.recipes import Recipe


def fresh(recipes: Sequence[Recipe], seed: int) -> tuple[Qwen2_5_VLForConditionalGeneration, ChatModel]:
    """A model with random weights and its processor, whose tokenizer knows the city's words.

    Args:
        recipes: Prompts and answer formats to learn the tokens of.
        seed: Seed of the weights; the global generator is not moved.
    """
    tokenizer = train_tokenizer(corpus(recipes))
    config = qwen2_5_vl.configuration(tokenizer)
    return qwen2_5_vl.random_model(tokenizer, seed), ChatModel(qwen2_5_vl.processor(tokenizer), config.model_type)


def save(model: Qwen2_5_VLForConditionalGeneration, chat: ChatModel, folder: Path) -> None:
    """Write a model folder with bfloat16 weights that loads as float32.

    Args:
        model: The trained model, float32.
        chat: Its processor.
        folder: Where to write; made where it is missing, files of an earlier call are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chat.processor.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    state = {name: tensor.detach().to(torch.bfloat16).contiguous() for name, tensor in model.state_dict().items()}
    # Into place in one step: a reader never sees half a file.
    partial = folder / "model.safetensors.partial"
    save_file(state, partial, metadata={"format": "pt"})
    partial.chmod(0o644)  # written for its owner alone otherwise
    partial.replace(folder / "model.safetensors")
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)  # dtype float32: what the weights become when they are loaded


def load(folder: Path) -> tuple[Qwen2_5_VLForConditionalGeneration, ChatModel]:
    """Read a model folder, float32, in evaluation mode."""
    model = AutoModelForImageTextToText.from_pretrained(folder)
    assert isinstance(model, Qwen2_5_VLForConditionalGeneration)
    return model.eval(), ChatModel.load(folder)
