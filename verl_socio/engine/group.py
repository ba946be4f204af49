"""What the rollouts of one question share while they run: its images, its encoded first turn, and the best answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from verl_socio.chat import ChatModel, Encoded
from verl_socio.data.sample import Sample
from verl_socio.episode import Episode, Scene, Segment, StageResult
from verl_socio.recipes import Recipe

# Under which verl finds the agent loop that hosts an episode.
AGENT_NAME = "episode"


@dataclass(frozen=True)
class Host:
    """What an episode needs and a worker keeps: the recipe, the model's processor and the segmenter."""

    recipe: Recipe
    chat: ChatModel
    segmenter: Segment


@dataclass
class Group:
    """The rollouts of one question in one step.

    Attributes:
        host: What the worker keeps.
        size: How many rollouts there are.
        episodes: The finished ones.
        failures: Why the segmenter left out the others.
    """

    host: Host
    size: int
    episodes: list[Episode] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _once: dict[str, asyncio.Task[Any]] = field(default_factory=dict)
    _candidates: dict[int, list[StageResult]] = field(default_factory=dict)
    _ended: int = 0
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def scene(self, sample: Sample, *, with_target: bool) -> Scene:
        """The sample's images, read once for all rollouts."""
        scene: Scene = await self._shared(
            "scene", lambda: asyncio.to_thread(Scene.load, sample, with_target=with_target)
        )
        return scene

    async def first_turn(self, encode: Callable[[], Encoded]) -> Encoded:
        """The first turn, which is the same for all rollouts, encoded once."""
        encoded: Encoded = await self._shared("first turn", lambda: asyncio.to_thread(encode))
        return encoded

    async def best(self, result: StageResult) -> StageResult:
        """Wait until every rollout has finished the stage or failed; then the one with the highest reward.

        Rewards are compared, or the segmenter's own predicted IoU where there is no target.
        """
        candidates = self._candidates.setdefault(result.turn.stage, [])
        candidates.append(result)
        async with self._changed:
            self._changed.notify_all()
            # A rollout that ended without coming here must not be waited for; one that came ends only afterwards.
            await self._changed.wait_for(lambda: len(candidates) + self._ended >= self.size)
        return max(candidates, key=_merit)

    async def leave(self) -> None:
        """Count a rollout that ended, whether well or not."""
        async with self._changed:
            self._ended += 1
            self._changed.notify_all()

    async def _shared(self, name: str, make: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        if name not in self._once:
            self._once[name] = asyncio.create_task(make())
        return await asyncio.shield(self._once[name])


def _merit(result: StageResult) -> float:
    if result.reward is not None:
        return result.reward.total
    scores = result.predicted_iou
    return float(scores.mean()) if len(scores) else 0.0


# verl starts the rollouts of a question as tasks of one coroutine: they inherit its context, and with it their group.
current_group: ContextVar[Group] = ContextVar("current_group")
