"""Lists of phrases, `output_phrase_<split>.txt`: a line names an image and, after a space, what is asked for."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from verl_socio.data import tables
from verl_socio.data.formats import Choice, Format, folder_of
from verl_socio.data.problem import Problem
from verl_socio.data.sample import ImageRef, Sample
from verl_socio.data.truth import UNKNOWN, Truth
from verl_socio.errors import invalid

_BEFORE, _AFTER = "output_phrase_", ".txt"


@dataclass(frozen=True)
class Phrases:
    """A set of images, masks and lists of phrases.

    Attributes:
        images: Folder of the images.
        masks: Folder of the masks.
        file_of: The name of image and mask, given the first word of a line.
        layout: What its folder looks like, for errors.
        truth: How the masks are to be read.
        hub_id: Its id on the Hub, if it has one.
    """

    images: str
    masks: str
    file_of: Callable[[str], str]
    layout: str
    truth: Truth = UNKNOWN
    hub_id: str | None = None

    def format(self) -> Format:
        """The reader of this set."""
        return Format(self._recognises, self._splits, self._entries)

    def _recognises(self, source: str) -> bool:
        folder = Path(source)
        parts = (folder / self.images).is_dir() or (folder / self.masks).is_dir()
        return source == self.hub_id or (parts and bool(_splits_in(folder)))

    def _splits(self, source: str) -> list[str]:
        folder = tables.downloaded(source)
        found = _splits_in(folder)
        if not found:
            folder_of(str(folder), [_list_of("test")], self.layout)
        return found

    def _entries(self, source: str, split: str, choice: Choice) -> Iterator[Sample | Problem]:
        folder = folder_of(str(tables.downloaded(source)), [self.images, self.masks, _list_of(split)], self.layout)
        return _entries(folder, split, self)


def _splits_in(folder: Path) -> list[str]:
    """The names of the splits that have a list."""
    found = sorted(file.name for file in folder.glob(f"{_BEFORE}*{_AFTER}")) if folder.is_dir() else []
    return [name.removeprefix(_BEFORE).removesuffix(_AFTER) for name in found]


def _list_of(split: str) -> str:
    return f"{_BEFORE}{split}{_AFTER}"


def _entries(folder: Path, split: str, phrases: Phrases) -> Iterator[Sample | Problem]:
    """Go through a list in its order.

    An image that is asked about several times gives samples `<name>`, `<name> 2`, `<name> 3`; a line that is there
    twice is a fault.
    """
    file = folder / _list_of(split)
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        rule = f"must be a readable list in UTF-8 ({type(error).__name__}: {error})"
        raise invalid("data", str(file), rule, "copy the set's file again") from error
    seen: set[tuple[str, ...]] = set()
    times: Counter[str] = Counter()
    for number, line in enumerate(lines, start=1):
        place = f"{file} line {number}"
        words = tuple(line.split(maxsplit=1))
        if not words:
            continue
        name, phrase = words[0], words[1].strip() if len(words) > 1 else ""
        times[name] += 1
        # No name holds white space: this one is no other's.
        sample_id = name if times[name] == 1 else f"{name} {times[name]}"
        if not phrase:
            yield Problem(sample_id, place, "must hold an image's name, a space and a phrase", "complete the line")
        elif Path(name).name != name:
            yield Problem(sample_id, place, f"must name a file, not a path as {name!r} is", "write its name alone")
        elif (name, phrase) in seen:
            yield Problem(sample_id, place, f"must not repeat a line, but {name} {phrase!r} was there", "remove it")
        else:
            yield _entry(folder, sample_id, name, phrase, phrases)
        seen.add((name, phrase))


def _entry(folder: Path, sample_id: str, name: str, phrase: str, phrases: Phrases) -> Sample | Problem:
    image, mask = (folder / part / phrases.file_of(name) for part in (phrases.images, phrases.masks))
    for file in (image, mask):
        # os.path's test, unlike pathlib's, takes any text for a file that is not there.
        if not os.path.isfile(file):
            return Problem(sample_id, str(file), "must exist", "add the file, or remove its line from the list")
    return Sample(sample_id, phrase, ImageRef(str(image)), None, ImageRef(str(mask)), None, phrases.truth)
