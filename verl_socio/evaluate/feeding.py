"""Goes through a set once: many samples at a time, by one evaluator or by many, and keeps a row of each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence

from verl_socio.data import Sample
from verl_socio.evaluate.results import Results
from verl_socio.evaluate.rows import SampleRow

# Makes the row of a sample, given its place in the set.
Evaluate = Callable[[int, Sample], Awaitable[SampleRow]]
# Gets ready for one of several evaluations, given its number, and gives what evaluates its samples.
Begin = Callable[[int], Awaitable[Sequence[Evaluate]]]


async def feed(
    samples: Sequence[Sample],
    results: Results,
    evaluators: Sequence[Evaluate],
    concurrency: int,
    finished: Callable[[SampleRow], object],
) -> None:
    """Evaluate the samples that have no row yet.

    All evaluators take from one queue, each whenever it has room: a slow one gets fewer samples and holds up nobody.
    In memory are `concurrency` samples for each evaluator at a time, however many there are in the set.

    Args:
        samples: The whole set, in its order.
        results: Where rows go.
        evaluators: At least one.
        concurrency: Samples under way at once in each of them, 1 or more.
        finished: Called with each new row.

    Raises:
        Exception: Whatever stopped the evaluation: an engine or a GPU died. Finished samples are kept.
    """
    waiting = ((index, sample) for index, sample in enumerate(samples) if sample.id not in results.done)
    # In turns, so that a set that is soon out is spread evenly.
    places = [evaluate for _ in range(concurrency) for evaluate in evaluators]
    tasks = [asyncio.create_task(_work(evaluate, waiting, results, finished)) for evaluate in places]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _work(
    evaluate: Evaluate,
    waiting: Iterator[tuple[int, Sample]],
    results: Results,
    finished: Callable[[SampleRow], object],
) -> None:
    for index, sample in waiting:
        try:
            row = await evaluate(index, sample)
            results.append(row)
        except OSError as error:
            kept = "finished samples are kept, and the same command goes on there"
            raise RuntimeError(f"sample {sample.id}: {error}; {kept}") from error
        finished(row)
