"""Several engines at once, each with a segmenter of its own: Ray actors over the GPUs of one machine or of many.

Each actor holds a whole station and sees its own GPUs only. It is sent samples, which are references to images, and
gives back rows and small pictures; whatever is written, the process that started them writes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from rich.console import Console

from verl_socio.cluster import logs_of_session, reason_of
from verl_socio.data import Sample
from verl_socio.engine.leftovers import Leftovers
from verl_socio.errors import invalid
from verl_socio.evaluate.evaluator import Evaluator
from verl_socio.evaluate.feeding import Begin, Evaluate
from verl_socio.evaluate.fingerprint import set_up
from verl_socio.evaluate.pictures import Pictures
from verl_socio.evaluate.placement import Placement, check_room
from verl_socio.evaluate.rows import SampleRow
from verl_socio.evaluate.station import Evaluation, Station, load_chats, open_station
from verl_socio.guard import Guard
from verl_socio.nested import differences
from verl_socio.provenance import folder_hash

_KEPT = "Finished samples are kept, and the same command goes on there."
_SHOWN = 20
# Seconds that an engine has to end by itself.
_CLOSING_S = 30.0
_log = logging.getLogger(__name__)


class _Held(Pictures):
    """Pictures that are held until they are taken, instead of written; arguments as for `Pictures`."""

    def __init__(self, folder: Path, samples: int, wanted: int, strip_px: int = 0) -> None:
        super().__init__(folder, samples, wanted, strip_px)
        self._held: dict[int, dict[str, bytes]] = {}

    def keep(self, index: int, files: Mapping[str, bytes]) -> None:
        """Hold what was drawn of a sample."""
        self._held[index] = dict(files)

    def take(self, index: int) -> dict[str, bytes]:
        """What was drawn of a sample, which is no longer held; nothing where it was not drawn."""
        return self._held.pop(index, {})


class _Station:
    """What runs in an actor."""

    def __init__(self, name: str, evaluations: Sequence[tuple[Evaluation, _Held]], model: Path) -> None:
        self._name = name
        self._evaluations = evaluations
        self._model = model
        self._open = AsyncExitStack()
        self._station: Station | None = None
        self._current: tuple[Evaluator, _Held] | None = None

    async def place(self) -> str:
        """Where this is, for messages."""
        return f"process {os.getpid()} on {socket.gethostname()}"

    async def open(self, driver: str) -> None:
        """Check that this machine is set up as the one where the evaluation was started, and start the engine."""
        evaluations = [each for each, _ in self._evaluations]
        self._check_set_up(evaluations[0], driver)
        log = logs_of_session() / f"verl_socio-{self._name.replace(' ', '-')}-{os.getpid()}.log"
        # An actor that is killed cannot end its engine, and an engine that is ended leaves shared memory.
        self._open.enter_context(Guard())
        self._open.enter_context(Leftovers(log.with_suffix(".leftovers")))
        opened = open_station(evaluations, self._model, load_chats(evaluations, self._model), log)
        self._station = await self._open.enter_async_context(opened)

    async def begin(self, number: int) -> None:
        """Load what the evaluation of that number needs."""
        assert self._station is not None, "opened before"
        each, pictures = self._evaluations[number]
        self._current = self._station.evaluator(each, pictures), pictures

    async def evaluate(self, index: int, sample: Sample) -> tuple[SampleRow, dict[str, bytes]]:
        """A sample's row, and what was drawn of it."""
        assert self._current is not None, "begun before"
        evaluator, pictures = self._current
        row = await evaluator.evaluate(index, sample)
        return row, pictures.take(index)

    async def close(self) -> None:
        """End the engine and the segmenter."""
        await self._open.aclose()

    def _check_set_up(self, each: Evaluation, driver: str) -> None:
        if not (self._model / "config.json").is_file():
            rule = f"must be a folder that all machines see, but {socket.gethostname()} does not"
            raise invalid("model", str(self._model), rule, "put it at the same path on each, or on a shared disk")
        here: dict[str, Any] = set_up()
        if ray.get_runtime_context().get_node_id() != driver:
            here["model"] = folder_hash(self._model)
        found = differences({key: each.mark.identity[key] for key in here}, here)
        if found:
            key, theirs, ours = found[0]
            rule = f"must all be set up alike, but {key} is {ours!r} on {socket.gethostname()} and was {theirs!r}"
            raise invalid("workers", self._name, rule, "install the same on every machine, with GPUs of one kind")


_Actor: Any = ray.remote(_Station)


class _Worker:
    """An actor as the process sees it that feeds it."""

    def __init__(self, name: str, actor: Any) -> None:
        self.name = name
        self.actor = actor
        self._in_hand: list[str] = []

    async def ask(self, reference: Awaitable[Any]) -> Any:
        """Wait for an answer of the actor.

        Raises:
            ValueError: The actor raised it.
            OSError: Likewise.
            RuntimeError: The actor raised something else, or died.
        """
        try:
            return await reference
        except RayTaskError as error:
            if isinstance(error.cause, ValueError | OSError):
                raise error.cause from error
            raise RuntimeError(f"{self.name}: {reason_of(error)}. {_KEPT}") from error
        except RayError as error:
            last = str(error).strip().rpartition("\n")[2]
            raise RuntimeError(f"{self.name} died{self._lost()}: {last}. {_KEPT}") from error

    async def evaluate(self, index: int, sample: Sample, pictures: Pictures) -> SampleRow:
        """A sample's row; its pictures are written."""
        self._in_hand.append(sample.id)
        row, files = await self.ask(self.actor.evaluate.remote(index, sample))
        # Only here: what is in hand when the worker dies is named.
        self._in_hand.remove(sample.id)
        await asyncio.to_thread(pictures.keep, index, files)
        assert isinstance(row, SampleRow)
        return row

    def _lost(self) -> str:
        if not self._in_hand:
            return ""
        more = f" and {len(self._in_hand) - _SHOWN} more" if len(self._in_hand) > _SHOWN else ""
        return f" with {len(self._in_hand)} samples in hand ({', '.join(self._in_hand[:_SHOWN])}{more})"


@asynccontextmanager
async def open_workers(
    evaluations: Sequence[Evaluation], model: Path, placement: Placement, console: Console
) -> AsyncIterator[Begin]:
    """Start the workers in the cluster that this process is connected to, and end them.

    Args:
        evaluations: At least one; all with the same model, engine settings and workers.
        model: The model's folder, at the same path on all machines; so are the images.
        placement: What each worker takes.
        console: Where the start is told.

    Yields:
        Begins the evaluation of a number in all workers, and gives what evaluates its samples in each.

    Raises:
        ValueError: The workers do not fit the cluster, it does not grant them in time, a machine is set up in another
            way than this one, or as for `open_station`.
        RuntimeError: A worker died, or as for `open_station`.
    """
    count = evaluations[0].config.workers
    check_room(count, placement, [node["Resources"] for node in ray.nodes() if node["Alive"]])
    most = max(each.config.concurrency for each in evaluations)
    sent = [(replace(each, samples=[]), each.pictures(_Held)) for each in evaluations]
    # A room for each sample under way and for the other questions.
    options = {"num_gpus": placement.num_gpus, "num_cpus": placement.num_cpus, "max_concurrency": most + 8}
    crew = []
    try:
        for number in range(count):
            name = f"worker {number}"
            crew.append(_Worker(name, _Actor.options(**options).remote(name, sent, model)))
        places = await _granted(crew, placement)
        told = "".join(f"\n  {place}" for place in places)
        console.print(f"Starting {count} workers; their logs: {logs_of_session()}{told}", markup=False, highlight=False)
        driver = ray.get_runtime_context().get_node_id()
        await asyncio.gather(*(worker.ask(worker.actor.open.remote(driver)) for worker in crew))

        async def begin(number: int) -> list[Evaluate]:
            await asyncio.gather(*(worker.ask(worker.actor.begin.remote(number)) for worker in crew))
            pictures = evaluations[number].pictures(Pictures)
            return [_bound(worker, pictures) for worker in crew]

        yield begin
    finally:
        await _end(crew)


def _bound(worker: _Worker, pictures: Pictures) -> Evaluate:
    async def evaluate(index: int, sample: Sample) -> SampleRow:
        return await worker.evaluate(index, sample, pictures)

    return evaluate


async def _granted(crew: Sequence[_Worker], placement: Placement) -> list[str]:
    """Wait until the cluster has made room for all workers; returns where each is."""
    places = asyncio.gather(*(worker.ask(worker.actor.place.remote()) for worker in crew))
    try:
        found = await asyncio.wait_for(places, placement.timeout_s)
    except TimeoutError as error:
        rule = f"must be granted within {placement.timeout_s:g} s; free in the cluster: {ray.available_resources()}"
        fix = "wait until the cluster is free, lower workers, or raise ray.timeout_s"
        raise invalid("workers", len(crew), rule, fix) from error
    for worker, place in zip(crew, found, strict=True):
        worker.name = f"{worker.name} ({place})"
    return [worker.name for worker in crew]


async def _end(crew: Sequence[_Worker]) -> None:
    closing = [asyncio.ensure_future(worker.actor.close.remote()) for worker in crew]
    if closing:
        # What does not end by itself is ended: why it failed was told already.
        await asyncio.wait(closing, timeout=_CLOSING_S)
    for closed in closing:
        if closed.done() and closed.exception() is not None:
            _log.info("a worker did not close: %s", closed.exception())
    for worker in crew:
        ray.kill(worker.actor)
