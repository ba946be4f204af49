"""What the model is asked and what it shall answer, in the project's own prompts and answer format."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from verl_socio.answer import Prompt, describe
from verl_socio.city.catalog import CLASSES, KINDS, MARKERS, PLACE_FUNCTIONS
from verl_socio.embedded.tokenizer import TURN_END
from verl_socio.embedded.warm_start.scenes import Spot
from verl_socio.recipes import Recipe

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
        "sign at 34, 56, dot at 12, 99; sign at 9, 8.",
        *(describe([pointed if stage.grammar.points else box] * 2, stage.grammar) for stage in stages),
    ]
    prompts = [stage.ask(question="", previous="", size_wh=(140, 140)) for stage in stages]
    return "\n".join([*([_SYSTEM, *prompts] * 3), *answers * 10, *classes * 8, *names * 6, *functions * 12])


def marks(spots: Sequence[Spot]) -> str:
    """The thought: where the map shows the places and their parts."""
    return "; ".join(
        ", ".join(f"{word} at {x}, {y}" for word, (x, y) in zip(_words(spot), spot.marks_xy.tolist(), strict=True))
        for spot in spots
    )


def reply(thought: str, answer: str) -> str:
    """A whole answer with the end of the turn."""
    return f"<think>{thought}.</think>\n<answer>{answer}</answer>{TURN_END}"


def boxes(boxes_xyxy: np.ndarray) -> list[Prompt]:
    """Boxes (N, 4) as prompts of the first stage."""
    return [Prompt((float(x1), float(y1), float(x2), float(y2))) for x1, y1, x2, y2 in boxes_xyxy]


def pointed(boxes_xyxy: np.ndarray, points_xy: Sequence[np.ndarray]) -> list[Prompt]:
    """Boxes (N, 4) with points (Q, 2) each as prompts of the second stage."""
    return [
        Prompt(box.box_xyxy, tuple((float(x), float(y)) for x, y in xy), (1,) * len(xy))
        for box, xy in zip(boxes(boxes_xyxy), points_xy, strict=True)
    ]


def _words(spot: Spot) -> list[str]:
    return ["sign", *["dot"] * (len(spot.marks_xy) - 1)]
