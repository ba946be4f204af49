"""Rows of tokens: one pair of images, a shared beginning, and as many questions with answers as were asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import numpy as np
from PIL import Image

from verl_socio.answer import describe
from verl_socio.chat import ChatModel
from verl_socio.embedded.warm_start import texts
from verl_socio.embedded.warm_start.feedback import first_answer, likely_mask, points_for
from verl_socio.embedded.warm_start.scenes import Shot
from verl_socio.episode import Turn
from verl_socio.recipes import Recipe
from verl_socio.render import draw_feedback

UNIT_WEIGHT = 0.25
TEXT_WEIGHT = 0.5
MOST_PLACES = 3


@dataclass(frozen=True)
class Row:
    """Questions about one pair of images.

    Attributes:
        images: The images in the order of the prompt, RGB uint8 (H, W, 3) each.
        prefix: Token ids that all questions share; the images' placeholders are among them.
        tails: For each question the ids of what follows, and as many loss weights; 0 for what is not learnt. With
            several questions the first token of each is not learnt.
        looks: For each caption the last token of its question, counted from the tail's first, and the visual token that
            the icon is in; empty for rows of answers.
    """

    images: tuple[np.ndarray, ...]
    prefix: tuple[int, ...]
    tails: tuple[tuple[tuple[int, ...], tuple[float, ...]], ...]
    looks: tuple[tuple[int, int], ...] = ()


class RowMaker:
    """Writes rows in a model's chat format.

    Args:
        chat: The model's tokenizer and template.
        recipe: Stages with prompts and grammars.
    """

    def __init__(self, chat: ChatModel, recipe: Recipe) -> None:
        self.chat = chat
        self.recipe = recipe
        self._digits = {chat.tokenizer.convert_tokens_to_ids(str(digit)) for digit in range(10)}

    def captions(self, shot: Shot, with_boxes: bool, most: int, rng: np.random.Generator) -> Row:
        """Questions, each followed at once by the marks of its place, and by the box where asked for."""
        grammar = self.recipe.stages[0].grammar
        asked = [(text, places) for text, places in shot.questions().items() if len(places) == 1]
        pairs, tokens = [], []
        columns = shot.cells_hw.shape[1] // self.chat.grid.factor
        for text, (place,) in _some(asked, most, rng):
            spot = shot.spots[place]
            if with_boxes:
                said = f" {texts.marks([spot])}{describe(texts.boxes(spot.box_xyxy[None]), grammar)}"
            else:
                said = "{}, {}".format(*spot.marks_xy[0])
            pairs.append((text, said))
            column, row = (spot.marks_xy[0] // self.chat.grid.factor).tolist()
            tokens.append(row * columns + column)
        images = self._images(shot, 0)
        bare = self._text(images, "?")
        made = self._row(images, bare.split("?")[0], pairs)
        ends = (int(np.flatnonzero(weights)[0]) - 1 for _, weights in made.tails)
        return replace(made, looks=tuple(zip(ends, tokens, strict=True)))

    def localise(self, shot: Shot, most: int, rng: np.random.Generator) -> Row:
        """Questions and answers of the first stage."""
        stage = self.recipe.stages[0]
        asked = [(text, places) for text, places in shot.questions().items() if len(places) <= MOST_PLACES]
        images = self._images(shot, 0)
        size_wh = images[0].size
        chosen = _some(asked, most, rng)
        prompts = [self._text(images, stage.ask(question=text, previous="", size_wh=size_wh)) for text, _ in chosen]
        head = _common(prompts)
        pairs = []
        for prompt, (_, places) in zip(prompts, chosen, strict=True):
            spots = [shot.spots[place] for place in places]
            answer = describe(texts.boxes(np.stack([spot.box_xyxy for spot in spots])), stage.grammar)
            pairs.append((prompt[len(head) :], texts.reply(texts.marks(spots), answer)))
        return self._row(images, head, pairs)

    def refine(self, shot: Shot, rng: np.random.Generator, repeat_weight: float = 0.0) -> Row:
        """One question and answer of the second stage, on top of a first answer that may be wrong."""
        first, stage = self.recipe.stages
        asked = [(text, places) for text, places in shot.questions().items() if len(places) <= MOST_PLACES]
        text, places = asked[int(rng.integers(len(asked)))]
        spots = [shot.spots[place] for place in places]
        boxes_xyxy = first_answer(shot, places, rng)
        mask_hw = likely_mask(shot, boxes_xyxy, rng)
        images = [draw_feedback(image, boxes_xyxy, mask_hw, self.recipe.feedback) for image in self._images(shot, 1)]
        told = describe(texts.boxes(boxes_xyxy), first.grammar)
        prompt = self._text(images, stage.ask(question=text, previous=told, size_wh=images[0].size))
        points_xy = points_for(boxes_xyxy, spots, mask_hw, shot.cells_hw)
        answer = describe(texts.pointed(boxes_xyxy, points_xy), stage.grammar)
        row = self._row(images, prompt, [("", texts.reply(texts.marks(spots), answer))])
        ((ids, weights),) = row.tails
        repeated = zip(weights, self._in_boxes(ids), strict=True)
        return replace(row, tails=((ids, tuple(weight + repeat_weight * inside for weight, inside in repeated)),))

    def _images(self, shot: Shot, stage: int) -> list[Image.Image]:
        pictures = {"map": shot.map_hw3, "satellite": shot.satellite_hw3}
        return [Image.fromarray(np.ascontiguousarray(pictures[name])) for name in self.recipe.stages[stage].images]

    def _text(self, images: Sequence[Image.Image], words: str) -> str:
        return self.chat.text_of(Turn(0, tuple(images), words))

    def _row(self, images: Sequence[Image.Image], head: str, pairs: Sequence[tuple[str, str]]) -> Row:
        tails = []
        for asked, said in pairs:
            given, learnt = self._ids(asked, images), self._ids(said, images)
            tails.append(((*given, *learnt), (*[0.0] * len(given), *self._weights(learnt))))
        arrays = tuple(np.asarray(image) for image in images)
        return Row(arrays, tuple(self._ids(head, images)), tuple(tails))

    def _ids(self, text: str, images: Sequence[Image.Image]) -> list[int]:
        token = self.chat.processor.image_token
        if token in text:
            parts = text.split(token)
            repeats = [token * self.chat.grid.num_tokens(image.size) for image in images]
            text = "".join(part + repeat for part, repeat in zip(parts, [*repeats, ""], strict=True))
        return list(self.chat.tokenizer(text)["input_ids"])

    def _in_boxes(self, ids: Sequence[int]) -> list[bool]:
        """Which tokens are digits of boxes."""
        found, inside = [], False
        for token, word in zip(ids, self.chat.tokenizer.convert_ids_to_tokens(list(ids)), strict=True):
            inside = word == self.recipe.stages[1].grammar.box or (inside and "]" not in word)
            found.append(inside and token in self._digits)
        return found

    def _weights(self, ids: Sequence[int]) -> list[float]:
        weights = []
        for token, following in zip(ids, [*ids[1:], -1], strict=True):
            if token not in self._digits:
                weights.append(TEXT_WEIGHT)
            else:
                weights.append(1.0 if following in self._digits else UNIT_WEIGHT)
        return weights


def _some(
    choices: Sequence[tuple[str, tuple[int, ...]]], most: int, rng: np.random.Generator
) -> list[tuple[str, tuple[int, ...]]]:
    order = rng.permutation(len(choices))[:most]
    return [choices[index] for index in order]


def _common(prompts: Sequence[str]) -> str:
    """What all prompts begin with, in whole lines: no token reaches over a line's end."""
    lines = [prompt.splitlines(keepends=True) for prompt in prompts]
    shared = takewhile(lambda column: len(set(column)) == 1, zip(*lines, strict=False))
    return "".join(column[0] for column in shared)
