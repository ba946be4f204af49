"""One episode: look, answer, segment, render, look again.

Trainer, evaluator and a user's own call run this coroutine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from PIL import Image

from verl_socio.answer import Answer, Prompt, describe, parse
from verl_socio.data.sample import ImageRef, Sample
from verl_socio.errors import invalid
from verl_socio.geometry import Frame, filled_boxes, without_overlaps
from verl_socio.masks import Masks
from verl_socio.recipes import Recipe, Stage
from verl_socio.render import draw_feedback
from verl_socio.rewards import Outcome, Reward, Target, score


@dataclass(frozen=True)
class Scene:
    """A sample with its images read, shared by all rollouts of a question.

    Attributes:
        sample: The question.
        images: "satellite" and, where the sample has one, "map" -> RGB image; all of one size.
        target: What to find, or None where it is not known.
    """

    sample: Sample
    images: dict[str, Image.Image]
    target: Target | None
    _reduced: dict[tuple[str, tuple[int, int]], Image.Image] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(cls, sample: Sample, *, with_target: bool) -> Scene:
        """Read a sample's images.

        Raises:
            ValueError: An image or the mask cannot be read, or their sizes differ.
        """
        images = {"satellite": sample.satellite.open()}
        if sample.map is not None:
            images["map"] = sample.map.open()
            if images["map"].size != images["satellite"].size:
                rule = f"must be as large as the satellite image, {images['satellite'].size}"
                raise invalid(f"map of {sample.id}", images["map"].size, rule, "render both for the same area and size")
        target = target_of(sample) if with_target else None
        return cls(sample, images, target)

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height of the images in pixels."""
        return self.images["satellite"].size

    def shown(self, name: str, size_wh: tuple[int, int]) -> Image.Image:
        """An image at the size at which it is shown, reduced once for all rollouts."""
        key = (name, size_wh)
        if key not in self._reduced:
            self._reduced[key] = _resized(self.images[name], size_wh)
        return self._reduced[key]


def target_of(sample: Sample) -> Target:
    """What a sample's mask and what is known beside it say; without a mask its boxes, filled, stand for it.

    Raises:
        ValueError: The mask cannot be read.
    """
    if sample.truth.boxes_xyxy is None:
        return Target.from_mask(*sample.target_and_ignored())
    boxes_xyxy = np.array(sample.truth.boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    points_xy = None if sample.truth.points_xy is None else np.array(sample.truth.points_xy, dtype=np.float64)
    if sample.target is None:
        return Target(filled_boxes(boxes_xyxy, sample.satellite.size_wh), boxes_xyxy, points_xy)
    target_hw, ignored_hw = sample.target_and_ignored()
    return Target(target_hw, boxes_xyxy, points_xy, ignored_hw)


@dataclass(frozen=True)
class Turn:
    """What the model is shown: a fresh one-message chat, images first, then text."""

    stage: int
    images: tuple[Image.Image, ...]
    text: str


@dataclass(frozen=True)
class Reply:
    """What the model wrote. `record` is the host's own (tokens and log-probabilities in training)."""

    text: str
    record: Any = None


class Generate(Protocol):
    """How a host lets the model answer."""

    async def __call__(self, turn: Turn) -> Reply:
        """Answer one turn."""


class Segment(Protocol):
    """How a host segments."""

    async def segment(self, image: ImageRef, prompts: Sequence[Prompt]) -> Masks:
        """One mask a prompt; prompts in the image's own pixels. Raises where it fails, never an empty stand-in."""


@dataclass(frozen=True)
class StageResult:
    """What happened in one stage. All coordinates are the image's own pixels.

    Attributes:
        turn: What the model was shown.
        reply: What it wrote.
        answer: That, parsed.
        predicted_iou: The segmenter's own estimate for each prompt that it was asked, (N,) float.
        mask_hw: Union of its masks, (H, W) bool. One mask a prompt would be megabytes for each rollout of a group.
        reward: What it earned; None without a target.
    """

    turn: Turn
    reply: Reply
    answer: Answer
    predicted_iou: np.ndarray
    mask_hw: np.ndarray
    reward: Reward | None


@dataclass(frozen=True)
class Episode:
    """A finished episode; `stages[-1].mask_hw` is its result."""

    scene: Scene
    stages: tuple[StageResult, ...]


# Given a finished stage, says from which result of that stage to go on: its own, or the best of its group.
Choose = Callable[[StageResult], Awaitable[StageResult]]


async def run_episode(
    scene: Scene,
    recipe: Recipe,
    *,
    generate: Generate,
    segmenter: Segment,
    frame_of: Callable[[tuple[int, int]], Frame],
    choose: Choose | None = None,
) -> Episode:
    """Run one episode (SocioReasoner, arXiv 2601.10477, section 4, for the two-stage recipe).

    The stages of one episode follow each other at once: nothing here waits for other episodes, unless `choose` does.

    Args:
        scene: The question and its images; with a target every stage is scored.
        recipe: The method.
        generate: Lets the model answer a turn.
        segmenter: Turns prompts into masks.
        frame_of: The model's coordinate frame for an image of a given width and height, as it is shown.
        choose: Picks the stage result that the next stage starts from; None: its own.

    Returns:
        The episode, with one result a stage.

    Raises:
        Exception: Whatever `generate` or `segmenter` raise: a failure is no result.
    """
    frame, image_frame = frame_of(recipe.shown_wh(scene.size_wh)), Frame.of_image(scene.size_wh)
    finished: list[StageResult] = []
    previous: StageResult | None = None
    for index, stage in enumerate(recipe.stages):
        told = told_answer(scene, recipe, index, previous, frame)
        turn = turn_of(scene, recipe, index, previous, frame, told)
        reply = await generate(turn)
        answer = parse(reply.text, stage.grammar).moved(frame, image_frame)
        masks = await _segment(scene, stage, answer, segmenter)
        mask_hw = masks.union()
        reward = None
        if scene.target is not None:
            # The answer before as this stage was told it, in whole numbers: what it can repeat, it is held to.
            before = parse(told, recipe.stages[index - 1].grammar).moved(frame, image_frame) if index else None
            reward = score(Outcome(answer, scene.target, mask_hw, before), stage.reward)
        result = StageResult(turn, reply, answer, masks.predicted_iou, mask_hw, reward)
        finished.append(result)
        is_last = index == len(recipe.stages) - 1
        previous = await choose(result) if choose is not None and not is_last else result
    return Episode(scene, tuple(finished))


def told_answer(scene: Scene, recipe: Recipe, index: int, previous: StageResult | None, frame: Frame) -> str:
    """The answer of the stage before as the next prompt repeats it.

    What lies off the image is left out, and so is all beyond `recipe.told_items` and beyond the points that were asked
    for: model text must not grow without bound from stage to stage.

    Args:
        scene: The question and its images.
        recipe: The method.
        index: The stage that is to be asked.
        previous: What happened in the stage before; None in the first.
        frame: The model's frame for these images.

    Returns:
        What the grammar of the stage before writes, in the model's coordinates; "" in the first stage.
    """
    if previous is None:
        return ""
    image_frame = Frame.of_image(scene.size_wh)
    on_image = (_on_image(prompt, scene.size_wh, boxes=True, points=True) for prompt in previous.answer.prompts)
    stage = recipe.stages[index - 1]
    told = [prompt.cut(stage.num_points).moved(image_frame, frame) for prompt in on_image if prompt is not None]
    return describe(told[: recipe.told_items], stage.grammar)


def turn_of(scene: Scene, recipe: Recipe, index: int, previous: StageResult | None, frame: Frame, told: str) -> Turn:
    """What the model is shown in a stage.

    Args:
        scene: The question and its images.
        recipe: The method.
        index: The stage.
        previous: What happened in the stage before; None in the first.
        frame: The model's frame for these images.
        told: The answer before, from `told_answer`.

    Raises:
        ValueError: The stage shows an image that the scene does not have.
    """
    stage = recipe.stages[index]
    missing = [name for name in stage.images if name not in scene.images]
    if missing:
        rule = f"is shown by recipe {recipe.name}, stage {stage.name}, but sample {scene.sample.id} has none"
        raise invalid(missing[0], None, rule, "add the image to the sample or use a recipe that does not show it")
    shown_wh = recipe.shown_wh(scene.size_wh)
    if previous is not None and stage.feedback:
        boxes = [prompt.box_xyxy for prompt in previous.answer.prompts if prompt.box_xyxy is not None]
        boxes_xyxy = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        drawn = [
            draw_feedback(scene.images[name], boxes_xyxy, previous.mask_hw, recipe.feedback) for name in stage.images
        ]
        images = [_resized(image, shown_wh) for image in drawn]
    else:
        images = [scene.shown(name, shown_wh) for name in stage.images]
    text = stage.ask(question=scene.sample.question, previous=told, size_wh=frame.size_wh)
    return Turn(index, tuple(images), text)


def _resized(image: Image.Image, size_wh: tuple[int, int]) -> Image.Image:
    return image if image.size == size_wh else image.resize(size_wh, Image.Resampling.BICUBIC)


async def _segment(scene: Scene, stage: Stage, answer: Answer, segmenter: Segment) -> Masks:
    boxes, points = "boxes" in stage.segment_with, "points" in stage.segment_with
    on_image = (_on_image(prompt, scene.size_wh, boxes=boxes, points=points) for prompt in answer.prompts)
    prompts = [prompt for prompt in on_image if prompt is not None]
    if stage.thin_iou is not None and boxes:
        boxes_xyxy = np.array([prompt.box_xyxy for prompt in prompts], dtype=np.float64)
        kept = without_overlaps(boxes_xyxy, stage.thin_iou)
        prompts = [prompt for prompt, keep in zip(prompts, kept, strict=True) if keep]
    if not prompts:  # nothing was asked for: an answer of the model, not a failure of the segmenter
        return Masks.none(scene.size_wh)
    return await segmenter.segment(scene.sample.satellite, prompts)


def _on_image(prompt: Prompt, size_wh: tuple[int, int], *, boxes: bool, points: bool) -> Prompt | None:
    """The part of a prompt that lies on the image, without what is not asked for; None if nothing is left to show."""
    width, height = size_wh
    box = None
    if prompt.box_xyxy is not None and boxes:
        left, top, right, bottom = prompt.box_xyxy
        box = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
        if box[0] >= box[2] or box[1] >= box[3]:
            return None
    kept = []
    if points:
        given = zip(prompt.points_xy, prompt.labels, strict=True)
        kept = [(xy, label) for xy, label in given if 0 <= xy[0] < width and 0 <= xy[1] < height]
    if box is None and not any(label == 1 for _, label in kept):
        return None
    return Prompt(box, tuple(xy for xy, _ in kept), tuple(label for _, label in kept))
