"""The worker that runs episodes next to vLLM, and the manager that starts such workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ray
import torch
from omegaconf import OmegaConf
from verl.experimental.agent_loop import AgentLoopOutput
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, AgentLoopWorkerTQ

from verl_socio.chat import ChatModel
from verl_socio.engine.agent_loop import training_features
from verl_socio.engine.group import Group, Host, current_group
from verl_socio.engine.pictures import write_group_picture
from verl_socio.engine.report import Report
from verl_socio.engine.rows import session_of
from verl_socio.masks import SegmentationError
from verl_socio.recipes import Recipe
from verl_socio.segment.pool import SegmenterPool

_Row = dict[str, Any]
# verl decorates the class where it is defined; this is the class underneath, which can be extended.
_AgentLoopWorker: Any = AgentLoopWorkerTQ.__ray_metadata__.modified_class


class EpisodeWorker(_AgentLoopWorker):
    """Runs the rollouts of each question as one group and hands every stage's row on with its own reward."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        config = self.config
        recipe = Recipe.from_config(OmegaConf.to_container(config.recipe, resolve=True))
        chat = ChatModel(self.processor, self.hf_model_type, config.frame)
        self._host = Host(recipe, chat, SegmenterPool.find())
        self._report = Report()

    async def _run_prompt(self, prompt: _Row, sampling_params: _Row, trajectory: _Row, trace: bool = False) -> None:
        rollout = self.config.actor_rollout_ref.rollout
        size = rollout.val_kwargs.n if trajectory["validate"] else rollout.n
        current_group.set(Group(self._host, size))
        await super()._run_prompt(prompt, sampling_params, trajectory, trace)

    async def _run_agent_loop(self, sampling_params: _Row, trajectory: _Row, **kwargs: Any) -> None:
        group = current_group.get()
        with self._report as report:
            report.episodes += 1
            try:
                await super()._run_agent_loop(sampling_params, trajectory, **kwargs)
            except SegmentationError as error:
                # Left out and counted: a failure is no reward.
                group.failures.append(str(error))
                report.failures.append(str(error))
            # Before verl hears that the group is finished: the trainer reads the report right after.
            if self._is_shown(trajectory) and len(group.episodes) + len(group.failures) == group.size:
                write_group_picture(group, Path(self.config.trainer.picture_dir), trajectory["step"])

    def _is_shown(self, trajectory: _Row) -> bool:
        frequency = self.config.trainer.picture_freq
        return frequency > 0 and trajectory["step"] % frequency == 0 and not trajectory["validate"]

    async def _agent_loop_postprocess(
        self, output: list[AgentLoopOutput], validate: bool, *, session_id: int, **kwargs: Any
    ) -> None:
        for stage, row in enumerate(output):
            session = session_of(session_id, stage, len(self._host.recipe.stages))
            await super()._agent_loop_postprocess([row], validate, session_id=session, **kwargs)

    def _compute_multi_modal_inputs(self, output: AgentLoopOutput, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
        return training_features(output)

    async def take_report(self) -> Report:
        """What happened since the last call."""
        report, self._report = self._report, Report()
        return report


class EpisodeManager(AgentLoopManagerTQ):
    """Starts `EpisodeWorker`s (`actor_rollout_ref.rollout.agent.agent_loop_manager_class`)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(EpisodeWorker)

    def take_report(self) -> Report:
        """The report of all workers since the last call."""
        return sum(ray.get([worker.take_report.remote() for worker in self.agent_loop_workers]), Report())
