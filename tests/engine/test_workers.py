"""What becomes of rollouts that fail, in the worker and the agent loop that training has, without verl's own part."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf
from verl.experimental.agent_loop.agent_loop import AgentLoopOutput
from verl.workers.rollout.replica import TokenOutput

from verl_socio.answer import Prompt
from verl_socio.chat import ChatModel
from verl_socio.data import load_samples
from verl_socio.data.sample import ImageRef, Sample
from verl_socio.engine import workers
from verl_socio.engine.agent_loop import EpisodeAgentLoop
from verl_socio.engine.group import Group, Host, current_group
from verl_socio.engine.report import Report
from verl_socio.masks import Masks, SegmentationError
from verl_socio.recipes import Recipe
from verl_socio.segment.box_segmenter import BoxSegmenter
from verl_socio.train.settings import resolve

SHIPPED = Path(__file__).parents[2] / "configs" / "recipe" / "socioreasoner.yaml"
# All marks for the place, half of them, none.
BOXES = [[5, 10, 25, 30], [14, 10, 34, 30], [40, 5, 60, 20]]


class FailsLeft(BoxSegmenter):
    """Fails for boxes at the left edge, where the first of the three lies in any frame."""

    async def segment(self, image: ImageRef, prompts: Sequence[Prompt]) -> Masks:
        if any(prompt.box_xyxy is not None and prompt.box_xyxy[0] < 8 for prompt in prompts):
            raise SegmentationError(image.uri, "out of memory")
        return await super().segment(image, prompts)


class Server:
    """An LLM server that always names one box, or is gone."""

    def __init__(self, chat: ChatModel, box_xyxy: Sequence[int] | None) -> None:
        self.chat, self.box_xyxy = chat, box_xyxy

    async def generate(self, prompt_ids: list[int], **_: Any) -> TokenOutput:
        if self.box_xyxy is None:
            raise ConnectionError("server gone")
        x, y = self.box_xyxy[:2]
        item = {"bbox_2d": list(self.box_xyxy), "points": [[x + 2, y + 2], [x + 5, y + 5]]}
        ids = self.chat.answer_ids(f"<answer>{json.dumps([item])}</answer>")
        return TokenOutput(token_ids=ids, log_probs=[0.0] * len(ids))


def rollouts(
    chat: ChatModel,
    sample: Sample,
    boxes: Sequence[Sequence[int] | None],
    segmenter: BoxSegmenter,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[list[Any], dict[int, list[AgentLoopOutput]], Report]:
    """One rollout a box: how each call ended, the outputs of those that ended well, and what the worker reports."""
    outputs: dict[int, list[AgentLoopOutput]] = {}
    config = resolve("embedded", [])

    async def run(self: Any, sampling_params: Any, trajectory: Any, *, index: int) -> None:
        loop = object.__new__(EpisodeAgentLoop)
        loop.rollout_config = SimpleNamespace(prompt_length=2048, response_length=192)
        loop.server_manager = Server(chat, boxes[index])
        loop.config = config
        outputs[index] = await loop.run(sampling_params, sample=sample.to_row())

    monkeypatch.setattr(workers._AgentLoopWorker, "_run_agent_loop", run)
    worker = object.__new__(workers.EpisodeWorker)
    worker.config, worker._report = OmegaConf.create({"trainer": {"picture_freq": 0}}), Report()
    shipped: Any = OmegaConf.to_container(OmegaConf.load(SHIPPED), resolve=True)
    recipe = Recipe.from_config({**shipped, "refine_from": "best"})

    async def question() -> tuple[list[Any], Report]:
        current_group.set(Group(Host(recipe, chat, segmenter), len(boxes)))
        tasks = [worker._run_agent_loop({}, {"validate": False, "step": 1}, index=index) for index in range(len(boxes))]
        ended = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), timeout=60)
        return ended, await worker.take_report()

    ended, report = asyncio.run(question())
    assert asyncio.run(worker.take_report()) == Report(), "what was reported is not reported again"
    return ended, outputs, report


@pytest.fixture
def sample(tiny_data: Path) -> Sample:
    return load_samples(str(tiny_data), "train")[0]


def test_an_episode_that_the_segmenter_fails_is_left_out_and_counted(
    tiny_chat: ChatModel, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, outputs, report = rollouts(tiny_chat, sample, BOXES, FailsLeft(), monkeypatch)
    assert ended == [None] * 3, "verl is told of no error"
    assert (report.episodes, len(report.failures), report.errors) == (3, 1, [])
    assert "out of memory" in report.failures[0]
    assert outputs.keys() == {1, 2} and all(len(of_one) == 2 for of_one in outputs.values())
    for of_one in outputs.values():
        prompt = tiny_chat.decode(of_one[1].prompt_ids)
        assert f'[{{"bbox_2d": {BOXES[1]}' in prompt, "the best of those that are left"


def test_any_other_error_is_reported_and_holds_nobody_up(
    tiny_chat: ChatModel, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, outputs, report = rollouts(tiny_chat, sample, [*BOXES[:2], None], BoxSegmenter(), monkeypatch)
    assert [type(each) for each in ended] == [type(None), type(None), ConnectionError]
    assert (report.episodes, report.failures, len(report.errors)) == (3, [], 1)
    assert "ConnectionError: server gone" in report.errors[0] and "Traceback" in report.errors[0]
    assert outputs.keys() == {0, 1}
