"""Where the workers of an evaluation run, and whether there is room for them: looked at before anything starts."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig

from verl_socio.errors import invalid
from verl_socio.evaluate.station import build

_AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class Placement:
    """The group `ray` of the settings.

    Attributes:
        address: The cluster to join, HOST:PORT, or "auto" for the newest one on this machine. None: that of the
            environment's RAY_ADDRESS, and without it one of our own on this machine.
        num_gpus: GPUs that each worker takes, or "auto": one for each tensor-parallel rank of vLLM, none on a machine
            without GPUs. A share below 1 lets workers share a GPU.
        num_cpus: CPU cores that each worker takes.
        timeout_s: Seconds within which the cluster has to grant all of them.
    """

    address: str | None = None
    num_gpus: float | str = _AUTO
    num_cpus: float = 1.0
    timeout_s: float = 600.0

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ValueError: A field is out of its range; the message names it.
        """
        if self.address is not None and (not isinstance(self.address, str) or not self.address.strip()):
            raise invalid("ray.address", self.address, "must be text or null", "give HOST:PORT, auto or null")
        for name in ("num_gpus", "num_cpus"):
            value = getattr(self, name)
            is_auto = name == "num_gpus" and value == _AUTO
            # Ray takes any share up to 1 and whole numbers above.
            if not is_auto and (not _is_number(value) or value < 0 or (value > 1 and value != int(value))):
                raise invalid(
                    f"ray.{name}", value, "must be 0 to 1, or a whole number above", "use 1, or a share of it"
                )
        if not _is_number(self.timeout_s) or self.timeout_s <= 0:
            raise invalid("ray.timeout_s", self.timeout_s, "must be a number of seconds above 0", "use 600")

    @property
    def joins(self) -> bool:
        """Whether there is a cluster to join; else one of our own is started."""
        from verl_socio.cluster import address_to_join  # Ray, which one worker need not wait for

        return bool(self.address or address_to_join())


def placement_of(config: DictConfig) -> Placement:
    """Where an evaluation's workers run.

    Args:
        config: Its settings.

    Returns:
        The placement, with a number as `num_gpus`.

    Raises:
        ValueError: A setting is unknown or out of its range, or fits no other.
    """
    settings = dict(config.ray)
    ranks = config.vllm.tensor_parallel_size
    if settings.get("num_gpus") == _AUTO:
        settings["num_gpus"] = ranks if torch.cuda.is_available() else 0
    placement: Placement = build(Placement, "ray", settings)
    if config.workers == 1 and placement.address is not None:
        rule = "is for two workers or more, but workers is 1"
        raise invalid("ray.address", placement.address, rule, "set workers=2 or more, or leave it null")
    if config.workers > 1 and torch.cuda.is_available() and 0 < _gpus(placement) < ranks:
        rule = f"must be {ranks} or more: vllm.tensor_parallel_size is {ranks}"
        raise invalid("ray.num_gpus", placement.num_gpus, rule, "use auto")
    index = str(config.segmenter.device).partition("cuda:")[2]
    if config.workers > 1 and index.isdecimal() and int(index) >= max(1.0, _gpus(placement)):
        rule = "must be a GPU of each worker's own, which it counts from 0"
        raise invalid("segmenter.device", config.segmenter.device, rule, "use auto")
    return placement


def check_room(workers: int, placement: Placement, nodes: Sequence[Mapping[str, float]]) -> None:
    """Check that all workers fit, none of them over two machines.

    Args:
        workers: How many.
        placement: What each takes.
        nodes: Of each machine, how many it has of "GPU" and "CPU".

    Raises:
        ValueError: They do not.
    """
    needed = {"GPU": _gpus(placement), "CPU": placement.num_cpus}
    asked = {name: amount for name, amount in needed.items() if amount > 0}
    if not asked:
        return
    # A share of a tenth goes into 1 ten times.
    fit = [min(math.floor(node.get(name, 0.0) / each + 1e-9) for name, each in asked.items()) for node in nodes]
    if sum(fit) < workers:
        takes = " and ".join(f"{each:g} {name}" for name, each in asked.items())
        there = "; ".join(", ".join(f"{node.get(name, 0.0):g} {name}" for name in asked) for node in nodes)
        rule = f"must fit: each takes {takes}, and there are {there or 'no machines'}"
        fix = f"set workers={max(1, sum(fit))}, join a larger cluster (ray.address), or lower what each takes"
        raise invalid("workers", workers, rule, fix)


def check_this_machine(workers: int, placement: Placement) -> None:
    """Check that the workers fit this machine, unless there is a cluster to join.

    Raises:
        ValueError: They do not.
    """
    if not placement.joins:
        here = {"GPU": float(torch.cuda.device_count()), "CPU": float(os.cpu_count() or 1)}
        check_room(workers, placement, [here])


def _gpus(placement: Placement) -> float:
    assert not isinstance(placement.num_gpus, str), "placement_of gives a number"
    return placement.num_gpus


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
