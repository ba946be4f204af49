"""The model behind an episode: vLLM in this process's own engine, many questions at once."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch

from verl_socio.chat import ChatModel
from verl_socio.engine import cpu
from verl_socio.episode import Reply, Turn
from verl_socio.errors import invalid

# As many as NumPy takes, which vLLM seeds too.
SEEDS = 2**32


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn.

    Attributes:
        temperature: 0 is greedy; at most 2.
        top_p: Share of the probability that is drawn from, above 0 and at most 1.
        top_k: Tokens that are drawn from; -1 for all.
        seed: Of the draw, a whole number below 2**32. On a GPU each prompt has its own stream, so results do not depend
            on what runs beside it. A CPU draws all from one: vLLM dies of such streams there ("CPU Generator does not
            use offset").
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = -1
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges: vLLM would refuse the first prompt, long after it started.

        Raises:
            ValueError: A value is none, or lies outside.
        """
        _check("temperature", self.temperature, (int, float), lambda value: 0 <= value <= 2, "a number in 0..2")
        _check("top_p", self.top_p, (int, float), lambda value: 0 < value <= 1, "a number above 0 and at most 1")
        _check("top_k", self.top_k, (int,), lambda value: value == -1 or value >= 1, "a whole number from 1 on, or -1")
        _check("seed", self.seed, (int,), lambda value: 0 <= value < SEEDS, "a whole number in 0..2**32-1")


def _check(name: str, value: Any, kinds: tuple[type, ...], holds: Callable[[Any], bool], rule: str) -> None:
    # Python takes True for 1.
    if isinstance(value, bool) or not isinstance(value, kinds) or not holds(value):
        raise invalid(f"sampling.{name}", value, f"must be {rule}", f"use {getattr(Sampling, name)}")


@dataclass(frozen=True)
class Limits:
    """How much the engine takes.

    Attributes:
        max_prompt_length: Tokens of a prompt, its images' included.
        max_response_length: Tokens of an answer.
        images: Images in a prompt.
        dtype: "auto" (the model's own on a GPU, float32 without one) or a torch type's name.
        tensor_parallel_size: GPUs that share the model.
        gpu_memory_utilization: Share of the GPU's memory that vLLM may use.
        max_num_seqs: Answers written at once.
    """

    max_prompt_length: int
    max_response_length: int
    images: int
    dtype: str = "auto"
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float = 0.7
    max_num_seqs: int = 64


@dataclass(frozen=True)
class Usage:
    """What a reply cost: its `record`.

    Attributes:
        tokens: Tokens that the model wrote; None where a server does not say.
        cut_off: Whether it ended at `max_response_length`.
    """

    tokens: int | None
    cut_off: bool


def prepare_environment() -> None:
    """Set what vLLM reads from the environment; call it before the first import of vLLM.

    Raises:
        ValueError: vLLM is the build for GPUs and there is none.
    """
    # A forked engine would inherit torch's threads, and CUDA where it was looked for, in an unusable state.
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    if torch.cuda.is_available():
        return
    if not cpu.is_cpu_build():
        rule = "must be there: .venv was made for GPUs, but this process sees none"
        raise invalid("GPU", None, rule, "make one visible, or: VERL_SOCIO_DEVICE=cpu bash training_scripts/setup.sh")
    cpu.prepare_environment()


@contextmanager
def _shared_cores() -> Iterator[None]:
    """Without a GPU, give half of the cores to an engine that starts meanwhile and keep the others for the segmenter.

    Both would take them all, and threads of one pool that wait for one another on a core which the other pool holds
    cost more than they compute: twice the CPU time on two cores. A user's OMP_NUM_THREADS stays.
    """
    if torch.cuda.is_available() or "OMP_NUM_THREADS" in os.environ:
        yield
        return
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(max(1, cores // 2))
    os.environ["OMP_NUM_THREADS"] = str(cores - cores // 2)  # read by the engine's process as it starts
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]


@contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """Send what this process writes to a file; processes started meanwhile keep writing there."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    try:
        with log.open("ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, descriptor in enumerate(kept, start=1):
            os.dup2(descriptor, number)
            os.close(descriptor)


class VllmHost:
    """Answers turns through vLLM. It is a `verl_socio.episode.Generate`.

    Args:
        engine: A running `vllm.v1.engine.async_llm.AsyncLLM`.
        chat: The model's processor.
        sampling: How answers are drawn.
        limits: Lengths of prompt and answer.
        log: The file with what vLLM writes.
    """

    def __init__(self, engine: Any, chat: ChatModel, sampling: Sampling, limits: Limits, log: Path) -> None:
        self._engine = engine
        self.chat = chat
        self._sampling = sampling
        self._limits = limits
        self._log = log

    @classmethod
    def start(cls, model: Path, chat: ChatModel, sampling: Sampling, limits: Limits, log: Path) -> VllmHost:
        """Start an engine, in processes of its own; close it when done.

        Args:
            model: The model's folder.
            chat: The model's processor.
            sampling: How answers are drawn.
            limits: How much the engine takes.
            log: A file for what vLLM writes, while it starts and in its own processes.

        Returns:
            The host, ready to answer.

        Raises:
            ValueError: vLLM is for GPUs and there is none, or vLLM refuses the model or a limit.
            RuntimeError: The engine did not start; the log says why.
        """
        prepare_environment()
        with _output_to(log), _shared_cores():
            engine = cls._engine_of(model, sampling, limits)
        # From here on only what goes wrong is for the console.
        logging.getLogger("vllm").setLevel(logging.ERROR)
        return cls(engine, chat, sampling, limits, log)

    @staticmethod
    def _engine_of(model: Path, sampling: Sampling, limits: Limits) -> Any:
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        on_cpu = not torch.cuda.is_available()
        arguments = AsyncEngineArgs(
            model=str(model),
            dtype="float32" if on_cpu and limits.dtype == "auto" else limits.dtype,
            max_model_len=limits.max_prompt_length + limits.max_response_length,
            max_num_seqs=limits.max_num_seqs,
            tensor_parallel_size=limits.tensor_parallel_size,
            gpu_memory_utilization=limits.gpu_memory_utilization,
            limit_mm_per_prompt={"image": limits.images},
            # Every rendered image is shown once: keeping it costs memory and helps nobody.
            mm_processor_cache_gb=0,
            # "dummy" would leave buffers that are no weights, such as the image normalisation's, at random values.
            load_format="auto",
            enforce_eager=on_cpu,
            seed=sampling.seed,
            disable_log_stats=True,
        )
        return AsyncLLM.from_engine_args(arguments)

    async def __call__(self, turn: Turn) -> Reply:
        """Answer one turn.

        Args:
            turn: What the model is shown.

        Returns:
            Its text, with a `Usage` as the record.

        Raises:
            ValueError: The prompt is too long, its placeholders and its images do not match, or vLLM refuses it.
            RuntimeError: vLLM died or failed, or read another prompt than the processor wrote.
        """
        from vllm import SamplingParams
        from vllm.exceptions import VLLMClientError, VLLMServerError
        from vllm.inputs import TokensPrompt
        from vllm.sampling_params import RequestOutputKind

        prompt_ids, expanded = self._prompt_ids(turn)
        parameters = SamplingParams(
            temperature=self._sampling.temperature,
            top_p=self._sampling.top_p,
            top_k=self._sampling.top_k,
            seed=seed_of(self._sampling, turn) if torch.cuda.is_available() else None,
            max_tokens=self._limits.max_response_length,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        prompt = TokensPrompt(prompt_token_ids=prompt_ids, multi_modal_data={"image": list(turn.images)})
        final = None
        try:
            async for output in self._engine.generate(prompt, parameters, request_id=uuid4().hex):
                final = output
        except VLLMClientError as error:
            rule, fix = f"was refused by vLLM ({error})", "shorten it or show smaller images"
            raise invalid(f"prompt of stage {turn.stage + 1}", turn.text, rule, fix) from error
        except VLLMServerError as error:
            cause = error.__cause__ or error
            raise RuntimeError(f"vLLM failed ({type(cause).__name__}: {cause}); its log: {self._log}") from error
        assert final is not None and final.finished, "vLLM ends a request with its final output"
        if list(final.prompt_token_ids) != expanded:
            read = len(final.prompt_token_ids)
            raise RuntimeError(f"vLLM read a prompt of {read} tokens where the processor wrote {len(expanded)} others")
        answer = final.outputs[0]
        usage = Usage(len(answer.token_ids), answer.finish_reason == "length")
        return Reply(self.chat.decode(answer.token_ids), usage)

    def answering(self, chat: ChatModel, sampling: Sampling, limits: Limits) -> VllmHost:
        """The same engine, asked in another way; closing either ends the engine.

        Args:
            chat: The model's processor.
            sampling: How answers are drawn.
            limits: Lengths of prompt and answer, within those that the engine was started with.
        """
        return VllmHost(self._engine, chat, sampling, limits, self._log)

    def close(self) -> None:
        """End the engine's processes."""
        self._engine.shutdown()

    def _prompt_ids(self, turn: Turn) -> tuple[list[int], list[int]]:
        """The prompt as vLLM wants it, one placeholder an image, and as the model reads it."""
        prompt_ids, expanded = self.chat.prompt_ids(turn)
        check_length(turn, expanded, self._limits)
        return prompt_ids, expanded


def check_length(turn: Turn, prompt_ids: Sequence[int], limits: Limits) -> None:
    """Refuse a prompt that is longer than any host takes.

    Args:
        turn: What the model is to be shown.
        prompt_ids: Its tokens as the model reads them.
        limits: Length of a prompt.

    Raises:
        ValueError: It is too long.
    """
    if len(prompt_ids) > limits.max_prompt_length:
        rule = f"is too small: the prompt of stage {turn.stage + 1} has {len(prompt_ids)} tokens"
        raise invalid("max_prompt_length", limits.max_prompt_length, rule, "raise it or show smaller images")


def seed_of(sampling: Sampling, turn: Turn) -> int:
    """The seed of one prompt's own stream."""
    text = f"{sampling.seed} {turn.stage} {turn.text}"
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:4], "little")
