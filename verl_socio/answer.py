"""What a model answered: the grammar it was asked for, the one parser, and the text that states an answer.

Model text is hostile input. `parse` takes any string of any length, reads at most `MAX_CHARS` characters of its answer
part in linear time, and returns an `Answer` that holds finite numbers only. It tells "nothing found" (an empty list)
from "unparseable", because one may earn a reward and the other may not.
"""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np

from verl_socio.errors import invalid
from verl_socio.geometry import Frame, convert
from verl_socio.loose_json import JsonObject, find_items
from verl_socio.text import printable

MAX_CHARS = 2**17
MAX_MAGNITUDE = 1e6

_TAGS = ("<think>", "</think>", "<answer>", "</answer>")


@dataclass(frozen=True)
class Prompt:
    """One object as the segmenter is asked for it.

    Attributes:
        box_xyxy: x1, y1, x2, y2 with x1 < x2 and y1 < y2, or None where the grammar has points only.
        points_xy: Points (x, y), positive ones first.
        labels: One a point: 1 on the object, 0 off it.
    """

    box_xyxy: tuple[float, float, float, float] | None
    points_xy: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Hold points and labels together."""
        assert len(self.points_xy) == len(self.labels), (len(self.points_xy), len(self.labels))

    @property
    def positive_xy(self) -> tuple[tuple[float, float], ...]:
        """The points on the object."""
        return tuple(point for point, label in zip(self.points_xy, self.labels, strict=True) if label)

    def cut(self, count: int) -> "Prompt":
        """Return the same prompt with the first `count` points on the object and the first `count` off it."""
        labels = np.array(self.labels, dtype=np.int64)
        kept = [place for label in (1, 0) for place in np.flatnonzero(labels == label)[:count]]
        points, labels_kept = [self.points_xy[place] for place in kept], [self.labels[place] for place in kept]
        return replace(self, points_xy=tuple(points), labels=tuple(labels_kept))

    def moved(self, source: Frame, target: Frame) -> "Prompt":
        """Return the same prompt written in another frame."""
        box = None
        if self.box_xyxy is not None:
            x1, y1, x2, y2 = convert(np.array(self.box_xyxy), source, target).tolist()
            box = (x1, y1, x2, y2)
        points = convert(np.array(self.points_xy, dtype=np.float64).reshape(-1, 2), source, target)
        return replace(self, box_xyxy=box, points_xy=tuple((x, y) for x, y in points.tolist()))


@dataclass(frozen=True)
class Grammar:
    """The form of answer that a recipe asks for.

    Attributes:
        box: Key of an item's box `[x1, y1, x2, y2]`; None for points only.
        points: Key of an item's list of positive points `[[x, y], ...]`.
        point_keys: Keys that hold one positive point `[x, y]` each.
        negative_points: Key of an item's list of points off the object; the one key that an item may leave out.
        single: The answer is one JSON object, not a list of them.
        max_items: Items read; the rest is dropped.
        max_points: Points read in each list of an item; the rest is dropped.

    Raises:
        ValueError: If no key is given, a key is given twice, or a bound is out of range.
    """

    box: str | None = "bbox_2d"
    points: str | None = None
    point_keys: tuple[str, ...] = ()
    negative_points: str | None = None
    single: bool = False
    max_items: int = 120
    max_points: int = 32

    def __post_init__(self) -> None:
        """Refuse a grammar that no answer can follow."""
        if self.box is None and not self.has_points:
            raise invalid("grammar", self, "must name a box or points", "set box, points or point_keys")
        if len(set(self.keys)) != len(self.keys):
            raise invalid("grammar", self.keys, "each key may be used once", "rename one of them")
        if self.max_items < 1:
            raise invalid("grammar.max_items", self.max_items, "must be 1 or more", "raise it")
        if self.max_points < 0:
            raise invalid("grammar.max_points", self.max_points, "must be 0 or more", "raise it")

    @property
    def has_points(self) -> bool:
        """Whether an item holds points on the object."""
        return bool(self.point_keys) or self.points is not None

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys of an item, in the order in which they are written."""
        named = (self.box, *self.point_keys, self.points, self.negative_points)
        return tuple(key for key in named if key is not None)


class Status(StrEnum):
    """What became of an answer."""

    OK = "ok"
    EMPTY = "empty"
    UNPARSEABLE = "unparseable"


@dataclass(frozen=True)
class Answer:
    """A parsed answer.

    Attributes:
        status: OK with at least one prompt, EMPTY for a well-formed empty list, UNPARSEABLE for all else.
        prompts: The usable items, in the order in which they were listed.
        reason: Why it is unparseable, or what was dropped; empty if nothing was.
        thinking: The text between the think tags, encodable as UTF-8.
        think_format: Whether the text is `<think>..</think><answer>..</answer>` with each tag once and nothing but
            white space before, between and after.
        item_exact: One a listed item: exactly the grammar's keys, right shapes, usable numbers. All False where the
            JSON had to be repaired or stood among other text.
        box_exact: One a listed item: its box has the right shape and usable numbers, whatever else the item holds;
            False where the grammar has no box. All False as for `item_exact`.
        points_exact: The same for all its keys of points.
        text: The whole text, encodable as UTF-8, cut to `MAX_CHARS`: for rewards that read more than coordinates.
    """

    status: Status
    prompts: tuple[Prompt, ...] = ()
    reason: str = ""
    thinking: str = ""
    think_format: bool = False
    item_exact: tuple[bool, ...] = ()
    box_exact: tuple[bool, ...] = ()
    points_exact: tuple[bool, ...] = ()
    text: str = field(default="", repr=False, compare=False)

    def moved(self, source: Frame, target: Frame) -> "Answer":
        """Return the same answer written in another frame."""
        return replace(self, prompts=tuple(prompt.moved(source, target) for prompt in self.prompts))


def parse(text: str, grammar: Grammar) -> Answer:
    """Read a model's text.

    The last `<answer>` block counts; without one, what follows the last `</think>`, or all of the text. A Markdown
    fence around the JSON is allowed. A list cut off or broken is read up to its whole items, which then are not exact.
    Boxes with swapped corners are put right; items without a usable box are dropped, and `reason` says so.

    Args:
        text: Any string: unclosed tags, megabytes of brackets, lone surrogates.
        grammar: The form that was asked for.

    Returns:
        The answer, with coordinates in the frame that the model wrote them in; none is clipped to the image.

    Example:
        >>> text = '<think>a roof</think><answer>[{"bbox_2d": [40, 50, 10, 20]}]</answer>'
        >>> parse(text, Grammar()).prompts[0].box_xyxy
        (10.0, 20.0, 40.0, 50.0)
    """
    body, tagged = _answer_part(text)
    found = find_items(_bounded(body, tagged), grammar.max_items, grammar.single)
    items = [_read_item(value, grammar) for value in found.items]
    prompts = tuple(item.prompt for item in items if item.prompt is not None)
    if prompts:
        status = Status.OK
    else:
        status = Status.EMPTY if found.empty else Status.UNPARSEABLE
    faults = Counter(found.faults)
    for item in items:
        faults.update(item.faults)
    return Answer(
        status=status,
        prompts=prompts,
        reason="; ".join(fault if count == 1 else f"{fault} ({count} items)" for fault, count in faults.items()),
        thinking=_thinking(text),
        think_format=_think_format(text),
        item_exact=tuple(item.exact and found.intact for item in items),
        box_exact=tuple(item.box_exact and found.intact for item in items),
        points_exact=tuple(item.points_exact and found.intact for item in items),
        text=printable(text[:MAX_CHARS]),
    )


def describe(prompts: Sequence[Prompt], grammar: Grammar) -> str:
    """Write prompts as the grammar asks for them, in whole numbers.

    `parse(describe(prompts, grammar), grammar)` gives the prompts back, rounded; a box thinner than a unit is
    widened to one, so that it stays a box.

    Args:
        prompts: Prompts with coordinates in the frame of the reader.
        grammar: Form of the text.

    Returns:
        JSON text: a list, or one object for a `single` grammar (`{}` if there is none).

    Raises:
        ValueError: If the prompts do not fit the grammar.
    """
    if len(prompts) > (1 if grammar.single else grammar.max_items):
        raise invalid("prompts", len(prompts), "more items than the grammar holds", "pass fewer or raise max_items")
    items = [_described(prompt, grammar) for prompt in prompts]
    if grammar.single:
        return json.dumps(items[0] if items else {})
    return json.dumps(items)


def _described(prompt: Prompt, grammar: Grammar) -> dict[str, object]:
    """One item of `describe`, keys in the grammar's order."""
    if (prompt.box_xyxy is None) != (grammar.box is None):
        raise invalid("prompt.box_xyxy", prompt.box_xyxy, f"the grammar's box key is {grammar.box!r}", "match the two")
    positive = [_whole(point) for point in prompt.positive_xy]
    negative = [_whole(point) for point, label in zip(prompt.points_xy, prompt.labels, strict=True) if not label]
    single, listed = positive[: len(grammar.point_keys)], positive[len(grammar.point_keys) :]
    if listed and grammar.points is None:
        raise invalid("prompt.points_xy", prompt.points_xy, "no more points than the grammar has keys", "match the two")
    if negative and grammar.negative_points is None:
        raise invalid("prompt.labels", prompt.labels, "the grammar has no key for negative points", "leave them out")
    if max(len(listed), len(negative)) > grammar.max_points:
        raise invalid("prompt.points_xy", len(prompt.points_xy), f"at most {grammar.max_points} a list", "pass fewer")
    item: dict[str, object] = {}
    if grammar.box is not None and prompt.box_xyxy is not None:
        x1, y1, x2, y2 = prompt.box_xyxy
        (x1, x2), (y1, y2) = _whole_interval(x1, x2), _whole_interval(y1, y2)
        item[grammar.box] = [x1, y1, x2, y2]
    # A model may have left out a point: then so does the text.
    item.update(zip(grammar.point_keys, single, strict=False))
    if grammar.points is not None:
        item[grammar.points] = listed
    if grammar.negative_points is not None:
        item[grammar.negative_points] = negative
    return item


def _whole(values: Sequence[float]) -> list[int]:
    return [round(value) for value in values]


def _whole_interval(low: float, high: float) -> tuple[int, int]:
    """Round both ends, outwards if they would meet."""
    if round(low) < round(high):
        return round(low), round(high)
    return math.floor(low), math.ceil(high)


# --- the parts of the text -------------------------------------------------------------------------------------------


def _answer_part(text: str) -> tuple[str, bool]:
    """Return the part of the text that should hold the JSON, and whether it stood in answer tags."""
    start = text.rfind("<answer>")
    if start >= 0:
        start += len("<answer>")
        end = text.find("</answer>", start)
        return text[start : end if end >= 0 else len(text)], True
    thought = text.rfind("</think>")
    return (text[thought + len("</think>") :] if thought >= 0 else text), False


def _bounded(body: str, tagged: bool) -> str:
    """Cut the body to `MAX_CHARS`: its beginning where the answer begins there, its end where prose leads up to it."""
    body = body.strip()
    if tagged or body[:1] in ("[", "{", "`"):
        return body[:MAX_CHARS]
    return body[-MAX_CHARS:]


def _thinking(text: str) -> str:
    end = text.find("</think>")
    start = text.find("<think>", 0, end if end >= 0 else len(text))
    if start < 0 and end < 0:
        return ""
    if end < 0:
        answer = text.find("<answer>", start)
        end = answer if answer >= 0 else len(text)
    # Logs and sample records hold this text.
    return printable(text[start + len("<think>") if start >= 0 else 0 : end].strip())


def _think_format(text: str) -> bool:
    stripped = text.strip()
    if not stripped.startswith("<think>") or not stripped.endswith("</answer>"):
        return False
    if any(stripped.count(tag) != 1 for tag in _TAGS):
        return False
    thought, answer = stripped.find("</think>"), stripped.find("<answer>")
    return thought < answer and not stripped[thought + len("</think>") : answer].strip()


# --- one item --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Item:
    """What the grammar makes of one listed value; `faults` names each kind of fault once."""

    prompt: Prompt | None
    exact: bool
    faults: frozenset[str]
    box_exact: bool = False
    points_exact: bool = False


def _read_item(value: object, grammar: Grammar) -> _Item:
    if not isinstance(value, JsonObject):
        return _Item(None, False, frozenset({"an item that is no JSON object"}))
    of_points: set[str] = set()
    positive = [point for key in grammar.point_keys if (point := _numbers(value, key, 2, of_points)) is not None]
    positive += _point_list(value, grammar.points, grammar.max_points, of_points)
    negative: list[list[float]] = []
    if grammar.negative_points in value:
        negative = _point_list(value, grammar.negative_points, grammar.max_points, of_points)
    of_box: set[str] = set()
    box = None if grammar.box is None else _numbers(value, grammar.box, 4, of_box)
    faults = of_points | of_box
    if value.repeats:
        faults.add("a key given twice")
    if value.keys() - set(grammar.keys):
        faults.add("a key that was not asked for")
    exact = not faults
    # From here on the form is right, but the segmenter could do nothing with the item.
    box_xyxy = None if box is None else _ordered(box, faults)
    points = [(x, y) for x, y in positive]
    points += [(x, y) for x, y in negative]
    labels = [1] * len(positive) + [0] * len(negative)
    if grammar.box is None and not positive:
        faults.add("an item without a usable point")
    usable = box_xyxy is not None or (grammar.box is None and bool(positive))
    prompt = Prompt(box_xyxy, tuple(points), tuple(labels)) if usable else None
    return _Item(prompt, exact, frozenset(faults), box is not None, grammar.has_points and not of_points)


def _ordered(box: list[float], faults: set[str]) -> tuple[float, float, float, float] | None:
    """The box with its corners put right, or None if it has no area."""
    x1, x2 = sorted((box[0], box[2]))
    y1, y2 = sorted((box[1], box[3]))
    if x1 == x2 or y1 == y2:
        faults.add("a box without an area")
        return None
    return x1, y1, x2, y2


def _numbers(value: JsonObject, key: str, length: int, faults: set[str]) -> list[float] | None:
    """The `length` coordinates under a key, or None with the fault named."""
    if key not in value:
        faults.add("a key that is missing")
        return None
    return _coordinates(value[key], length, faults)


def _point_list(value: JsonObject, key: str | None, max_points: int, faults: set[str]) -> list[list[float]]:
    """The usable points listed under a key."""
    if key is None:
        return []
    listed = value.get(key)
    if not isinstance(listed, list):
        faults.add("a key that is missing" if key not in value else "points that are no list")
        return []
    if len(listed) > max_points:
        faults.add(f"more than {max_points} points")
    points = (_coordinates(point, 2, faults) for point in listed[:max_points])
    return [point for point in points if point is not None]


def _coordinates(value: object, length: int, faults: set[str]) -> list[float] | None:
    """The value as that many usable numbers, or None; `bool` is no number, and a string of digits is none either."""
    if not isinstance(value, list) or len(value) != length:
        faults.add(f"coordinates that are no list of {length} numbers")
        return None
    # The JSON reader makes every number a float, so that nothing else passes for one.
    if not all(isinstance(number, float) and abs(number) <= MAX_MAGNITUDE for number in value):
        faults.add("a coordinate that is no usable number")
        return None
    return [number + 0.0 for number in value]
