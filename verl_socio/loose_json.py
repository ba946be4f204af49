"""Find a JSON list of objects in text that may be anything: the part of the answer parser that knows no grammar.

The time is linear in the length of the text, whatever the text: one pass finds the outermost brackets, and the strict
JSON reader of the standard library then sees only stretches that are nested at most `MAX_DEPTH` deep.
"""

import json
import re
from dataclasses import dataclass, replace

MAX_DEPTH = 16

# Strings are swallowed whole, so that a bracket inside one is no bracket. The possessive quantifiers and the optional
# closing quote make every match succeed: an unclosed quote costs one pass, never a pass for each of its characters.
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)
_OPENING = re.compile(r"[\[{]")
_FENCE_BEFORE = re.compile(r"\s*+(?:```[A-Za-z]*+\s*+)?")
_FENCE_AFTER = re.compile(r"\s*+(?:```\s*+)?")


class JsonObject(dict[str, object]):
    """A JSON object that remembers whether a key was given twice (`repeats`); the last value of a key counts."""

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        """Build the object from its pairs in the order of the text."""
        super().__init__(pairs)
        self.repeats = len(self) != len(pairs)


@dataclass(frozen=True)
class Found:
    """The values found in a text.

    Attributes:
        items: Listed values, `JsonObject` where a value is an object; numbers are floats, perhaps infinite.
        intact: Whether the text is strict JSON of the form asked for, alone or in one Markdown fence.
        empty: Whether the text is intact and lists nothing.
        faults: What was wrong with the text, each kind once.
    """

    items: tuple[object, ...] = ()
    intact: bool = False
    empty: bool = False
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Root:
    """An outermost bracketed stretch of text: its span, whether it was closed, the spans of the objects right in it."""

    start: int
    end: int
    closed: bool
    objects: tuple[tuple[int, int], ...] = ()


def find_items(text: str, max_items: int, single: bool) -> Found:
    """Find the list of objects, or the one object, that a text holds.

    The last list with an object in it counts. Without one, objects that stand outside a list are taken. A list that is
    no strict JSON (cut off, a comma too many) is read object by object.

    Args:
        text: Any string.
        max_items: Values returned at most.
        single: Whether one object is asked for rather than a list.

    Returns:
        What was found; never an exception.
    """
    roots = _roots(text)
    lists = [root for root in roots if text[root.start] == "[" and root.objects]
    loose = [root for root in roots if text[root.start] == "{" and root.closed]
    if len(roots) == 1 and _alone(text, roots[0]):
        value = _loads(text[roots[0].start : roots[0].end])
        if value == [] or (single and value == {}):
            return Found(intact=True, empty=True)
    if lists:
        found = _read_list(text, lists[-1], max_items)
        if single:
            found = replace(found, intact=False, faults=(*found.faults, "a list where one object was asked for"))
    elif loose:
        values = tuple(_loads(text[root.start : root.end]) for root in loose[:max_items])
        alone = len(loose) == 1 and _alone(text, loose[0])
        faults = ("text around the object",) if not alone else ()
        if not single:
            faults = (*faults, "an object outside a list")
        found = Found(values, intact=single and alone, faults=faults)
    else:
        return Found(faults=("no JSON object" if text else "no answer",))
    if single and len(found.items) > 1:
        return replace(found, items=found.items[:1], intact=False, faults=(*found.faults, "more than one object"))
    return found


def _roots(text: str) -> list[_Root]:
    """Find the outermost bracketed stretches in one pass; those nested too deep are left out."""
    roots: list[_Root] = []
    position = 0
    while (opening := _OPENING.search(text, position)) is not None:
        root, position = _root(text, opening.start())
        if root is not None:
            roots.append(root)
    return roots


def _root(text: str, start: int) -> tuple[_Root | None, int]:
    """Follow the brackets from an opening one; return the stretch (None if too deep) and where to go on."""
    objects: list[tuple[int, int]] = []
    depth, item_start = 0, start
    for token in _TOKEN.finditer(text, start):
        mark = text[token.start()]
        if mark in "[{":
            depth += 1
            if depth == 2:
                item_start = token.start()
            if depth > MAX_DEPTH:
                return None, token.end()
        elif mark in "]}":
            depth -= 1
            if depth == 1 and text[item_start] == "{":
                objects.append((item_start, token.end()))
            if depth == 0:
                return _Root(start, token.end(), True, tuple(objects)), token.end()
    return _Root(start, len(text), False, tuple(objects)), len(text)


def _alone(text: str, root: _Root) -> bool:
    """Whether a closed stretch has nothing but white space and one Markdown fence around it."""
    before, after = _FENCE_BEFORE.fullmatch(text, 0, root.start), _FENCE_AFTER.fullmatch(text, root.end)
    return root.closed and before is not None and after is not None


def _read_list(text: str, root: _Root, max_items: int) -> Found:
    """Read a list strictly, or, where that fails, its whole objects one by one."""
    value = _loads(text[root.start : root.end]) if root.closed else None
    faults = []
    if isinstance(value, list):
        items, listed = value[:max_items], len(value)
    else:
        faults.append(
            "a broken list, read object by object" if root.closed else "a list cut off, read to its last whole item"
        )
        items, listed = [_loads(text[start:end]) for start, end in root.objects[:max_items]], len(root.objects)
    if listed > max_items:
        faults.append(f"more than {max_items} items")
    alone = _alone(text, root)
    if root.closed and not alone:
        faults.append("text around the list")
    return Found(tuple(items), intact=alone and isinstance(value, list), faults=tuple(faults))


def _loads(text: str) -> object:
    """Strict JSON, None for what is not; a huge number becomes infinite, the words NaN and Infinity become None."""
    try:
        return json.loads(text, object_pairs_hook=JsonObject, parse_int=float, parse_constant=lambda word: None)
    except ValueError:
        return None
