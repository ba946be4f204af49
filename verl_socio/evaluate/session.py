"""One start of engine and segmenter, through which several evaluations go one after another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

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
from verl_socio.evaluate.survey import check_prompts
from verl_socio.guard import Guard
from verl_socio.text import for_terminal


def run(evaluations: Sequence[Evaluation], model: Path, console: Console) -> None:
    """Run what is missing of several evaluations of one model.

    Args:
        evaluations: At least one; all with the same model, engine settings and workers.
        model: The model's folder.
        console: Where progress is told.

    Raises:
        ValueError: A prompt does not fit, or the engine refuses a setting; nothing was evaluated.
        Exception: Whatever stopped an evaluation. Finished samples of all are kept.
    """
    chats = load_chats(evaluations, model)
    for each in evaluations:
        check_prompts(each.samples, each.recipe, chats[each.config.frame], each.config.max_prompt_length)
    first = evaluations[0]

    async def run_all(opened: AbstractAsyncContextManager[Begin]) -> None:
        async with opened as begin:
            for number in range(len(evaluations)):
                await _run_one(number, evaluations, begin, console)

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

        await feed(each.samples, results, evaluators, min(each.config.concurrency, len(each.samples)), finished)


def progress(console: Console) -> Progress:
    """A bar with its rate's consequences: how long it took, how long it will."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
        console=console,
    )  # fmt: skip
