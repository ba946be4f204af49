"""What the rollouts of a question share, with real episodes: scripted answers, masks that are the boxes."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from verl_socio.answer import Prompt
from verl_socio.chat import Encoded
from verl_socio.data import load_samples
from verl_socio.data.sample import ImageRef, Sample
from verl_socio.engine.group import Group, Host, current_group
from verl_socio.episode import Episode, Reply, Scene, Turn, run_episode
from verl_socio.geometry import Frame
from verl_socio.masks import Masks, SegmentationError
from verl_socio.recipes import Recipe
from verl_socio.segment.box_segmenter import BoxSegmenter

SHIPPED = Path(__file__).parents[2] / "configs" / "recipe" / "socioreasoner.yaml"
TRUE_BOX = (5, 10, 25, 30)
# Half the marks for the place, all of them, none, and nothing readable.
ANSWERS = [[14, 10, 34, 30], [5, 10, 25, 30], [40, 5, 60, 20], None]


def recipe(num_stages: int = 2) -> Recipe:
    config = OmegaConf.to_container(OmegaConf.load(SHIPPED), resolve=True)
    for number in range(3, num_stages + 1):
        config["stages"][f"stage_{number}"] = config["stages"]["refine"]
    return Recipe.from_config({**config, "refine_from": "best"})


class FailsAt(BoxSegmenter):
    """Fails for one box."""

    def __init__(self, box_xyxy: tuple[int, ...]) -> None:
        super().__init__()
        self.box_xyxy = box_xyxy

    async def segment(self, image: ImageRef, prompts: Sequence[Prompt]) -> Masks:
        if any(prompt.box_xyxy == self.box_xyxy for prompt in prompts):
            raise SegmentationError(image.uri, "out of memory")
        return await super().segment(image, prompts)


@pytest.fixture
def sample(tiny_data: Path) -> Sample:
    return load_samples(str(tiny_data), "train")[0]


def answer(box: Sequence[int] | None, turn: Turn) -> Reply:
    if box is None:
        return Reply("I see nothing.")
    item: dict[str, object] = {"bbox_2d": list(box)}
    if turn.stage:
        item["points"] = [[box[0] + 2, box[1] + 2], [box[0] + 5, box[1] + 5]]
    return Reply(f"<think></think><answer>{json.dumps([item])}</answer>")


def play(
    group: Group, sample: Sample, boxes: Sequence[Sequence[int] | None], before: Callable[[int, Turn], Awaitable[None]]
) -> list[Episode | BaseException]:
    """Run one rollout a box, all answering with that box in every stage, and give what became of each."""

    async def rollout(index: int) -> Episode:
        async def generate(turn: Turn) -> Reply:
            await before(index, turn)
            return answer(boxes[index], turn)

        try:
            return await run_episode(
                await group.scene(sample, with_target=True),
                group.host.recipe,
                generate=generate,
                segmenter=group.host.segmenter,
                frame_of=Frame.of_image,
                choose=group.best,
            )
        finally:
            await group.leave()

    async def all_of_them() -> list[Episode | BaseException]:
        tasks = [rollout(index) for index in range(len(boxes))]
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), timeout=30)

    return asyncio.run(all_of_them())


async def at_once(index: int, turn: Turn) -> None:
    pass


def make_group(tiny_chat, size: int, num_stages: int = 2, segmenter=None) -> Group:
    return Group(Host(recipe(num_stages), tiny_chat, segmenter or BoxSegmenter()), size)


def test_all_rollouts_refine_the_answer_with_the_highest_reward(tiny_chat, sample: Sample) -> None:
    episodes = play(make_group(tiny_chat, 4), sample, ANSWERS, at_once)
    totals = [episode.stages[0].reward.total for episode in episodes]
    assert totals[1] == max(totals) > totals[0] > totals[2] > totals[3]
    for episode in episodes:
        assert 'Its boxes were: [{"bbox_2d": [5, 10, 25, 30]}]' in episode.stages[1].turn.text
    assert episodes[1].stages[1].reward.parts["refine_format"] == 1.0
    assert episodes[2].stages[1].reward.parts["refine_format"] == 0.0, "its own box is not the one it was shown"


def test_the_best_is_waited_for(tiny_chat, sample: Sample) -> None:
    stages: list[tuple[int, int]] = []

    async def last_is_best(index: int, turn: Turn) -> None:
        if index == 1 and turn.stage == 0:
            await asyncio.sleep(0.05)
        stages.append((turn.stage, index))

    episodes = play(make_group(tiny_chat, 4), sample, ANSWERS, last_is_best)
    assert stages[3] == (0, 1)
    assert all(stage == 1 for stage, _ in stages[4:]), "no second stage before the last first one"
    assert all("[5, 10, 25, 30]" in episode.stages[1].turn.text for episode in episodes)


@pytest.mark.parametrize("late", [0, 1])
def test_a_failing_rollout_does_not_hold_the_others_up(tiny_chat, sample: Sample, late: int) -> None:
    async def wait(index: int, turn: Turn) -> None:
        await asyncio.sleep(0.02 if index == late else 0)

    group = make_group(tiny_chat, 4, segmenter=FailsAt(TRUE_BOX))
    episodes = play(group, sample, ANSWERS, wait)
    assert isinstance(episodes[1], SegmentationError)
    others = [episode for episode in episodes if isinstance(episode, Episode)]
    assert len(others) == 3
    for episode in others:
        assert 'Its boxes were: [{"bbox_2d": [14, 10, 34, 30]}]' in episode.stages[1].turn.text, "the best of the rest"


def test_any_other_error_does_not_hold_the_others_up_either(tiny_chat, sample: Sample) -> None:
    async def fail(index: int, turn: Turn) -> None:
        if index == 1:
            raise ConnectionError("server gone")

    episodes = play(make_group(tiny_chat, 4), sample, ANSWERS, fail)
    assert [type(episode) for episode in episodes] == [Episode, ConnectionError, Episode, Episode]


def test_a_failure_after_the_choice_does_not_hold_up_the_choice_of_the_next_stage(tiny_chat, sample: Sample) -> None:
    async def fail(index: int, turn: Turn) -> None:
        if (index, turn.stage) == (0, 1):
            raise ConnectionError("server gone")

    episodes = play(make_group(tiny_chat, 4, num_stages=3), sample, ANSWERS, fail)
    assert [type(episode) for episode in episodes] == [ConnectionError, Episode, Episode, Episode]
    for episode in episodes[1:]:
        assert len(episode.stages) == 3
        assert '[{"bbox_2d": [5, 10, 25, 30], "points": [[7, 12], [10, 15]]}]' in episode.stages[2].turn.text


def test_a_failing_image_fails_every_rollout(tiny_chat, sample: Sample) -> None:
    gone = Sample("x", "Zoo", ImageRef("/no/such.png"), None, sample.target, "name")
    group = make_group(tiny_chat, 3)
    results = play(group, gone, ANSWERS[:3], at_once)
    assert [type(result) for result in results] == [ValueError] * 3


def test_images_are_read_and_the_first_turn_is_encoded_once(tiny_chat, sample: Sample) -> None:
    group = make_group(tiny_chat, 3)
    encodes: list[Turn] = []

    async def rollout() -> tuple[Scene, Encoded]:
        scene = await group.scene(sample, with_target=True)
        turn = Turn(0, (scene.images["satellite"],), "Find the zoo.")

        def encode() -> Encoded:
            encodes.append(turn)
            return tiny_chat.encode(turn)

        return scene, await group.first_turn(encode)

    async def three() -> list[tuple[Scene, Encoded]]:
        return await asyncio.gather(*(rollout() for _ in range(3)))

    scenes, encoded = zip(*asyncio.run(three()), strict=True)
    assert len(encodes) == 1
    assert all(scene is scenes[0] for scene in scenes)
    assert all(each is encoded[0] for each in encoded)


def test_without_rewards_the_segmenters_own_score_decides(tiny_chat, sample: Sample) -> None:
    class Scores(BoxSegmenter):
        async def segment(self, image: ImageRef, prompts: Sequence[Prompt]) -> Masks:
            masks = await super().segment(image, prompts)
            return Masks(masks.masks_nhw, masks.predicted_iou * prompts[0].box_xyxy[0] / 100)

    group = make_group(tiny_chat, 4, segmenter=Scores())
    group.scene = lambda sample, with_target: asyncio.to_thread(Scene.load, sample, with_target=False)
    episodes = play(group, sample, ANSWERS, at_once)
    assert all("[40, 5, 60, 20]" in episode.stages[1].turn.text for episode in episodes)


def test_tasks_of_one_question_find_their_own_group(tiny_chat) -> None:
    async def question(number: int) -> list[int]:
        current_group.set(make_group(tiny_chat, number))

        async def rollout() -> int:
            await asyncio.sleep(0)
            return current_group.get().size

        return list(await asyncio.gather(*(asyncio.create_task(rollout()) for _ in range(2))))

    async def both() -> list[list[int]]:
        return list(await asyncio.gather(*(asyncio.create_task(question(number)) for number in (3, 5))))

    assert asyncio.run(both()) == [[3, 3], [5, 5]]
