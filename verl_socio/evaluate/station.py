"""One engine and one segmenter, through which the samples of several evaluations go."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from omegaconf import DictConfig

from verl_socio.chat import ChatModel
from verl_socio.data import Sample
from verl_socio.episode import Segment
from verl_socio.errors import invalid
from verl_socio.evaluate.evaluator import Evaluator
from verl_socio.evaluate.fingerprint import Fingerprint
from verl_socio.evaluate.pictures import Pictures
from verl_socio.evaluate.protocols import PROTOCOLS
from verl_socio.evaluate.protocols.no_masks import NoMasks
from verl_socio.evaluate.url_host import UrlHost
from verl_socio.evaluate.vllm_host import SEEDS, Limits, Sampling, VllmHost
from verl_socio.recipes import Recipe
from verl_socio.segment import SegmenterConfig, create

# The word for an engine of our own.
VLLM = "vllm"

_Kind = TypeVar("_Kind", bound=Pictures)


@dataclass(frozen=True)
class Evaluation:
    """One evaluation, ready to run.

    Attributes:
        config: Its settings, of one split.
        way: The ablation's name, or "".
        recipe: The method.
        samples: The split.
        target_share: Mean share of the image that the target covers, 0..1; None where no sample has a target.
        folder: Where its results go.
        mark: What they rest on.
    """

    config: DictConfig
    way: str
    recipe: Recipe
    samples: list[Sample]
    target_share: float | None
    folder: Path
    mark: Fingerprint

    @property
    def title(self) -> str:
        """A word for it among its siblings."""
        return f"{self.config.split}, {self.way}" if self.way else str(self.config.split)

    def pictures(self, kind: Callable[[Path, int, int, int], _Kind]) -> _Kind:
        """What draws its pictures, of a kind: `Pictures` writes them into its folder."""
        size = len(self.samples)
        return kind(self.folder / "pictures", size, min(self.config.pictures, size), self.config.thumbnails)


class Station:
    """What evaluates the samples of one evaluation after another. Use `open_station`."""

    def __init__(
        self, host: VllmHost | UrlHost, chats: Mapping[str, ChatModel], segmenters: _Segmenters
    ) -> None:  # fmt: skip
        self._host = host
        self._chats = chats
        self._segmenters = segmenters

    def evaluator(self, each: Evaluation, pictures: Pictures) -> Evaluator:
        """What evaluates the samples of an evaluation; the one before is finished.

        Args:
            each: One of those that the station was opened for; its samples are not looked at.
            pictures: Where its pictures go.

        Raises:
            ValueError: The segmenter does not load.
        """
        chat = self._chats[each.config.frame]
        draws = [self._host.answering(chat, draw, limits_of(each.config, each.recipe)) for draw in _draws(each)]
        return Evaluator(
            recipe=each.recipe,
            generate=draws[0],
            segmenter=_segmenter_of(each, self._segmenters),
            frame_of=chat.frame_of,
            center_box_share=each.target_share,
            pictures=pictures,
            others=tuple(draws[1:]),
        )


@asynccontextmanager
async def open_station(
    evaluations: Sequence[Evaluation], model: Path, chats: Mapping[str, ChatModel], log: Path
) -> AsyncIterator[Station]:
    """Start what answers, and close it and the segmenter in the end.

    Args:
        evaluations: At least one; all with the same model and engine settings.
        model: The model's folder.
        chats: Its processor, by the settings' `frame`.
        log: A file for what vLLM writes.

    Raises:
        ValueError: The engine refuses a setting, or the server does not have the model.
        RuntimeError: The engine did not start; the log says why. Or the server does not answer.
    """
    async with _host(evaluations, model, chats[evaluations[0].config.frame], log) as host:
        with _Segmenters() as segmenters:
            yield Station(host, chats, segmenters)


def load_chats(evaluations: Sequence[Evaluation], model: Path) -> dict[str, ChatModel]:
    """The model's processor for each `frame` of the evaluations."""
    return {each.config.frame: ChatModel.load(model, each.config.frame) for each in evaluations}


@asynccontextmanager
async def _host(
    evaluations: Sequence[Evaluation], model: Path, chat: ChatModel, log: Path
) -> AsyncIterator[VllmHost | UrlHost]:
    """What answers: an engine of our own, or a server elsewhere."""
    first, limits = evaluations[0], _largest(evaluations)
    sampling = sampling_of(first.config)
    if first.config.host != VLLM:
        server = await UrlHost.connect(first.config.host, first.config.served_model, chat, sampling, limits)
        try:
            yield server
        finally:
            await server.close()
        return
    # Before the segmenter: vLLM measures how much of the GPU is free.
    engine = VllmHost.start(model, chat, sampling, limits, log)
    try:
        yield engine
    finally:
        engine.close()


def _segmenter_of(each: Evaluation, segmenters: _Segmenters) -> Segment:
    """None is loaded where neither the protocol nor a later stage looks at masks."""
    if not PROTOCOLS[each.config.protocol].needs_masks and not any(stage.feedback for stage in each.recipe.stages):
        return NoMasks()
    return segmenters.get(build(SegmenterConfig, "segmenter", each.config.segmenter))


def build(kind: Callable[..., Any], where: str, values: Mapping[Any, Any]) -> Any:
    """Make a dataclass of settings from a group of settings.

    Raises:
        ValueError: An unknown key, or a value that the class refuses.
    """
    assert isinstance(kind, type)
    known = {field.name for field in fields(kind)}
    if unknown := sorted(set(map(str, values)) - known):
        fix = f"use {', '.join(sorted(known))}"
        raise invalid(f"{where}.{unknown[0]}", values[unknown[0]], "is not a known key", fix)
    return kind(**values)


def sampling_of(config: DictConfig) -> Sampling:
    """How answers are drawn."""
    sampling: Sampling = build(Sampling, "sampling", config.sampling)
    return sampling


def _draws(each: Evaluation) -> list[Sampling]:
    """How each of a sample's episodes is drawn: with a seed of its own."""
    sampling = sampling_of(each.config)
    seeds = [(sampling.seed + 1_000_003 * number) % SEEDS for number in range(each.config.best_of)]
    return [replace(sampling, seed=seed) for seed in seeds]


def limits_of(config: DictConfig, recipe: Recipe) -> Limits:
    """How much the engine must take for a recipe.

    Raises:
        ValueError: An unknown key of `vllm`.
    """
    lengths = {key: config[key] for key in ("max_prompt_length", "max_response_length")}
    images = max(len(stage.images) for stage in recipe.stages)
    limits: Limits = build(Limits, "vllm", {**config.vllm, **lengths, "images": images})
    return limits


def _largest(evaluations: Sequence[Evaluation]) -> Limits:
    """What the engine must take so that every evaluation fits."""
    limits = [limits_of(each.config, each.recipe) for each in evaluations]
    names = ("max_prompt_length", "max_response_length", "images")
    return replace(limits[0], **{name: max(getattr(each, name) for each in limits) for name in names})


class _Segmenters:
    """Keeps a segmenter from one evaluation to the next, unless the next asks for another."""

    def __init__(self) -> None:
        self._config: SegmenterConfig | None = None
        self._segmenter: Any = None

    def get(self, config: SegmenterConfig) -> Segment:
        """The segmenter of a configuration."""
        if config != self._config:
            self._close()
            self._segmenter = create(config)
            self._config = config
        segmenter: Segment = self._segmenter
        return segmenter

    def __enter__(self) -> _Segmenters:
        """Nothing is loaded before it is asked for."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Close what is open."""
        self._close()

    def _close(self) -> None:
        if self._segmenter is not None:
            self._segmenter.close()
        self._segmenter = self._config = None
