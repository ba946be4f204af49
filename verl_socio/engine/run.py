"""Starts verl with the project's trainer: Ray, the segmenters, the hybrid engine."""

from __future__ import annotations

import math
import os
import traceback
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import ray
from omegaconf import DictConfig, OmegaConf
from ray._private.utils import get_num_cpus
from ray.exceptions import RayTaskError
from verl.single_controller.ray import ResourcePoolManager
from verl.trainer.main_ppo import TaskRunnerV1, run_ppo
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import validate_config
from verl.utils.device import auto_set_device

from verl_socio import cluster
from verl_socio.engine.groups import check_groups
from verl_socio.engine.leftovers import Leftovers, remove_noted
from verl_socio.errors import invalid
from verl_socio.guard import Guard
from verl_socio.segment import SegmenterConfig
from verl_socio.segment.pool import SegmenterPool

# What this process tells its processes by its environment, which those of a cluster that is there already do not have.
_TOLD = ("VERL_FILE_LOGGER_PATH", "TENSORBOARD_DIR", "VERL_LOGGING_LEVEL")

# What verl sets aside of Ray's CPUs for each rank.
_CPUS_OF_A_RANK = ResourcePoolManager.max_colocate_count

# verl decorates the class where it is defined; this is the class underneath, which can be extended.
_TaskRunner: Any = TaskRunnerV1.__ray_metadata__.modified_class


class EpisodeTaskRunner(_TaskRunner):
    """verl's single controller with the project's trainer and segmenters."""

    def run(self, config: DictConfig) -> None:
        """Train until the configured step."""
        import verl_socio.engine.trainer  # noqa: F401  registers itself

        _check_places(config, ray.nodes())
        # Kept here, in the process that outlives the workers: the actors end with it.
        settings: Any = OmegaConf.to_container(config.segmenter, resolve=True)
        self._segmenters = SegmenterPool.create(SegmenterConfig(**settings), gpus=config.trainer.n_gpus_per_node)
        super().run(config)


def check(config: DictConfig) -> None:
    """Let verl check its own settings.

    Raises:
        ValueError: A key of a group that verl makes a class of is unknown to that class, or has a value it refuses; or
            settings do not fit each other.
    """
    auto_set_device(config)
    check_groups(config, ("algorithm", "actor_rollout_ref.actor", "actor_rollout_ref.rollout"), "ppo_trainer.yaml")
    try:
        validate_config(
            config=config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config)
        )
    except AssertionError as error:
        rule = f"do not fit each other by verl's check: {error}"
        raise invalid("settings", config.run, rule, "see verl's ppo_trainer.yaml for what they mean") from error


def train(config: DictConfig, logs: Path) -> None:
    """Train in the Ray cluster that RAY_ADDRESS names, or in one of its own on this machine, which ends with the run.

    Args:
        config: The settings, checked.
        logs: A folder for this process's log, `driver.log`, and for those of a cluster of its own, `ray/`. One that was
            joined keeps the logs of its processes on its machines.

    Raises:
        ValueError: There is no cluster at the address.
        RuntimeError: What stopped the run; the whole traceback is in `driver.log`.
    """
    address = cluster.address_to_join()
    if address is not None:
        cluster.check_reachable(cluster.ADDRESS, address)
    config = config.copy()
    OmegaConf.update(config, "ray_kwargs.ray_init", _ray_init(config, address), merge=False)
    # What an earlier start was killed before removing.
    for notes in logs.parent.glob("*/leftovers.txt"):
        remove_noted(notes)
    logs.mkdir(parents=True)
    with (
        (logs / "driver.log").open("w", encoding="utf-8") as log,
        redirect_stdout(log),
        redirect_stderr(log),
        Leftovers(logs / "leftovers.txt"),
        Guard(),
    ):
        try:
            check(config)
            run_ppo(config, task_runner_class=ray.remote(num_cpus=1)(EpisodeTaskRunner))
        except ConnectionError as error:
            if address is None:
                raise
            raise cluster.not_there(cluster.ADDRESS, address, error) from error
        except RayTaskError as error:
            log.write(traceback.format_exc())
            raise RuntimeError(cluster.reason_of(error)) from error
        finally:
            if address is None:
                cluster.end(logs / "ray")
            else:
                ray.shutdown()


def _ray_init(config: DictConfig, address: str | None) -> dict[str, Any]:
    """What Ray is started with, or joined with."""
    settings: Any = OmegaConf.to_container(config.ray_kwargs.ray_init, resolve=True)
    if address is None:
        places = max(settings.get("num_cpus") or get_num_cpus(override_docker_cpu_warning=True), _places_needed(config))
        # Without the address Ray would join whatever cluster it finds on this machine.
        return {**settings, "address": "local", "num_cpus": places}
    runtime_env = settings["runtime_env"]
    told = {name: os.environ[name] for name in _TOLD if name in os.environ}
    # What there is to share out, the cluster's machines have said when they joined it.
    return {
        "address": address,
        "log_to_driver": settings["log_to_driver"],
        "logging_level": settings["logging_level"],
        "runtime_env": {**runtime_env, "env_vars": {**(runtime_env.get("env_vars") or {}), **told}},
    }


def _places_needed(config: DictConfig) -> int:
    """How many of Ray's CPUs a machine must have for a run: where one is missing Ray waits for ever and says nothing.

    They are places for processes and not cores: most processes wait for another one most of the time.
    """
    ranks = config.trainer.n_gpus_per_node * _CPUS_OF_A_RANK
    # What belongs to no rank may all come to one machine: this trainer, its queue and the segmenters.
    queue = 1 + config.transfer_queue.backend.SimpleStorage.num_data_storage_units
    segmenters = math.ceil(config.segmenter.num_actors * config.segmenter.num_cpus)
    # vLLM's servers and what runs episodes keep none, but Ray starts them only where one is free.
    free = 1
    return int(ranks + 1 + queue + segmenters + free)


def _check_places(config: DictConfig, nodes: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a cluster in which Ray would wait for ever for what no machine has."""
    gpus, cpus, machines = config.trainer.n_gpus_per_node, _places_needed(config), config.trainer.nnodes
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    fit = sum(there.get("GPU", 0) >= gpus and there.get("CPU", 0) >= cpus for there in alive)
    if fit < machines:
        having = ", ".join(f"{there.get('GPU', 0):g} and {there.get('CPU', 0):g}" for there in alive)
        rule = f"needs as many machines with {gpus} of Ray's GPUs and {cpus} of its CPUs; the cluster's have {having}"
        fix = "start Ray with more (ray start --num-cpus=N: places for processes, not cores), or use fewer GPUs"
        raise invalid("trainer.nnodes", machines, rule, fix)
