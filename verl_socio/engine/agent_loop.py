"""The agent loop that hosts an episode inside verl: one output a stage."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import torch
from omegaconf import DictConfig
from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopMetrics, AgentLoopOutput, register
from verl.utils.torch_dtypes import PrecisionType
from verl.workers.rollout.replica import TokenOutput

from verl_socio.chat import Encoded
from verl_socio.data.sample import Sample
from verl_socio.engine.group import AGENT_NAME, Group, current_group
from verl_socio.engine.record import stage_record
from verl_socio.episode import Episode, Reply, StageResult, Turn, run_episode
from verl_socio.errors import invalid


@dataclass(frozen=True)
class _Tokens:
    """What training needs of one reply."""

    encoded: Encoded
    output: TokenOutput
    seconds: float


@register(AGENT_NAME)
class EpisodeAgentLoop(AgentLoopBase):
    """Hosts `run_episode`: the model answers through verl's LLM server, masks come from the worker's segmenter.

    verl builds one of these for every rollout, so everything heavy (recipe, processor, segmenter) belongs to the worker
    and comes with the group.

    Each stage becomes one `AgentLoopOutput`, a fresh single-turn chat. For a stage whose prompt has P tokens and whose
    answer has R tokens:
        prompt_ids     P ids: <|im_start|> ... <|vision_start|> image_pad x k <|vision_end|> ... assistant
        response_ids   R ids, all written by the model
        response_mask  R ones: there are no environment tokens inside an answer; feedback is part of the next prompt
        reward_score   this stage's own reward
    """

    async def run(self, sampling_params: dict[str, Any], **kwargs: Any) -> list[AgentLoopOutput]:
        """Run one episode.

        Args:
            sampling_params: Temperature, top-p and top-k for vLLM.
            **kwargs: The row of the data set; `sample` holds the strings of a `Sample`.

        Returns:
            One output a stage.

        Raises:
            SegmentationError: The segmenter failed; the worker leaves the episode out and counts it.
            ValueError: A prompt is longer than `data.max_prompt_length`, or an image cannot be read.
        """
        group = current_group.get()
        host = group.host

        async def generate(turn: Turn) -> Reply:
            return await self._generate(group, turn, sampling_params)

        try:
            episode = await run_episode(
                await group.scene(Sample.from_row(kwargs["sample"]), with_target=True),
                host.recipe,
                generate=generate,
                segmenter=host.segmenter,
                frame_of=host.chat.frame_of,
                choose=group.best if host.recipe.refine_from == "best" else None,
            )
        finally:
            await group.leave()
        group.episodes.append(episode)
        return [self._output(episode, result) for result in episode.stages]

    async def _generate(self, group: Group, turn: Turn, sampling_params: dict[str, Any]) -> Reply:
        started = time.monotonic()
        chat, stage = group.host.chat, group.host.recipe.stages[turn.stage]

        def encode() -> Encoded:
            return as_the_actor_reads(chat.encode(turn), self.config)

        encoded = await (group.first_turn(encode) if turn.stage == 0 else asyncio.to_thread(encode))
        budget = self.rollout_config.prompt_length
        if len(encoded.prompt_ids) > budget:
            rule = f"is too small: the prompt of stage {stage.name} has {len(encoded.prompt_ids)} tokens"
            raise invalid("data.max_prompt_length", budget, rule, "raise it or show smaller images")
        output = await self.server_manager.generate(
            request_id=uuid4().hex,
            prompt_ids=encoded.prompt_ids,
            sampling_params=dict(sampling_params),
            image_data=list(turn.images),
        )
        tokens = _Tokens(encoded, output, time.monotonic() - started)
        return Reply(chat.decode(output.token_ids), tokens)

    def _output(self, episode: Episode, result: StageResult) -> AgentLoopOutput:
        tokens: _Tokens = result.reply.record
        assert result.reward is not None, "training scenes have a target"
        length = self.rollout_config.response_length
        response_ids = tokens.output.token_ids[:length]
        log_probs = tokens.output.log_probs
        return AgentLoopOutput(
            prompt_ids=tokens.encoded.prompt_ids,
            response_ids=response_ids,
            response_mask=[1] * len(response_ids),
            response_logprobs=log_probs[:length] if log_probs else None,
            multi_modal_data={"inputs": tokens.encoded.features},
            reward_score=result.reward.total,
            num_turns=2,
            metrics=AgentLoopMetrics(generate_sequences=tokens.seconds),
            extra_fields={**tokens.output.extra_fields, "reward_extra_info": stage_record(episode, result)},
        )


def as_the_actor_reads(encoded: Encoded, config: DictConfig) -> Encoded:
    """A turn with its patches in the precision that FSDP casts the actor's and the reference's inputs to.

    In bfloat16 the same numbers reach the model, and a step's pictures, which wait in the host's memory until they are
    learnt from, take half the room.
    """
    precision = config.actor_rollout_ref.actor.fsdp_config.mixed_precision
    # verl's own choice where none is named.
    dtype = PrecisionType.to_dtype(precision.param_dtype if precision else "bf16")
    features = {**encoded.features, "pixel_values": encoded.features["pixel_values"].to(dtype)}
    return replace(encoded, features=features)


def training_features(output: AgentLoopOutput) -> dict[str, torch.Tensor]:
    """What the actor's forward pass needs of a stage's images: made once, when the prompt was tokenized.

    Returns:
        `pixel_values`, `image_grid_thw` and `images_seqlens` (patches an image), and `mm_token_type_ids` where the
        processor makes them.
    """
    assert output.multi_modal_data is not None
    features = dict(output.multi_modal_data["inputs"])
    grid = features["image_grid_thw"]
    features["images_seqlens"] = torch.repeat_interleave(grid[:, 1] * grid[:, 2], grid[:, 0])
    return features
