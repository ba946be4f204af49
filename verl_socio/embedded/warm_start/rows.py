"""Rows of tokens: one pair of images, a shared beginning, and as many questions with answers as were asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import numpy as np
from PIL import Image

from verl_socio.answer import describe
from verl_socio.chat import ChatModel
from verl_socio.embedded.warm_start import texts
from verl_socio.embedded.warm_start.feedback import first_answer, likely_mask, points_for
from verl_socio.embedded.warm_start.said import Copy, Said
from verl_socio.embedded.warm_start.scenes import Shot
from verl_socio.episode import Turn
from verl_socio.recipes import Recipe, Stage
from verl_socio.render import draw_feedback

UNIT_WEIGHT = 0.25
TEXT_WEIGHT = 0.5
MOST_PLACES = 3
# The heads of the middle layer that shall look at the map's tokens, at the satellite's and at what is to be copied. The
# first two read keys of their own.
MAP_HEAD, SATELLITE_HEAD, COPYING_HEAD = 0, 2, 3
# How many points the second stage is asked for, drawn evenly from these.
POINTS = (1, 2, 2, 3)


@dataclass(frozen=True)
class Row:
    """Questions about one pair of images.

    Attributes:
        images: The images in the order of the prompt, RGB uint8 (H, W, 3) each.
        prefix: Token ids that all questions share; the images' placeholders are among them.
        tails: For each question the ids of what follows, and as many loss weights; 0 for what is not learnt. With
            several questions the first token of each is not learnt.
        leading: For each question which of its tokens are digits to be learnt that another digit follows.
        looks: For each question the tokens that shall look at another one: its place, the head of attention that looks,
            and the other's place, as if the tail followed directly on the prefix.
    """

    images: tuple[np.ndarray, ...]
    prefix: tuple[int, ...]
    tails: tuple[tuple[tuple[int, ...], tuple[float, ...]], ...]
    leading: tuple[tuple[bool, ...], ...]
    looks: tuple[tuple[tuple[int, int, int], ...], ...]


@dataclass(frozen=True)
class _Encoded:
    """A text, its token ids, and for each the character that it begins with; images' placeholders are expanded."""

    text: str
    ids: tuple[int, ...]
    starts: tuple[int, ...]

    def __add__(self, other: _Encoded) -> _Encoded:
        """The one, then the other."""
        moved = (len(self.text) + start for start in other.starts)
        return _Encoded(self.text + other.text, (*self.ids, *other.ids), (*self.starts, *moved))


class RowMaker:
    """Writes rows in a model's chat format.

    Args:
        chat: The model's tokenizer and template.
        recipe: Two stages with prompts and grammars.
        single: One stage, for boxes and points at once.
    """

    def __init__(self, chat: ChatModel, recipe: Recipe, single: Recipe) -> None:
        self.chat = chat
        self.recipe = recipe
        self.single = single
        self._image_token = chat.tokenizer.convert_tokens_to_ids(chat.processor.image_token)
        self._digits = {chat.tokenizer.convert_tokens_to_ids(str(digit)) for digit in range(10)}

    def captions(self, shot: Shot, with_boxes: bool, most: int, rng: np.random.Generator) -> Row:
        """Questions, each followed at once by the marks of its place, and by the box where asked for."""
        grammar = self.recipe.stages[0].grammar
        asked = [(text, places) for text, places in shot.questions().items() if len(places) == 1]
        pairs = []
        for text, (place,) in _some(asked, most, rng):
            spots = [shot.spots[place]]
            said = texts.sign(spots[0])
            if with_boxes:
                measured = texts.measured(texts.boxes(spots[0].box_xyxy[None]), spots, grammar)
                said = texts.marks(spots) + measured
            pairs.append((text, said))
        images = self._images(shot, 0)
        return self._row(images, self._text(images, "?").split("?")[0], pairs)

    def localise(self, shot: Shot, most: int, rng: np.random.Generator, overlooked: float = 0.0) -> Row:
        """Questions and answers of the first stage; with a probability the dots of a place are overlooked."""
        return self._answers(shot, self.recipe.stages[0], most, rng, overlooked)

    def one_stage(self, shot: Shot, most: int, rng: np.random.Generator, overlooked: float = 0.0) -> Row:
        """Questions and answers with boxes and points at once; arguments as for `localise`."""
        return self._answers(shot, self._with_points(self.single.stages[0], rng), most, rng, overlooked)

    def refine(self, shot: Shot, rng: np.random.Generator, repeat_weight: float = 0.0) -> Row:
        """One question and answer of the second stage, on top of a first answer that may be wrong."""
        ((text, places),) = self._asked(shot, 1, rng)
        boxes_xyxy = first_answer(shot, places, rng)
        mask_hw = likely_mask(shot, boxes_xyxy, rng)
        images = [draw_feedback(image, boxes_xyxy, mask_hw, self.recipe.feedback) for image in self._images(shot, 1)]
        prompt, said = self._refined(shot, text, places, boxes_xyxy, mask_hw, images, rng)
        return self._repeating(self._row(images, prompt, [("", said)]), repeat_weight)

    def repeat(self, shot: Shot, most: int, rng: np.random.Generator, repeat_weight: float = 0.0) -> Row:
        """Questions and answers of the second stage on plain images: many first answers to be repeated, none drawn."""
        images = self._images(shot, 1)
        nothing_hw = np.zeros(shot.cells_hw.shape, dtype=bool)
        pairs = []
        for text, places in self._asked(shot, most, rng):
            boxes_xyxy = first_answer(shot, places, rng)
            pairs.append(self._refined(shot, text, places, boxes_xyxy, nothing_hw, images, rng))
        head = _common([prompt for prompt, _ in pairs])
        cut = [(prompt[len(head) :], said) for prompt, said in pairs]
        return self._repeating(self._row(images, head, cut), repeat_weight)

    def _answers(self, shot: Shot, stage: Stage, most: int, rng: np.random.Generator, overlooked: float) -> Row:
        images = self._images(shot, 0)
        asked = self._asked(shot, most, rng)
        prompts = [
            self._text(images, stage.ask(question=text, previous="", size_wh=images[0].size)) for text, _ in asked
        ]
        head = _common(prompts)
        nothing_hw = np.zeros(shot.cells_hw.shape, dtype=bool)
        pairs = []
        for prompt, (_, places) in zip(prompts, asked, strict=True):
            # Nothing is drawn where nothing is overlooked: the phases before do not depend on this one.
            spots = [
                shot.glance(place) if overlooked and rng.random() < overlooked else shot.spots[place]
                for place in places
            ]
            boxes_xyxy = np.stack([spot.box_xyxy for spot in spots])
            given = texts.boxes(boxes_xyxy)
            if "points" in stage.segment_with:
                points_xy = points_for(boxes_xyxy, spots, nothing_hw, shot.cells_hw, stage.points)
                given = texts.pointed(boxes_xyxy, points_xy)
            answer = texts.measured(given, spots, stage.grammar)
            pairs.append((prompt[len(head) :], texts.reply(texts.marks(spots), answer)))
        return self._row(images, head, pairs)

    def _refined(
        self,
        shot: Shot,
        text: str,
        places: Sequence[int],
        boxes_xyxy: np.ndarray,
        mask_hw: np.ndarray,
        images: Sequence[Image.Image],
        rng: np.random.Generator,
    ) -> tuple[str, Said]:
        """A prompt of the second stage and its answer."""
        first, second = self.recipe.stages
        stage = self._with_points(second, rng)
        spots = [shot.spots[place] for place in places]
        told = describe(texts.boxes(boxes_xyxy), first.grammar)
        prompt = self._text(images, stage.ask(question=text, previous=told, size_wh=images[0].size))
        points_xy = points_for(boxes_xyxy, spots, mask_hw, shot.cells_hw, stage.points)
        answer = texts.repeated(texts.pointed(boxes_xyxy, points_xy), stage.grammar, told, prompt)
        return prompt, texts.reply(texts.marks(spots), answer)

    def _repeating(self, row: Row, weight: float) -> Row:
        """The row with more loss weight on the digits of boxes."""
        tails = []
        for ids, weights in row.tails:
            inside = self._in_boxes(ids)
            more = ((old + weight * found if old else old) for old, found in zip(weights, inside, strict=True))
            tails.append((ids, tuple(more)))
        return replace(row, tails=tuple(tails))

    def _asked(self, shot: Shot, most: int, rng: np.random.Generator) -> list[tuple[str, tuple[int, ...]]]:
        asked = [(text, places) for text, places in shot.questions().items() if len(places) <= MOST_PLACES]
        return _some(asked, most, rng)

    def _with_points(self, stage: Stage, rng: np.random.Generator) -> Stage:
        return replace(stage, points=int(rng.choice(POINTS)))

    def _images(self, shot: Shot, stage: int) -> list[Image.Image]:
        pictures = {"map": shot.map_hw3, "satellite": shot.satellite_hw3}
        return [Image.fromarray(np.ascontiguousarray(pictures[name])) for name in self.recipe.stages[stage].images]

    def _text(self, images: Sequence[Image.Image], words: str) -> str:
        return self.chat.text_of(Turn(0, tuple(images), words))

    def _row(self, images: Sequence[Image.Image], head: str, pairs: Sequence[tuple[str, Said]]) -> Row:
        shared = self._encoded(head, images)
        tails, leading, looks = [], [], []
        for asked, said in pairs:
            given, learnt = self._encoded(asked, images), self._encoded(said.text, images)
            leads = self._leading(learnt.ids)
            weights = self._weights(learnt.ids, leads)
            tails.append(((*given.ids, *learnt.ids), (*[0.0] * len(given.ids), *weights)))
            leading.append((*[False] * len(given.ids), *leads))
            looks.append(tuple(self._looks(said, shared + given, learnt, images[0].width)))
        arrays = tuple(np.asarray(image) for image in images)
        return Row(arrays, shared.ids, tuple(tails), tuple(leading), tuple(looks))

    def _looks(self, said: Said, prompt: _Encoded, learnt: _Encoded, width: int) -> Iterator[tuple[int, int, int]]:
        shown = [place for place, token in enumerate(prompt.ids) if token == self._image_token]
        factor = self.chat.grid.factor
        for look in said.looks:
            for index, start in enumerate(learnt.starts):
                if not look.start <= start < look.stop:
                    continue
                asking = len(prompt.ids) + index - 1
                if isinstance(look, Copy):
                    yield asking, COPYING_HEAD, prompt.starts.index(look.source + start - look.start)
                else:
                    x, y = look.xy
                    token = y // factor * (width // factor) + x // factor
                    yield asking, MAP_HEAD, shown[token]
                    yield asking, SATELLITE_HEAD, shown[len(shown) // 2 + token]

    def _encoded(self, text: str, images: Sequence[Image.Image]) -> _Encoded:
        placeholder = self.chat.processor.image_token
        found = _Encoded("", (), ())
        for number, part in enumerate(text.split(placeholder)):
            if number:
                count = self.chat.grid.num_tokens(images[number - 1].size)
                found += _Encoded(placeholder, (self._image_token,) * count, (0,) * count)
            pieces = self.chat.tokenizer(part, return_offsets_mapping=True)
            found += _Encoded(part, tuple(pieces["input_ids"]), tuple(start for start, _ in pieces["offset_mapping"]))
        return found

    def _in_boxes(self, ids: Sequence[int]) -> list[bool]:
        """Which tokens are digits of boxes."""
        found, inside = [], False
        for token, word in zip(ids, self.chat.tokenizer.convert_ids_to_tokens(list(ids)), strict=True):
            inside = word == self.recipe.stages[1].grammar.box or (inside and "]" not in word)
            found.append(inside and token in self._digits)
        return found

    def _leading(self, ids: Sequence[int]) -> list[bool]:
        """Which tokens are digits that another digit follows."""
        return [
            token in self._digits and after in self._digits for token, after in zip(ids, [*ids[1:], -1], strict=True)
        ]

    def _weights(self, ids: Sequence[int], leading: Sequence[bool]) -> list[float]:
        return [
            1.0 if leads else UNIT_WEIGHT if token in self._digits else TEXT_WEIGHT
            for token, leads in zip(ids, leading, strict=True)
        ]


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
