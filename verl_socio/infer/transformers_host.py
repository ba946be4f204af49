"""The model behind an answer: transformers' own `generate` in this process, one question at a time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import torch

from verl_socio.chat import ChatModel
from verl_socio.episode import Reply, Turn
from verl_socio.evaluate.vllm_host import Limits, Sampling, Usage, check_length


class TransformersHost:
    """Answers turns. It is a `verl_socio.episode.Generate`.

    For a few images it is done before vLLM has started; for many vLLM is faster.

    Args:
        model: A loaded vision-language model, in evaluation mode.
        chat: Its processor.
        sampling: How answers are drawn.
        limits: Lengths of prompt and answer.
    """

    def __init__(self, model: Any, chat: ChatModel, sampling: Sampling, limits: Limits) -> None:
        self._model = model
        self._chat = chat
        self._sampling = sampling
        self._limits = limits

    @classmethod
    def load(cls, folder: Path, chat: ChatModel, sampling: Sampling, limits: Limits) -> TransformersHost:
        """Load a model's folder, on the GPU where there is one."""
        from transformers import AutoModelForImageTextToText, GenerationConfig
        from transformers.utils import logging

        logging.disable_progress_bar()
        gpu = torch.cuda.is_available()
        model = AutoModelForImageTextToText.from_pretrained(folder, dtype="auto" if gpu else torch.float32)
        # Of the model's own settings only tokens: a penalty, say, would change the answers of this host alone.
        own = model.generation_config
        model.generation_config = GenerationConfig(eos_token_id=own.eos_token_id, pad_token_id=own.pad_token_id)
        return cls(model.eval().to("cuda" if gpu else "cpu"), chat, sampling, limits)

    async def __call__(self, turn: Turn) -> Reply:
        """Answer one turn; the reply's record is a `Usage`.

        Raises:
            ValueError: The prompt is too long, or its placeholders and its images do not match.
        """
        return await asyncio.to_thread(self._answer, turn)

    def _answer(self, turn: Turn) -> Reply:
        encoded = self._chat.encode(turn)
        check_length(turn, encoded.prompt_ids, self._limits)
        device = self._model.device
        prompt = torch.tensor([encoded.prompt_ids], device=device)
        drawn: dict[str, Any] = {"do_sample": False}
        if self._sampling.temperature > 0:
            top_k = max(0, self._sampling.top_k)  # transformers' word for all is 0
            drawn = {"do_sample": True, "temperature": self._sampling.temperature, "top_p": self._sampling.top_p}
            drawn["top_k"] = top_k
            torch.manual_seed(self._sampling.seed)
        with torch.inference_mode():
            output = self._model.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=self._limits.max_response_length,
                **{name: value.to(device) for name, value in encoded.features.items()},
                **drawn,
            )
        token_ids = output[0, prompt.shape[1] :].tolist()
        cut_off = len(token_ids) == self._limits.max_response_length and token_ids[-1] not in self._ends()
        return Reply(self._chat.decode(token_ids), Usage(len(token_ids), cut_off))

    def _ends(self) -> list[int]:
        """The tokens that end an answer."""
        ends = self._model.generation_config.eos_token_id
        return ends if isinstance(ends, list) else [ends]
