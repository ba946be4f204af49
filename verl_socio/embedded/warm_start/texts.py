"""What the model is asked and what it shall answer, in the project's own prompts and answer format."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from verl_socio.answer import Grammar, Prompt, describe
from verl_socio.city.catalog import CLASSES, KINDS, MARKERS, PLACE_FUNCTIONS
from verl_socio.embedded.tokenizer import TURN_END
from verl_socio.embedded.warm_start.said import Copy, Look, Said
from verl_socio.embedded.warm_start.scenes import Spot
from verl_socio.recipes import Recipe

# A number that is not part of a key such as "bbox_2d".
_NUMBER = re.compile(r"(?<![a-z_])\d+")

_SYSTEM = "system\nYou are a helpful assistant.\nuser\nassistant"


def corpus(recipes: Sequence[Recipe]) -> str:
    """The text that the tokenizer learns from: the city's words, the answers' form and the prompts.

    Repetitions are weights: every word of a class or a name becomes one token.
    """
    stages = [stage for recipe in recipes for stage in recipe.stages]
    classes = [place_class.name for place_class in CLASSES]
    names = [f"{marker.word} {kind.word}" for marker in MARKERS for kind in KINDS]
    functions = [function.name for function in PLACE_FUNCTIONS]
    box = Prompt((12, 34, 56, 78))
    pointed = Prompt((90, 12, 134, 56), ((100, 20), (120, 40)), (1, 1))
    answers = [
        "sign at 34, 56\nMarket dots at 12, 99 and 4, 5\nsign at 7, 8\nMarket dots none.",
        *(describe([pointed if stage.grammar.points else box] * 2, stage.grammar) for stage in stages),
    ]
    prompts = [stage.ask(question="", previous="", size_wh=(140, 140)) for stage in stages]
    return "\n".join([*([_SYSTEM, *prompts] * 3), *answers * 10, *classes * 8, *names * 6, *functions * 12])


def sign(spot: Spot) -> Said:
    """Where the sign of a place is, and nothing else."""
    x, y = spot.marks_xy[0].tolist()
    return _looking(f"{x}, {y}", (x, y))


def marks(spots: Sequence[Spot]) -> Said:
    """The thought: where the map shows the places and their parts.

    The sign's colour is put into a word first: whether there are dots of it, and where, can then be looked up by it.
    """
    said = Said("")
    for number, spot in enumerate(spots):
        icon, *dots = (tuple(xy) for xy in spot.marks_xy.tolist())
        said += Said("\n" if number else "") + _looking("sign at {}, {}".format(*icon), icon)
        said += Said("\n") + _looking(PLACE_FUNCTIONS[spot.look[0]].word, icon) + Said(" dots")
        for dot, joint in zip(dots, [" at", *[" and"] * len(dots)], strict=False):
            said += _looking("{} {}, {}".format(joint, *dot), dot)
        if not dots:
            said += _looking(" none", icon)
    return said


def reply(thought: Said, answer: Said) -> Said:
    """A whole answer with the end of the turn."""
    return Said("<think>") + thought + Said(".</think>\n<answer>") + answer + Said(f"</answer>{TURN_END}")


def boxes(boxes_xyxy: np.ndarray) -> list[Prompt]:
    """Boxes (N, 4) as prompts of the first stage."""
    return [Prompt((float(x1), float(y1), float(x2), float(y2))) for x1, y1, x2, y2 in boxes_xyxy]


def pointed(boxes_xyxy: np.ndarray, points_xy: Sequence[np.ndarray]) -> list[Prompt]:
    """Boxes (N, 4) with points (Q, 2) each as prompts of the second stage."""
    return [
        Prompt(box.box_xyxy, tuple((float(x), float(y)) for x, y in xy), (1,) * len(xy))
        for box, xy in zip(boxes(boxes_xyxy), points_xy, strict=True)
    ]


def measured(prompts: Sequence[Prompt], spots: Sequence[Spot], grammar: Grammar) -> Said:
    """Boxes, with or without points, in the grammar's form.

    Each end of a box is looked for at the part of its place that reaches it, each point where it is.
    """
    text = describe(prompts, grammar)
    targets: list[tuple[int, int]] = []
    for prompt, spot in zip(prompts, spots, strict=True):
        targets += [(x, y) for x, y in spot.ends_xy.tolist()] + _twice(prompt)
    return Said(text, tuple(Look(*found.span(), xy) for found, xy in zip(_NUMBER.finditer(text), targets, strict=True)))


def repeated(prompts: Sequence[Prompt], grammar: Grammar, told: str, prompt: str) -> Said:
    """Boxes with points in the grammar's form; the boxes are read in the prompt, each point is looked for where it is.

    Args:
        prompts: Boxes with points.
        grammar: Form of the answer.
        told: The boxes as the prompt has them.
        prompt: Its whole text.
    """
    text = describe(prompts, grammar)
    begin = prompt.rindex(told)
    sources = (begin + found.start() for found in _NUMBER.finditer(told))
    numbers = _NUMBER.finditer(text)
    looks: list[Look | Copy] = []
    for item in prompts:
        looks += [Copy(*next(numbers).span(), next(sources)) for _ in range(4)]
        looks += [Look(*next(numbers).span(), xy) for xy in _twice(item)]
    return Said(text, tuple(looks))


def _twice(prompt: Prompt) -> list[tuple[int, int]]:
    """The pixel of each number of a prompt's points."""
    return [(round(x), round(y)) for x, y in prompt.points_xy for _ in range(2)]


def _looking(text: str, xy: tuple[int, int]) -> Said:
    return Said(text, (Look(0, len(text), xy),))
