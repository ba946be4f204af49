"""What supervised fine-tuning teaches: the turns of an episode in which every answer is right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from verl_socio.answer import Prompt, describe
from verl_socio.data.sample import ImageRef
from verl_socio.episode import Reply, Scene, Segment, Turn, run_episode
from verl_socio.geometry import Frame
from verl_socio.masks import Masks
from verl_socio.recipes import Recipe, Stage
from verl_socio.rewards import Target

# Points lie where the target is deeper than this share of its greatest depth: a pixel beside them is the target too.
_DEPTH = 0.5


@dataclass(frozen=True)
class Lesson:
    """One stage: what the model is shown, and what it shall answer."""

    turn: Turn
    answer: str


async def lesson(
    scene: Scene,
    recipe: Recipe,
    index: int,
    *,
    segmenter: Segment,
    frame_of: Callable[[tuple[int, int]], Frame],
    seed: int,
) -> Lesson:
    """The turn of one stage as `run_episode` makes it when all answers before were right, and its right answer.

    What a later stage is shown is drawn from the segmenter's masks of the target's boxes, with the segmenter's faults:
    the best that this stage will ever be shown when the model is used.

    Args:
        scene: A question with a target.
        recipe: The method.
        index: The stage.
        segmenter: Used for the stages before only.
        frame_of: The model's coordinate frame for an image of a given width and height.
        seed: With the sample's id it decides where points lie.

    Raises:
        SegmentationError: The segmenter failed.
        ValueError: An image that the stage shows is missing, or the recipe's grammar cannot hold the answer.
    """
    target = scene.target
    assert target is not None, "a lesson needs a target"
    given: list[Lesson] = []

    async def generate(turn: Turn) -> Reply:
        rng = np.random.default_rng([seed, turn.stage, *scene.sample.id.encode()])
        # A later stage keeps the boxes that it is told, and it is told so many at most.
        most = recipe.told_items if turn.stage else recipe.stages[0].grammar.max_items
        answer = right_answer(target, recipe.stages[turn.stage], frame_of(recipe.shown_wh(scene.size_wh)), most, rng)
        given.append(Lesson(turn, answer))
        return Reply(answer)

    await run_episode(
        replace(scene, target=None),  # nothing has to be scored
        replace(recipe, stages=recipe.stages[: index + 1]),
        generate=generate,
        segmenter=_BeforeTheLast(segmenter, given, index),
        frame_of=frame_of,
    )
    return given[index]


def right_answer(target: Target, stage: Stage, frame: Frame, most: int, rng: np.random.Generator) -> str:
    """The target in a stage's grammar, without a thought: "<answer>[...]</answer>".

    Args:
        target: What should be found. Each of its objects is an item; for a grammar of one object, all of them together
            are one.
        stage: Its grammar, and how many points an item shall have.
        frame: The model's frame for this image.
        most: Items at most, the first ones of the target.
        rng: Decides where points lie: on different pixels deep inside the object, written from left to right. Where the
            data set brings enough of them, those.

    Raises:
        ValueError: The stage asks for more points than its grammar holds.
    """
    grammar, size_wh = stage.grammar, target.mask_hw.shape[::-1]
    if grammar.single:
        target = _as_one(target)
    count = len(grammar.point_keys) + (stage.points if grammar.points is not None else 0)
    points_xy = _points_of(target, most, count, rng) if count else [()] * min(most, len(target.boxes_xyxy))
    prompts = []
    for of_object, (x1, y1, x2, y2) in zip(points_xy, target.boxes_xyxy[:most].tolist(), strict=True):
        box = (x1, y1, x2, y2) if grammar.box is not None else None
        prompts.append(Prompt(box, of_object, (1,) * count).moved(Frame.of_image(size_wh), frame))
    return f"<answer>{describe(prompts, grammar)}</answer>"


def _as_one(target: Target) -> Target:
    """All objects as one, with the box around them."""
    if target.box_xyxy is None or len(target.boxes_xyxy) == 1:
        return target
    return replace(target, boxes_xyxy=target.box_xyxy[None], given_points_xy=None)


def _points_of(
    target: Target, most: int, count: int, rng: np.random.Generator
) -> list[tuple[tuple[float, float], ...]]:
    """Points of the first objects, as many for each."""
    given = target.given_points_xy
    if given is not None and given.shape[1] >= count:
        return [tuple(sorted((float(x), float(y)) for x, y in points)) for points in given[:most, :count]]
    objects = zip(target.regions()[:most], target.boxes_xyxy[:most].tolist(), strict=True)
    return [
        _points_in(region_hw, count, rng) if region_hw.any() else (((x1 + x2) / 2, (y1 + y2) / 2),) * count
        for region_hw, (x1, y1, x2, y2) in objects
    ]


def _points_in(region_hw: np.ndarray, count: int, rng: np.random.Generator) -> tuple[tuple[float, float], ...]:
    from scipy import ndimage

    rows, columns = ndimage.find_objects(region_hw.astype(np.int8))[0]
    depth_hw = ndimage.distance_transform_edt(np.pad(region_hw[rows, columns], 1))[1:-1, 1:-1]
    inside_yx = np.argwhere(depth_hw > _DEPTH * depth_hw.max())
    chosen_yx = rng.choice(inside_yx, count, replace=len(inside_yx) < count) + np.array([rows.start, columns.start])
    return tuple(sorted((float(x), float(y)) for y, x in chosen_yx.tolist()))


@dataclass(frozen=True)
class _BeforeTheLast:
    """Segments the answers that a later stage is shown; nobody looks at what the last answer would give."""

    segmenter: Segment
    given: Sequence[Lesson]
    last: int

    async def segment(self, image: ImageRef, prompts: Sequence[Prompt]) -> Masks:
        if len(self.given) > self.last:
            return Masks.none(image.size_wh)
        return await self.segmenter.segment(image, prompts)
