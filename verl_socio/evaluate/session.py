"""One start of engine and segmenter, through which several evaluations go one after another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from verl_socio.chat import ChatModel
from verl_socio.evaluate.feeding import Begin, Evaluate, feed
from verl_socio.evaluate.pictures import Pictures
from verl_socio.evaluate.placement import placement_of
from verl_socio.evaluate.results import Results
from verl_socio.evaluate.rows import SampleRow
from verl_socio.evaluate.station import VLLM, Evaluation, load_chats, open_station
from verl_socio.evaluate.url_host import served_name
from verl_socio.guard import Guard
from verl_socio.rehearsal import rehearse
from verl_socio.text import for_terminal


def run(
    evaluations: Sequence[Evaluation], model: Path, console: Console, complete: Callable[[Evaluation], object]
) -> None:
    """Run what is missing of several evaluations of one model.

    Args:
        evaluations: At least one; all with the same model, engine settings and workers.
        model: The model's folder.
        console: Where progress is told.
        complete: Called with each evaluation as soon as all of its samples have a row.

    Raises:
        ValueError: A question cannot be asked, a prompt does not fit, the engine refuses a setting, or a server has
            another model than before; nothing was evaluated.
        Exception: Whatever stopped an evaluation, too many failures among it. Finished samples of all are kept.
    """
    chats = load_chats(evaluations, model)
    for each in evaluations:
        budget = each.config.max_prompt_length
        rehearse(each.samples, each.recipe, chats[each.config.frame], budget, "max_prompt_length", with_target=False)
    if evaluations[0].config.host != VLLM and evaluations[0].config.served_model is None:
        evaluations = _of_one_model(evaluations)
    first = evaluations[0]

    async def run_all(opened: AbstractAsyncContextManager[Begin]) -> None:
        async with opened as begin:
            for number in range(len(evaluations)):
                await _run_one(number, evaluations, begin, console)
                # At once, not after all: what comes later may fail.
                complete(evaluations[number])

    with Guard():
        if first.config.workers == 1:
            asyncio.run(run_all(_alone(evaluations, model, chats, console)))
            return
        # Ray takes seconds to import, and one engine needs none of it.
        from verl_socio.cluster import connected
        from verl_socio.evaluate.workers import open_workers

        placement = placement_of(first.config)
        with connected(placement.address, first.folder / "ray" / time.strftime("%Y%m%d-%H%M%S")):
            asyncio.run(run_all(open_workers(evaluations, model, placement, console)))


def _of_one_model(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """The evaluations with the model that the server answers with: what one began with, it has to go on with.

    Raises:
        ValueError: The server has another one now, or none.
        RuntimeError: It does not answer.
    """
    name = asyncio.run(served_name(evaluations[0].config.host))
    named = []
    for each in evaluations:
        with Results(each.folder, each.mark) as results:
            results.note_served(name)
        config = OmegaConf.merge(each.config, {"served_model": name})
        assert isinstance(config, DictConfig)
        named.append(replace(each, config=config))
    return named


@asynccontextmanager
async def _alone(
    evaluations: Sequence[Evaluation], model: Path, chats: Mapping[str, ChatModel], console: Console
) -> AsyncIterator[Begin]:
    """The one station of this process."""
    log = evaluations[0].folder / "vllm.log"
    if evaluations[0].config.host == VLLM:
        console.print(f"Starting vLLM; its log: {log}", markup=False, highlight=False, soft_wrap=True)
    async with open_station(evaluations, model, chats, log) as station:

        async def begin(number: int) -> list[Evaluate]:
            return [station.evaluator(evaluations[number], evaluations[number].pictures(Pictures)).evaluate]

        yield begin


async def _run_one(number: int, evaluations: Sequence[Evaluation], begin: Begin, console: Console) -> None:
    each = evaluations[number]
    with Results(each.folder, each.mark) as results:
        size = len(each.samples)
        told = f"evaluating {each.title}" if len(evaluations) > 1 else "evaluating"
        try:
            await _with_bar(each, results, await begin(number), console, told)
        finally:
            if len(results.done) < size:
                console.print(f"Stopped after {len(results.done)} of {size}; the same command goes on there.")


async def _with_bar(
    each: Evaluation, results: Results, evaluators: Sequence[Evaluate], console: Console, told: str
) -> None:
    with progress(console) as bar:
        task = bar.add_task(escape(told), total=len(each.samples), completed=len(results.done))

        def finished(row: SampleRow) -> None:
            bar.advance(task)
            if row.failure is not None:
                told = escape(for_terminal(f"{row.id}: {row.failure}"))
                bar.console.print(f"[red]failed[/red] {told}", highlight=False)
                results.check_failures(len(each.samples), each.config.max_failures)

        await feed(each.samples, results, evaluators, min(each.config.concurrency, len(each.samples)), finished)


def progress(console: Console) -> Progress:
    """A bar with its rate's consequences: how long it took, how long it will."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
        console=console,
    )  # fmt: skip
