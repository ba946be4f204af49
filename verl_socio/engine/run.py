"""Starts verl with the project's trainer: Ray, the segmenters, the hybrid engine."""

from __future__ import annotations

import shutil
from pathlib import Path

import ray
from omegaconf import DictConfig, OmegaConf
from verl.trainer.main_ppo import TaskRunnerV1, run_ppo
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import validate_config
from verl.utils.device import auto_set_device

from verl_socio.segment import SegmenterConfig
from verl_socio.segment.pool import SegmenterPool

# verl decorates the class where it is defined; this is the class underneath, which can be extended.
_TaskRunner = TaskRunnerV1.__ray_metadata__.modified_class


class EpisodeTaskRunner(_TaskRunner):
    """verl's single controller with the project's trainer and segmenters."""

    def run(self, config: DictConfig) -> None:
        """Train until the configured step."""
        import verl_socio.engine.trainer  # noqa: F401  registers itself

        # Kept here, in the process that outlives the workers: the actors end with it.
        self._segmenters = SegmenterPool.create(SegmenterConfig(**OmegaConf.to_container(config.segmenter, resolve=True)))
        super().run(config)


def check(config: DictConfig) -> None:
    """Let verl check its own settings."""
    auto_set_device(config)
    validate_config(
        config=config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config)
    )


def train(config: DictConfig, keep_logs_in: Path) -> None:
    """Train in a Ray cluster of its own, which ends with the run.

    Args:
        config: The settings, checked.
        keep_logs_in: A folder that does not exist yet; the logs of all processes are copied to it.

    Raises:
        ray.exceptions.RayTaskError: Whatever stopped the run.
    """
    try:
        run_ppo(config, task_runner_class=ray.remote(num_cpus=1)(EpisodeTaskRunner))
    finally:
        if ray.is_initialized():
            context = ray.get_runtime_context()
            logs = Path(context.get_temp_dir()) / context.get_session_name() / "logs"
            ray.shutdown()
            shutil.copytree(logs, keep_logs_in, ignore=shutil.ignore_patterns("old"))
