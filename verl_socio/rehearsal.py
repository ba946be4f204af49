"""An episode played through before any engine starts: every question can be asked, and the longest prompts fit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from verl_socio.answer import Prompt, describe
from verl_socio.chat import ChatModel
from verl_socio.data.sample import Sample
from verl_socio.episode import Reply, Scene, Turn, run_episode
from verl_socio.errors import invalid
from verl_socio.geometry import Frame
from verl_socio.recipes import Recipe, Stage
from verl_socio.segment.box_segmenter import BoxSegmenter


def rehearse(
    samples: Sequence[Sample], recipe: Recipe, chat: ChatModel, budget: int, field: str, *, with_target: bool
) -> None:
    """Rehearse an episode on the largest image with the longest question: every prompt must fit, images are not cut.

    The answers are made up, with boxes for the next prompt to repeat; the masks are their boxes.

    Args:
        samples: At least one.
        recipe: The method.
        chat: The model's processor.
        budget: Tokens that a prompt may have.
        field: The setting that says so.
        with_target: Whether answers will be rewarded: then these are as well.

    Raises:
        ValueError: A question holds the model's control tokens, a prompt does not fit, or the model's chat template
            drops images.
    """
    for sample in samples:
        chat.check_words(sample.question)
    largest = max(samples, key=lambda sample: chat.grid.num_tokens(recipe.shown_wh(sample.satellite.size_wh)))
    longest = max((sample.question for sample in samples), key=lambda question: len(chat.tokenizer.encode(question)))
    scene = Scene.load(replace(largest, question=longest), with_target=with_target)

    async def generate(turn: Turn) -> Reply:
        stage, needed = recipe.stages[turn.stage], len(chat.encode(turn).prompt_ids)
        if needed > budget:
            rule = f"is too small: stage {stage.name} of sample {largest.id} needs {needed} tokens"
            raise invalid(field, budget, rule, "raise it, or show smaller images with recipe.max_pixels")
        return Reply(_longest_answer(stage, recipe.told_items, chat.frame_of(recipe.shown_wh(scene.size_wh))))

    asyncio.run(run_episode(scene, recipe, generate=generate, segmenter=BoxSegmenter(), frame_of=chat.frame_of))


def _longest_answer(stage: Stage, told_items: int, frame: Frame) -> str:
    """Boxes and points of the most digits, as many as the next prompt repeats."""
    (width, height), grammar = frame.size_wh, stage.grammar
    box = None if grammar.box is None else (width - 2, height - 2, width, height)
    labels = (1,) * stage.num_points + (0,) * (stage.num_points if grammar.negative_points is not None else 0)
    prompt = Prompt(box, ((width - 1, height - 1),) * len(labels), labels)
    num_items = 1 if grammar.single else min(told_items, grammar.max_items)
    return f"<think></think><answer>{describe([prompt] * num_items, grammar)}</answer>"
