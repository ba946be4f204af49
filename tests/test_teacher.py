"""What is taught, judged by the episode itself: its parser, its rewards, its prompts."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from verl_socio.answer import Grammar, Status, parse
from verl_socio.data import load_samples
from verl_socio.episode import Episode, Reply, Scene, Turn, run_episode
from verl_socio.geometry import Frame, VisionGrid, model_frame
from verl_socio.recipes import Recipe
from verl_socio.rewards import Target
from verl_socio.segment.box_segmenter import BoxSegmenter
from verl_socio.teacher import Lesson, lesson, right_answer
from verl_socio.train.settings import shipped_recipe

GRID = VisionGrid(patch_size=14, merge_size=2, min_pixels=3136, max_pixels=12845056)
TWO_STAGES = shipped_recipe("socioreasoner")


def frame_of(size_wh: tuple[int, int]) -> Frame:
    return model_frame("qwen2_5_vl", size_wh, GRID)


def lessons(scene: Scene, recipe: Recipe, seed: int = 0) -> list[Lesson]:
    return [
        asyncio.run(lesson(scene, recipe, index, segmenter=BoxSegmenter(), frame_of=frame_of, seed=seed))
        for index in range(len(recipe.stages))
    ]


def play(scene: Scene, recipe: Recipe, texts: list[str]) -> Episode:
    async def generate(turn: Turn) -> Reply:
        return Reply(texts[turn.stage])

    return asyncio.run(run_episode(scene, recipe, generate=generate, segmenter=BoxSegmenter(), frame_of=frame_of))


@pytest.fixture
def make_scene(tmp_path: Path, write_sample: Callable[..., Path]) -> Callable[..., Scene]:
    def make(*boxes_xyxy: tuple[int, int, int, int], size_wh: tuple[int, int] = (100, 70)) -> Scene:
        write_sample(tmp_path, "s", size_wh=size_wh, boxes_xyxy=boxes_xyxy)
        return Scene.load(load_samples(str(tmp_path), "train")[0], with_target=True)

    return make


@pytest.mark.parametrize("name", ["socioreasoner", "one_stage"])
def test_the_lessons_of_all_stages_are_one_episode_that_earns_all_but_the_thought(
    make_scene: Callable[..., Scene], name: str
) -> None:
    scene, recipe = make_scene((5, 10, 30, 40), (60, 20, 90, 65)), shipped_recipe(name)
    taught = lessons(scene, recipe)
    episode = play(scene, recipe, [each.answer for each in taught])
    for each, result, stage in zip(taught, episode.stages, recipe.stages, strict=True):
        assert each.turn == result.turn, "words and pictures"
        assert result.reward is not None
        best = {term.term: float(term.term != "think_format") for term in stage.reward.terms}
        assert result.reward.parts == pytest.approx({**best, "box_accuracy": 2.0} if "box_accuracy" in best else best)
        assert not result.answer.thinking and result.answer.status is Status.OK


def test_a_stage_is_taught_without_asking_for_its_own_masks(make_scene: Callable[..., Scene]) -> None:
    scene, segmenter = make_scene((5, 10, 30, 40)), BoxSegmenter()
    for index, requests in enumerate((0, 1)):
        asyncio.run(lesson(scene, TWO_STAGES, index, segmenter=segmenter, frame_of=frame_of, seed=0))
        assert asyncio.run(segmenter.counters(reset=True)).requests == requests


def test_points_depend_on_seed_and_sample_and_on_nothing_else(make_scene: Callable[..., Scene]) -> None:
    scene = make_scene((5, 10, 45, 60))
    other = replace(scene, sample=replace(scene.sample, id="t"))
    answers = [lessons(each, TWO_STAGES, seed)[1].answer for each, seed in ((scene, 0), (scene, 1), (other, 0))]
    assert len(set(answers)) == 3
    assert lessons(scene, TWO_STAGES)[1].answer == answers[0]


def test_a_later_stage_keeps_the_boxes_that_it_is_told_and_no_more(make_scene: Callable[..., Scene]) -> None:
    scene = make_scene((2, 2, 20, 20), (30, 2, 50, 20), (60, 2, 80, 20))
    first, second = lessons(scene, replace(TWO_STAGES, told_items=2))
    assert len(parse(first.answer, TWO_STAGES.stages[0].grammar).prompts) == 3
    told = next(line for line in second.turn.text.splitlines() if line.startswith("Its boxes were: "))
    boxes = [item["bbox_2d"] for item in json.loads(told.removeprefix("Its boxes were: "))]
    prompts = parse(second.answer, TWO_STAGES.stages[1].grammar).prompts
    assert [list(prompt.box_xyxy) for prompt in prompts] == boxes and len(boxes) == 2


def answer_of(mask_hw: np.ndarray, grammar: Grammar, points: int = 2, most: int = 100) -> str:
    kinds = {"boxes": grammar.box is not None, "points": grammar.has_points}
    segment_with = tuple(name for name, there in kinds.items() if there)
    stage = replace(TWO_STAGES.stages[1], grammar=grammar, points=points, segment_with=segment_with)
    frame = Frame.of_image(mask_hw.shape[::-1])
    return right_answer(Target.from_mask(mask_hw), stage, frame, most, np.random.default_rng(0))


def two_rooms() -> np.ndarray:
    mask_hw = np.zeros((40, 60), dtype=bool)
    mask_hw[5:15, 5:20] = mask_hw[20:35, 30:55] = True
    return mask_hw


def test_every_form_of_answer_is_written() -> None:
    boxes = [(5.0, 5.0, 20.0, 15.0), (30.0, 20.0, 55.0, 35.0)]
    mask_hw = two_rooms()
    only_boxes = parse(answer_of(mask_hw, Grammar()), Grammar())
    assert [prompt.box_xyxy for prompt in only_boxes.prompts] == boxes and not only_boxes.prompts[0].points_xy
    one_point = Grammar(point_keys=("point_2d",))
    assert all(len(prompt.points_xy) == 1 for prompt in parse(answer_of(mask_hw, one_point), one_point).prompts)
    only_points = Grammar(box=None, points="points", negative_points="off")
    assert all(
        len(prompt.positive_xy) == 3 for prompt in parse(answer_of(mask_hw, only_points, 3), only_points).prompts
    )
    one_object = Grammar(box="bbox", point_keys=("a", "b"), single=True)
    (both,) = parse(answer_of(mask_hw, one_object), one_object).prompts
    assert both.box_xyxy == (5.0, 5.0, 55.0, 35.0) and len(both.points_xy) == 2


@pytest.mark.parametrize(("single", "text"), [(False, "<answer>[]</answer>"), (True, "<answer>{}</answer>")])
def test_where_nothing_is_the_answer_is_empty(single: bool, text: str) -> None:
    grammar = Grammar(points="points", single=single)
    answer = answer_of(np.zeros((20, 20), dtype=bool), grammar)
    assert answer == text and parse(answer, grammar).status is Status.EMPTY


@settings(max_examples=60, deadline=None)
@given(
    corners=st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 30), st.integers(3, 25), st.integers(3, 25)),
        min_size=1,
        max_size=5,
    ),
    count=st.integers(1, 4),
    seed=st.integers(0, 2**32),
)
def test_points_lie_on_their_own_region_and_strictly_inside_its_box(
    corners: list[tuple[int, int, int, int]], count: int, seed: int
) -> None:
    mask_hw = np.zeros((48, 64), dtype=bool)
    for x, y, width, height in corners:
        mask_hw[y : y + height, x : x + width] = True
    target = Target.from_mask(mask_hw)
    assume(len(target.boxes_xyxy))
    grammar = Grammar(points="points")
    stage = replace(TWO_STAGES.stages[1], grammar=grammar, points=count)
    image = Frame.of_image((64, 48))
    answer = parse(right_answer(target, stage, image, 100, np.random.default_rng(seed)), grammar)
    assert np.array_equal([prompt.box_xyxy for prompt in answer.prompts], target.boxes_xyxy)
    assert all(answer.item_exact)
    for prompt in answer.prompts:
        left, top, right, bottom = prompt.box_xyxy
        assert len(set(prompt.points_xy)) == len(prompt.points_xy) == count or (right - left) * (bottom - top) < 40
        for x, y in prompt.points_xy:
            assert left < x < right and top < y < bottom and mask_hw[int(y), int(x)]


ONE_POINT = Grammar(point_keys=("point_2d",))


def taught_of(target: Target, grammar: Grammar = ONE_POINT) -> list[tuple[object, tuple[tuple[float, float], ...]]]:
    stage = replace(TWO_STAGES.stages[0], grammar=grammar, segment_with=("boxes", "points"))
    frame = Frame.of_image(target.mask_hw.shape[::-1])
    answer = parse(right_answer(target, stage, frame, 100, np.random.default_rng(0)), grammar)
    return [(prompt.box_xyxy, prompt.points_xy) for prompt in answer.prompts]


def test_objects_that_the_data_set_names_get_points_of_their_own_in_its_order() -> None:
    boxes_xyxy = np.array([(30, 20, 55, 35), (5, 5, 20, 15)], dtype=np.float64)
    target = Target(two_rooms(), boxes_xyxy)
    taught = taught_of(target)
    assert [box for box, _ in taught] == [(30.0, 20.0, 55.0, 35.0), (5.0, 5.0, 20.0, 15.0)]
    for (left, top, right, bottom), ((x, y),) in taught:
        assert left < x < right and top < y < bottom


def test_an_object_in_two_parts_and_one_beside_the_mask_shift_no_other() -> None:
    mask_hw = two_rooms()
    mask_hw[:, 40:42] = False
    boxes_xyxy = np.array([(0, 36, 10, 40), (30, 20, 55, 35), (5, 5, 20, 15)], dtype=np.float64)
    nowhere, split, plain = (points for _, points in taught_of(Target(mask_hw, boxes_xyxy)))
    assert nowhere == ((5.0, 38.0),), "the middle of a box that holds nothing of the mask"
    for (x, y), (left, top, right, bottom) in zip((split[0], plain[0]), boxes_xyxy[1:].tolist(), strict=True):
        assert left < x < right and top < y < bottom and mask_hw[int(y), int(x)]


def test_points_that_the_data_set_brings_are_taught_where_there_are_enough() -> None:
    boxes_xyxy = np.array([(30, 20, 55, 35), (5, 5, 20, 15)], dtype=np.float64)
    given = np.array([[(31, 21)], [(6, 6)]], dtype=np.float64)
    target = Target(two_rooms(), boxes_xyxy, given)
    assert [points for _, points in taught_of(target)] == [((31.0, 21.0),), ((6.0, 6.0),)]
    two = Grammar(point_keys=("a", "b"))
    assert all(len(set(points)) == 2 for _, points in taught_of(target, two)), "one of two is not enough"
    one_object = Grammar(box="bbox", point_keys=("a",), single=True)
    ((box, ((x, y),)),) = taught_of(target, one_object)
    assert box == (5.0, 5.0, 55.0, 35.0) and two_rooms()[int(y), int(x)]
