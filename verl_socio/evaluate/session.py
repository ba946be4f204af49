"""One start of vLLM and the segmenter, through which several evaluations go one after another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from verl_socio.chat import ChatModel
from verl_socio.data import Sample
from verl_socio.episode import Segment
from verl_socio.errors import invalid
from verl_socio.evaluate.evaluator import Evaluator
from verl_socio.evaluate.fingerprint import Fingerprint
from verl_socio.evaluate.pictures import Pictures
from verl_socio.evaluate.protocols import PROTOCOLS
from verl_socio.evaluate.protocols.no_masks import NoMasks
from verl_socio.evaluate.results import Results
from verl_socio.evaluate.rows import SampleRow
from verl_socio.evaluate.survey import check_prompts
from verl_socio.evaluate.url_host import UrlHost
from verl_socio.evaluate.vllm_host import Limits, Sampling, VllmHost
from verl_socio.guard import Guard
from verl_socio.recipes import Recipe
from verl_socio.segment import SegmenterConfig, create

# The word for an engine of our own.
VLLM = "vllm"


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


def run(evaluations: Sequence[Evaluation], model: Path, console: Console) -> None:
    """Run what is missing of several evaluations of one model.

    Args:
        evaluations: At least one; all with the same model and engine settings.
        model: The model's folder.
        console: Where progress is told.

    Raises:
        ValueError: A prompt does not fit, or the engine refuses a setting; nothing was evaluated.
        Exception: Whatever stopped an evaluation. Finished samples of all are kept.
    """
    chats = {each.config.frame: ChatModel.load(model, each.config.frame) for each in evaluations}
    for each in evaluations:
        check_prompts(each.samples, each.recipe, chats[each.config.frame], each.config.max_prompt_length)

    async def run_all() -> None:
        async with _host(evaluations, model, chats[evaluations[0].config.frame], console) as host:
            with _Segmenters() as segmenters:
                for each in evaluations:
                    draws = [
                        host.answering(chats[each.config.frame], each_draw, _limits(each)) for each_draw in _draws(each)
                    ]
                    await _run_one(each, draws, segmenters, console, several=len(evaluations) > 1)

    with Guard():
        asyncio.run(run_all())


@asynccontextmanager
async def _host(
    evaluations: Sequence[Evaluation], model: Path, chat: ChatModel, console: Console
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
    log = first.folder / "vllm.log"
    console.print(f"Starting vLLM; its log: {log}", markup=False, highlight=False, soft_wrap=True)
    # Before the segmenter: vLLM measures how much of the GPU is free.
    engine = VllmHost.start(model, chat, sampling, limits, log)
    try:
        yield engine
    finally:
        engine.close()


async def _run_one(
    each: Evaluation, draws: Sequence[VllmHost | UrlHost], segmenters: _Segmenters, console: Console, *, several: bool
) -> None:
    with Results(each.folder, each.mark) as results:
        size = len(each.samples)
        evaluator = Evaluator(
            recipe=each.recipe,
            generate=draws[0],
            segmenter=_segmenter_of(each, segmenters),
            frame_of=draws[0].chat.frame_of,
            center_box_share=each.target_share,
            results=results,
            others=tuple(draws[1:]),
            pictures=Pictures(each.folder / "pictures", size, min(each.config.pictures, size), each.config.thumbnails),
        )
        told = f"evaluating {each.title}" if several else "evaluating"
        try:
            await _with_bar(evaluator, each.samples, each.config.concurrency, console, told)
        finally:
            if len(results.done) < size:
                console.print(f"Stopped after {len(results.done)} of {size}; the same command goes on there.")


def _segmenter_of(each: Evaluation, segmenters: _Segmenters) -> Segment:
    """None is loaded where neither the protocol nor a later stage looks at masks."""
    if not PROTOCOLS[each.config.protocol].needs_masks and not any(stage.feedback for stage in each.recipe.stages):
        return NoMasks()
    return segmenters.get(build(SegmenterConfig, "segmenter", each.config.segmenter))


async def _with_bar(evaluator: Evaluator, samples: list[Sample], concurrency: int, console: Console, told: str) -> None:
    with progress(console) as bar:
        task = bar.add_task(escape(told), total=len(samples), completed=len(evaluator.results.done))

        def finished(row: SampleRow) -> None:
            bar.advance(task)
            if row.failure is not None:
                bar.console.print(f"[red]failed[/red] {escape(row.id)}: {escape(row.failure)}", highlight=False)

        await evaluator.run(samples, min(concurrency, len(samples)), finished)


def progress(console: Console) -> Progress:
    """A bar with its rate's consequences: how long it took, how long it will."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
        console=console,
    )  # fmt: skip


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
    return [replace(sampling, seed=sampling.seed + 1_000_003 * number) for number in range(each.config.best_of)]


def _limits(each: Evaluation) -> Limits:
    config = each.config
    lengths = {key: config[key] for key in ("max_prompt_length", "max_response_length")}
    images = max(len(stage.images) for stage in each.recipe.stages)
    limits: Limits = build(Limits, "vllm", {**config.vllm, **lengths, "images": images})
    return limits


def _largest(evaluations: Sequence[Evaluation]) -> Limits:
    """What the engine must take so that every evaluation fits."""
    limits = [_limits(each) for each in evaluations]
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
