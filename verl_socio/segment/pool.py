"""Segmenters in Ray actors, shared by all processes of a run."""

from __future__ import annotations

import asyncio
import logging
import os
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any, TypeAlias

import numpy as np
import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from verl_socio.answer import Prompt
from verl_socio.data.sample import ImageRef
from verl_socio.errors import invalid
from verl_socio.masks import Masks, SegmentationError
from verl_socio.segment import BOXES, create, locate
from verl_socio.segment.config import SegmenterConfig
from verl_socio.segment.counters import Counters

_LOAD_FIX = "correct what the reason names, then start again"
_log = logging.getLogger(__name__)

# Masks on their way between processes: bits, (N, H, W), scores. An eighth of the bytes; and a receiver that keeps its
# masks keeps memory of its own, not a piece of Ray's object store.
Packed = tuple[np.ndarray, tuple[int, ...], np.ndarray]
_Strategy: TypeAlias = str | NodeAffinitySchedulingStrategy


class SegmenterPool:
    """A segmenter spread over Ray actors; it keeps `verl_socio.episode.Segment` and can be sent to other processes.

    All requests of one image go to one actor, so every image is encoded once in the whole run. An actor that crashes
    is started again, and Ray repeats the requests it was working on, each `restarts` times at most.

    The actors live as long as the process that created them keeps the pool that `create` returned.
    """

    def __init__(self, actors: Sequence[Any], config: SegmenterConfig) -> None:
        """Wrap the handles of running actors; use `create` or `find`."""
        self._actors = tuple(actors)
        self._config = config

    @classmethod
    def create(cls, config: SegmenterConfig, name: str = "segmenter", gpus: int | None = None) -> SegmenterPool:
        """Start the actors and wait until their models are loaded.

        Args:
            config: Settings of the pool and of each segmenter in it.
            name: Under which other processes of this Ray namespace find the pool. A pool of this name and the same
                settings is joined, not started a second time.
            gpus: How many GPUs of a node actors that reserve none may share, from the first on; None: all of them.

        Returns:
            The pool, to be kept by the caller for as long as it is needed.

        Raises:
            ValueError: The weights cannot be loaded, the cluster has not the resources asked for or does not grant
                them in time, or a pool of this name has other settings.
        """
        locate(config)
        assert ray.is_initialized(), "start Ray before the segmenter pool"
        _check_resources(config)
        options = {
            "num_cpus": config.num_cpus,
            "num_gpus": config.num_gpus,
            "max_restarts": -1,
            "max_task_retries": config.restarts,
            "get_if_exists": True,
        }
        places = _places(config, ray.nodes())
        actors = [
            _Actor.options(name=_actor_name(name, index), scheduling_strategy=strategy, **options).remote(
                config, turn, gpus
            )
            for index, (strategy, turn) in enumerate(places)
        ]
        running = _wait(actors, config)
        if any(other != config for other in running):
            rule = f"is running with other settings: {running}"
            raise invalid("segmenter pool", name, rule, "use the settings of the running pool, or another name")
        return cls(actors, config)

    @classmethod
    def find(cls, name: str = "segmenter") -> SegmenterPool:
        """Find a pool that another process of this Ray namespace created.

        Raises:
            ValueError: There is none of this name.
        """
        try:
            first = ray.get_actor(_actor_name(name, 0))
            config = ray.get(first.config.remote())
            return cls([ray.get_actor(_actor_name(name, index)) for index in range(config.num_actors)], config)
        except (ValueError, RayActorError) as error:
            fix = "create it first, and keep it, in the process that outlives the others"
            raise invalid("segmenter pool", name, "must be running in this Ray namespace", fix) from error

    async def segment(self, image: ImageRef, prompts: Sequence[Prompt]) -> Masks:
        """Find one mask for each prompt; arguments and result as for `Sam2Segmenter.segment`.

        Raises:
            ValueError: As there.
            SegmentationError: As there; or the actor crashed on the request and on its repetitions, or did not answer
                in `timeout_s`.
        """
        actor = self._actors[zlib.crc32(os.fsencode(image.uri)) % len(self._actors)]
        reference = actor.segment.remote(image, tuple(prompts))
        try:
            packed = await asyncio.wait_for(reference, self._config.timeout_s)
        except TimeoutError as error:
            ray.cancel(reference)
            raise SegmentationError(image.uri, f"no answer within {self._config.timeout_s} s") from error
        except RayTaskError as error:
            if isinstance(error.cause, SegmentationError):
                raise SegmentationError(error.cause.uri, error.cause.reason) from error
            raise
        except RayError as error:
            tries = f"asked {1 + self._config.restarts} times at most"
            raise SegmentationError(image.uri, f"its segmenter crashed, {tries}: {error}") from error
        return _unpack(packed)

    async def counters(self, *, reset: bool = False) -> Counters:
        """What all actors did so far, summed; with `reset`, counting starts again from zero.

        A crashed actor loses what it had counted, so figures of a step are right when read with `reset` each step.
        Requests that failed by a crash or a time limit are known to their callers only.
        """
        counted: list[Counters] = await asyncio.gather(*[actor.counters.remote(reset=reset) for actor in self._actors])
        return reduce(add, counted)

    async def reset_features(self) -> None:
        """Drop the features of all images in all actors."""
        await asyncio.gather(*[actor.reset_features.remote() for actor in self._actors])

    def close(self) -> None:
        """End the actors, for every process that uses them."""
        for actor in self._actors:
            ray.kill(actor)


class _Host:
    """What runs in an actor: one segmenter."""

    def __init__(self, config: SegmenterConfig, turn: int, gpus: int | None) -> None:
        self._config = config
        self._segmenter = create(_placed(config, turn, gpus))
        with warnings.catch_warnings():
            # The property itself is current; it asks for the actor's id in a way that Ray has deprecated.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._restarted = int(ray.get_runtime_context().was_current_actor_reconstructed)

    async def config(self) -> SegmenterConfig:
        return self._config

    async def segment(self, image: ImageRef, prompts: tuple[Prompt, ...]) -> Packed:
        try:
            masks = await self._segmenter.segment(image, prompts)
        except SegmentationError as error:
            if _needs_new_process(error):
                _log.error("ending this segmenter, to be started again: %s", error)
                os._exit(1)
            raise
        return np.packbits(masks.masks_nhw), masks.masks_nhw.shape, masks.predicted_iou

    async def counters(self, *, reset: bool) -> Counters:
        counters = await self._segmenter.counters(reset=reset) + Counters(restarts=self._restarted)
        if reset:
            self._restarted = 0
        return counters

    async def reset_features(self) -> None:
        await self._segmenter.reset_features()


_Actor: Any = ray.remote(_Host)


def _unpack(packed: Packed) -> Masks:
    bits, shape, predicted_iou = packed
    masks_nhw = np.unpackbits(bits, count=int(np.prod(shape))).view(bool).reshape(shape)
    return Masks(masks_nhw, np.array(predicted_iou))


def _shares_gpus(config: SegmenterConfig) -> bool:
    """Whether actors use GPUs that they do not reserve."""
    return config.weights != BOXES and config.num_gpus == 0 and config.device in ("auto", "cuda")


def _places(config: SegmenterConfig, nodes: Sequence[Mapping[str, Any]]) -> list[tuple[_Strategy, int]]:
    """Where each actor goes, and its turn among those of its node.

    Ray sends an actor that reserves no GPU to nodes without any first, and packs: a segmenter would run on a CPU, or
    all of them beside one another. So those that share GPUs are dealt out over the nodes that have some.
    """
    with_gpus = sorted(node["NodeID"] for node in nodes if node["Alive"] and node["Resources"].get("GPU", 0) > 0)
    if not _shares_gpus(config) or not with_gpus:
        return [("DEFAULT", index) for index in range(config.num_actors)]
    # Soft: where a node is gone, its actors go elsewhere.
    dealt = (divmod(index, len(with_gpus)) for index in range(config.num_actors))
    return [(NodeAffinitySchedulingStrategy(with_gpus[node], soft=True), turn) for turn, node in dealt]


def _placed(config: SegmenterConfig, turn: int, gpus: int | None) -> SegmenterConfig:
    """Spread actors that share GPUs over those of their node; Ray gives the others one each."""
    if not _shares_gpus(config):
        return config
    import torch

    # Who reserves nothing sees every GPU of the machine, and some may be others'. Ray gives the first ones away first.
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    count = count if gpus is None else min(count, gpus)
    return replace(config, device=f"cuda:{turn % count}") if count else config


def _needs_new_process(error: SegmentationError) -> bool:
    from verl_socio.segment.sam2_segmenter import DeviceError

    return isinstance(error, DeviceError)


def _actor_name(pool: str, index: int) -> str:
    return f"{pool}-{index}"


def _check_resources(config: SegmenterConfig) -> None:
    total = ray.cluster_resources()
    for field, resource in (("num_cpus", "CPU"), ("num_gpus", "GPU")):
        share, there = getattr(config, field), total.get(resource, 0.0)
        if share * config.num_actors > there:
            asked = f"{config.num_actors} actors need {share * config.num_actors:g} {resource}"
            rule = f"must fit the cluster: {asked}, there are {there:g}"
            raise invalid(f"segmenter.{field}", share, rule, "lower it, or segmenter.num_actors; 0 reserves nothing")


def _wait(actors: Sequence[Any], config: SegmenterConfig) -> list[SegmenterConfig]:
    try:
        return list(ray.get([actor.config.remote() for actor in actors], timeout=config.timeout_s))
    except GetTimeoutError as error:
        rule = f"must be granted within {config.timeout_s} s; free in the cluster: {ray.available_resources()}"
        asked = f"num_cpus {config.num_cpus}, num_gpus {config.num_gpus}, num_actors {config.num_actors}"
        raise invalid("segmenter", asked, rule, "lower the shares (0 reserves nothing) or raise timeout_s") from error
    except RayActorError as error:
        reason = str(error).strip().rpartition("\n")[2]
        raise invalid("segmenter.weights", config.weights, f"must load in a Ray actor ({reason})", _LOAD_FIX) from error
