"""Starts verl with the project's trainer: Ray, the segmenters, the hybrid engine."""

from __future__ import annotations

import traceback
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import ray
from omegaconf import DictConfig, OmegaConf
from ray.exceptions import RayTaskError
from verl.trainer.main_ppo import TaskRunnerV1, run_ppo
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import validate_config
from verl.utils.device import auto_set_device

from verl_socio import cluster
from verl_socio.engine.groups import check_groups
from verl_socio.engine.leftovers import Leftovers, remove_noted
from verl_socio.guard import Guard
from verl_socio.segment import SegmenterConfig
from verl_socio.segment.pool import SegmenterPool

# verl decorates the class where it is defined; this is the class underneath, which can be extended.
_TaskRunner: Any = TaskRunnerV1.__ray_metadata__.modified_class


class EpisodeTaskRunner(_TaskRunner):
    """verl's single controller with the project's trainer and segmenters."""

    def run(self, config: DictConfig) -> None:
        """Train until the configured step."""
        import verl_socio.engine.trainer  # noqa: F401  registers itself

        # Kept here, in the process that outlives the workers: the actors end with it.
        settings: Any = OmegaConf.to_container(config.segmenter, resolve=True)
        self._segmenters = SegmenterPool.create(SegmenterConfig(**settings))
        super().run(config)


def check(config: DictConfig) -> None:
    """Let verl check its own settings.

    Raises:
        ValueError: A key of a group that verl makes a class of is unknown to that class, or has a value it refuses.
    """
    auto_set_device(config)
    check_groups(config, ("algorithm", "actor_rollout_ref.actor", "actor_rollout_ref.rollout"), "ppo_trainer.yaml")
    validate_config(config=config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))


def train(config: DictConfig, logs: Path) -> None:
    """Train in a Ray cluster of its own, which ends with the run.

    Args:
        config: The settings, checked.
        logs: A folder for the logs of all processes; this one's is `driver.log`.

    Raises:
        RuntimeError: What stopped the run; the whole traceback is in `driver.log`.
    """
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
        except RayTaskError as error:
            log.write(traceback.format_exc())
            raise RuntimeError(cluster.reason_of(error)) from error
        finally:
            cluster.end(logs / "ray")
