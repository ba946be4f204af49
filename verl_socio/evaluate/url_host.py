"""The model behind an episode: any server that speaks OpenAI's chat protocol, by its URL."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
from typing import Any

import openai
from openai.types.chat import ChatCompletion
from PIL import Image

from verl_socio.chat import ChatModel
from verl_socio.episode import Reply, Turn
from verl_socio.errors import invalid
from verl_socio.evaluate.vllm_host import Limits, Sampling, Usage, seed_of

# A question waits behind others on the server; a server that is gone is noticed at once.
_TIMEOUT_S = 1800.0
_RETRIES = 3
# The question is at fault, not the server.
_REFUSED = (openai.BadRequestError, openai.UnprocessableEntityError)
_TOO_LARGE = 413


class UrlHost:
    """Answers turns through a server. It is a `verl_socio.episode.Generate`.

    The server writes the prompt by its own chat template: images first, then text, in one user message.

    Args:
        client: The connection.
        model: The server's name of the model.
        chat: The processor of the same model, for the frame of its coordinates.
        sampling: How answers are drawn.
        limits: Length of an answer.
    """

    def __init__(
        self, client: openai.AsyncOpenAI, model: str, chat: ChatModel, sampling: Sampling, limits: Limits
    ) -> None:
        self._client = client
        self._model = model
        self.chat = chat
        self._sampling = sampling
        self._limits = limits

    @classmethod
    async def connect(cls, url: str, model: str | None, chat: ChatModel, sampling: Sampling, limits: Limits) -> UrlHost:
        """Look whether the server is there and has the model.

        Args:
            url: Its address, such as `http://localhost:8000/v1`. The environment's OPENAI_API_KEY is sent to it.
            model: Its name of the model; None for the first that it lists.
            chat: The processor of the same model.
            sampling: How answers are drawn.
            limits: Length of an answer.

        Raises:
            ValueError: The server does not have the model.
            RuntimeError: The server does not answer, or not as such a server does.
        """
        client = _client(url)
        try:
            return cls(client, await _name(client, url, model), chat, sampling, limits)
        except (ValueError, RuntimeError):
            await client.close()
            raise

    def answering(self, chat: ChatModel, sampling: Sampling, limits: Limits) -> UrlHost:
        """The same server, asked in another way; arguments as for the class."""
        return UrlHost(self._client, self._model, chat, sampling, limits)

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()

    async def __call__(self, turn: Turn) -> Reply:
        """Answer one turn.

        Args:
            turn: What the model is shown.

        Returns:
            Its text, with a `Usage` as the record.

        Raises:
            ValueError: The server refuses this question, or answers it without a text.
            RuntimeError: The server is gone, or does not answer as such a server does.
        """
        self.chat.check_words(turn.text)
        content = await asyncio.to_thread(_content, turn)
        try:
            answer = await self._client.chat.completions.create(
                model=self._model,
                messages=[{"role": "user", "content": content}],
                max_tokens=self._limits.max_response_length,
                **self._drawn(turn),
            )
        except openai.APIStatusError as error:
            if isinstance(error, _REFUSED) or error.status_code == _TOO_LARGE:
                rule = f"refused a question of stage {turn.stage + 1} ({error.message})"
                fix = "shorten the prompt or show smaller images, or raise the server's limits"
                raise invalid("host", str(self._client.base_url), rule, fix) from error
            raise _gone(self._client, error) from error
        except (openai.OpenAIError, json.JSONDecodeError) as error:
            raise _gone(self._client, error) from error
        if not isinstance(answer, ChatCompletion) or not answer.choices:
            raise _gone(self._client, TypeError("its answer is no chat completion"))
        return _reply(answer, str(self._client.base_url))

    def _drawn(self, turn: Turn) -> dict[str, Any]:
        sampling = self._sampling
        # Not OpenAI's own. For what is not sent vLLM's server takes the model's generation_config.json.
        more = {"top_k": sampling.top_k, "min_p": 0.0, "repetition_penalty": 1.0}
        settings: dict[str, Any] = {"temperature": sampling.temperature, "top_p": sampling.top_p, "extra_body": more}
        if sampling.temperature > 0:
            settings["seed"] = seed_of(sampling, turn)
        return settings


async def served_name(url: str) -> str:
    """The model that a server answers with where none is named: the first that it lists.

    Raises:
        ValueError: It lists none.
        RuntimeError: The server does not answer, or not as such a server does.
    """
    async with _client(url) as client:
        return await _name(client, url, None)


def _client(url: str) -> openai.AsyncOpenAI:
    key = os.environ.get("OPENAI_API_KEY", "none")
    return openai.AsyncOpenAI(base_url=url, api_key=key, timeout=_TIMEOUT_S, max_retries=_RETRIES)


async def _name(client: openai.AsyncOpenAI, url: str, model: str | None) -> str:
    """The server's name of the model, which it must have; None for the first that it lists."""
    try:
        names = [str(each.id) for each in (await client.models.list()).data]
    except (openai.OpenAIError, json.JSONDecodeError, AttributeError, TypeError) as error:
        raise _gone(client, error) from error
    if not names or model not in (None, *names):
        rule = f"is not served by {url}, which has {', '.join(names) or 'no model'}"
        raise invalid("served_model", model, rule, "use one of them, or null for the first")
    return model or names[0]


def _content(turn: Turn) -> list[Any]:
    images = ({"type": "image_url", "image_url": {"url": _data_url(image)}} for image in turn.images)
    return [*images, {"type": "text", "text": turn.text}]


def _data_url(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _reply(answer: ChatCompletion, url: str) -> Reply:
    choice = answer.choices[0]
    if choice.message.content is None:
        rule = f"answered without a text (finish_reason {choice.finish_reason})"
        raise invalid("host", url, rule, "raise max_response_length, or ask another model")
    tokens = answer.usage.completion_tokens if answer.usage is not None else None
    return Reply(choice.message.content, Usage(tokens, choice.finish_reason == "length"))


def _gone(client: openai.AsyncOpenAI, error: Exception) -> RuntimeError:
    cause = error.__cause__ or error
    told = f"{type(error).__name__}: {error}" + (f" ({cause})" if cause is not error else "")
    return RuntimeError(
        f"host = {str(client.base_url)!r}: the server does not answer as it should ({told}). "
        "Finished samples are kept. Fix: start the server again or correct its address; the same command goes on."
    )
