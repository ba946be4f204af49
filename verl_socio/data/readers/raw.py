"""SocioSeg's raw layout: `<split>/<id>/{map,sat,mask}.png` and `question.json` with the key `problem`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from verl_socio.data.levels import level_of
from verl_socio.data.problem import Problem
from verl_socio.data.sample import LEVELS, ImageRef, Sample
from verl_socio.text import is_whole

QUESTION, SATELLITE, MAP, MASK = "question.json", "sat.png", "map.png", "mask.png"
_FILES = (QUESTION, SATELLITE, MAP, MASK)

# A question is a line of text; more is another file that got the name.
_MAX_QUESTION_BYTES = 1 << 20


def recognises(source: Path) -> bool:
    """Whether the folder holds splits in the raw layout, or is one split itself."""
    return source.is_dir() and bool(splits(source))


def splits(source: Path) -> dict[str, Path]:
    """The splits by name, sorted; a folder that holds samples directly is one split under its own name."""
    if _is_split(source):
        return {source.name: source}
    return {child.name: child for child in sorted(source.iterdir()) if child.is_dir() and _is_split(child)}


def entries(split_folder: Path) -> Iterator[Sample | Problem]:
    """Go through one split in order of id, without opening an image.

    Args:
        split_folder: A value of `splits`.

    Yields:
        A sample, or what keeps the folder from being one. A map or a mask that is missing gives None in the sample.
    """
    for folder in sorted(child for child in split_folder.iterdir() if child.is_dir()):
        yield _entry(folder)


def parse_question(text: bytes) -> tuple[str, str]:
    """Read question.json.

    Args:
        text: The file's bytes.

    Returns:
        The question and its level: that of the key `level` where there is one, else by `level_of`.

    Raises:
        ValueError: It is not a JSON object with text under `problem`; the message is the rule broken.
    """
    if len(text) > _MAX_QUESTION_BYTES:
        raise ValueError(f"must be a short JSON file, but has {len(text)} bytes")
    try:
        content = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"must be JSON in UTF-8 ({error})") from error
    question = content.get("problem") if isinstance(content, dict) else None
    if not isinstance(question, str) or not question.strip():
        raise ValueError('must be an object with text under "problem"')
    if not is_whole(question):
        raise ValueError('must hold whole characters under "problem", but holds half a surrogate pair')
    level = content.get("level", level_of(question))
    if level not in LEVELS:
        raise ValueError(f'must have one of {", ".join(LEVELS)} under "level", or no such key')
    return question.strip(), level


def _is_split(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    return any((child / name).exists() for child in folder.iterdir() if child.is_dir() for name in _FILES)


def _entry(folder: Path) -> Sample | Problem:
    question_file = folder / QUESTION
    try:
        question, level = parse_question(question_file.read_bytes())
    except OSError as error:
        return Problem(folder.name, str(question_file), f"must be a readable file ({error.strerror})", "add the file")
    except ValueError as error:
        return Problem(folder.name, str(question_file), str(error), 'write {"problem": "<what is asked for>"}')
    if not (folder / SATELLITE).is_file():
        return Problem(folder.name, str(folder / SATELLITE), "must exist", "add the satellite image")
    return Sample(
        id=folder.name,
        question=question,
        satellite=ImageRef(str(folder / SATELLITE)),
        map=_optional(folder / MAP),
        target=_optional(folder / MASK),
        level=level,
    )


def _optional(file: Path) -> ImageRef | None:
    return ImageRef(str(file)) if file.is_file() else None
