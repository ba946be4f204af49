"""Terms for the form of an answer: tags, items, and a second answer that keeps to the first."""

import re

import numpy as np

from verl_socio.answer import Prompt, Status
from verl_socio.errors import invalid
from verl_socio.geometry import best_pairs
from verl_socio.rewards.outcome import Outcome
from verl_socio.rewards.registry import term

# The think tags and line ends part sentences as well; the point in a number ends none.
# A run of marks is taken whole or not at all: else a text of dots takes quadratic time.
_SENTENCE_END = re.compile(r"(?<![.!?])[.!?]++(?=\s|<|$)|\n|</?think>")


@term("think_format", 0.0, 1.0)
def think_format(outcome: Outcome) -> float:
    """Whether the whole text is a think block and an answer block.

    Source: SocioReasoner, Seg-Zero and VisionReasoner (code); white space around the tags is allowed here.

    Returns:
        1 or 0.
    """
    return float(outcome.answer.think_format)


@term("item_format", 0.0, 1.0)
def item_format(outcome: Outcome) -> float:
    """Share of the listed items that have exactly the keys and shapes asked for.

    Source: SocioReasoner R1 (code), "exactly the key bbox_2d with four numbers", mean over items.

    Returns:
        0..1. A well-formed empty list earns 1 where nothing is there and else 0: the code pays no item that is not
        listed, and who names nothing shall not earn what a wrong object earns. An answer of which nothing can be
        used: 0.
    """
    if outcome.answer.status is Status.UNPARSEABLE:
        return 0.0
    exact = outcome.answer.item_exact
    return sum(exact) / len(exact) if exact else float(outcome.nothing_there)


@term("answer_format", 0.0, 1.0)
def answer_format(
    outcome: Outcome, strict: bool = True, points: int | None = None, empty_is_right: bool = True
) -> float:
    """Whether the answer as a whole is written in the form asked for.

    Source: Seg-Zero (code), its strict and its soft format; Think2Seg-RS, its JSON format.

    Args:
        outcome: What the stage led to.
        strict: True: nothing but the form, with exactly the keys asked for in every item. False: it is enough that
            objects can be read out of the answer.
        points: How many points on the object every item must have; None: any number.
        empty_is_right: Whether a well-formed empty answer is in form too.

    Returns:
        1 or 0.
    """
    answer = outcome.answer
    if answer.status is Status.UNPARSEABLE:
        return 0.0
    if answer.status is Status.EMPTY:
        return float(empty_is_right)
    if strict and not all(answer.item_exact):
        return 0.0
    return float(points is None or all(len(prompt.positive_xy) == points for prompt in answer.prompts))


@term("part_format", 0.0, 2.0)
def part_format(outcome: Outcome) -> float:
    """How many of the listed items have a right box, and how many have right points.

    Source: VisionReasoner (code): (box ok + point ok), mean over items.

    Returns:
        0..2. A well-formed empty list earns 2 where nothing is there and else 0, as in `item_format`. An answer of
        which nothing can be used: 0.
    """
    answer = outcome.answer
    if answer.status is Status.UNPARSEABLE:
        return 0.0
    if not answer.box_exact:
        return 2.0 * outcome.nothing_there
    return (sum(answer.box_exact) + sum(answer.points_exact)) / len(answer.box_exact)


@term("non_repeat", 0.0, 1.0)
def non_repeat(outcome: Outcome, allowed: int = 1) -> float:
    """Whether the text before the answer says nothing again and again.

    Source: VisionReasoner (code): two or more repeated sentences earn nothing.

    Args:
        outcome: What the stage led to.
        allowed: How many sentences may occur that were there before; case and white space make no difference.

    Returns:
        1 or 0.
    """
    text = outcome.answer.text
    told = text[: text.rfind("<answer>")] if "<answer>" in text else text  # a list may well repeat its brackets
    said = [" ".join(sentence.split()).casefold() for sentence in _SENTENCE_END.split(told)]
    sentences = [sentence for sentence in said if sentence]
    return float(len(sentences) - len(set(sentences)) <= allowed)


@term("refine_format", 0.0, 1.0)
def refine_format(outcome: Outcome, tolerance_px: float = 1.0) -> float:
    """Share of the items that keep a box of the stage before and point inside it.

    Source: SocioReasoner R2 (code): as many items as in stage 1, the same boxes, every point strictly inside its box.
    The order of the items is free, and so are points off the object. What counts of the stage before are the boxes
    that this stage was shown.

    Args:
        outcome: What the stage led to; must have the answer of the stage before.
        tolerance_px: Largest difference of a coordinate that still is the same box, pixels of the image; covers the
            rounding of the boxes when they are written into the prompt.

    Returns:
        0..1; 0 if the number of items differs or an item cannot be used. A well-formed empty list after an empty one
        earns 1 where nothing is there and else 0, as in `item_format`.

    Raises:
        ValueError: If there is no stage before, or one of the answers has no boxes.
    """
    if outcome.previous is None:
        raise invalid("reward.refine_format", "first stage", "needs the answer of the stage before", "use item_format")
    if outcome.answer.status is Status.UNPARSEABLE:
        return 0.0
    before, now, exact = outcome.previous.prompts, outcome.answer.prompts, outcome.answer.item_exact
    if not len(before) == len(now) == len(exact):
        return 0.0
    if not now:
        return float(outcome.nothing_there)
    now_xyxy, before_xyxy = boxes_of(now), boxes_of(before)
    same = np.abs(now_xyxy[:, None] - before_xyxy[None]).max(axis=-1) <= tolerance_px
    right = np.array([item and points_inside(prompt) for item, prompt in zip(exact, now, strict=True)])
    kept = same & right[:, None]
    return float(kept[best_pairs(kept.astype(np.float64))].sum() / len(now))


def points_inside(prompt: Prompt, count: int | None = None) -> bool:
    """Whether every positive point, or each of the first `count`, lies strictly inside the item's own box."""
    assert prompt.box_xyxy is not None
    x1, y1, x2, y2 = prompt.box_xyxy
    return all(x1 < x < x2 and y1 < y < y2 for x, y in prompt.positive_xy[:count])


def boxes_of(prompts: tuple[Prompt, ...]) -> np.ndarray:
    """Return the prompts' boxes, `(N, 4)` float64; a `ValueError` if the grammar has no boxes."""
    boxes = [prompt.box_xyxy for prompt in prompts]
    if None in boxes:
        raise invalid("reward", "box term", "needs answers with boxes", "remove the term or ask for boxes")
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)
