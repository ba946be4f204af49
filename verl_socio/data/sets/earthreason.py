"""EarthReason: implicit questions about satellite images, some about what is not there (SegEarth-R1, arXiv 2504.09644).

`<split>/{images,labels,QAs}`: `images/<id>.jpg` (or another picture), `labels/<id>.png` whose values above 0 are the
target, and `QAs/<id>.json` with `questions` and `answer`, two lists. An empty `answer` says that there is no target.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from verl_socio.data import tables
from verl_socio.data.formats import Choice, Format, folder_of
from verl_socio.data.problem import Problem
from verl_socio.data.sample import ImageRef, Sample
from verl_socio.data.truth import Truth
from verl_socio.text import is_whole

HUB_ID = "earth-insights/EarthReason"
_PARTS = ("images", "labels", "QAs")
_LAYOUT = "{train,val,test}/{images,labels,QAs}"
# A list of questions is a page of text; more is another file that got the name.
_MAX_BYTES = 1 << 20


def _recognises(source: str) -> bool:
    return source == HUB_ID or bool(_found(Path(source)))


def _found(folder: Path) -> dict[str, Path]:
    """The splits by name, each with two of its three parts or more: the third is named where it is missing."""
    children = sorted(child for child in folder.iterdir() if child.is_dir()) if folder.is_dir() else []
    return {child.name: child for child in children if sum((child / part).is_dir() for part in _PARTS) > 1}


def _splits(source: str) -> list[str]:
    folder = tables.downloaded(source)
    names = list(_found(folder))
    if not names:
        folder_of(str(folder), ["test/images"], _LAYOUT)
    return names


def _entries(source: str, split: str, choice: Choice) -> Iterator[Sample | Problem]:
    folder = folder_of(str(tables.downloaded(source) / split), _PARTS, f"images, labels and QAs in {_LAYOUT}")
    found = {part: _by_stem(folder / part) for part in _PARTS}
    for stem in sorted(set().union(*found.values())):
        yield _entry(folder, stem, {part: found[part].get(stem, []) for part in _PARTS}, choice)


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = defaultdict(list)
    for file in sorted(folder.iterdir()):
        if file.is_file() and not file.name.startswith("."):
            files[file.stem].append(file)
    return files


def _entry(folder: Path, stem: str, files: dict[str, list[Path]], choice: Choice) -> Sample | Problem:
    for part, suffix in (("images", ".jpg"), ("labels", ".png"), ("QAs", ".json")):
        if not files[part]:
            place = str(folder / part / f"{stem}{suffix}")
            return Problem(stem, place, "must exist", "add the file, or drop the sample")
        if len(files[part]) > 1:
            names = ", ".join(file.name for file in files[part])
            return Problem(stem, str(folder / part), f"must hold one file of this id, but holds {names}", "remove one")
    image, label, asked = (files[part][0] for part in _PARTS)
    try:
        questions, answered = parse_questions(asked.read_bytes())
    except OSError as error:
        return Problem(stem, str(asked), f"must be a readable file ({error.strerror})", "add the file")
    except ValueError as error:
        return Problem(stem, str(asked), str(error), 'write {"questions": ["..."], "answer": ["..."]}')
    return Sample(
        id=stem,
        question=choice.of(questions, stem),
        satellite=ImageRef(str(image)),
        map=None,
        target=ImageRef(str(label)),
        level=None,
        truth=Truth(may_be_empty=not answered),
    )


def parse_questions(text: bytes) -> tuple[list[str], bool]:
    """Read a file of `QAs`.

    Args:
        text: The file's bytes.

    Returns:
        The questions, at least one, and whether there is an answer: a target.

    Raises:
        ValueError: It is not a JSON object with a list of text `questions` and a list `answer`; the message is the rule
            broken.
    """
    if len(text) > _MAX_BYTES:
        raise ValueError(f"must be a short JSON file, but has {len(text)} bytes")
    try:
        content: Any = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"must be JSON in UTF-8 ({error})") from error
    questions = content.get("questions") if isinstance(content, dict) else None
    if not isinstance(questions, list) or not questions:
        raise ValueError('must be an object with a list under "questions" that is not empty')
    if not all(isinstance(question, str) and question.strip() for question in questions):
        raise ValueError('must hold text, and no empty one, in the list "questions"')
    if not all(is_whole(question) for question in questions):
        raise ValueError('must hold whole characters in the list "questions", but holds half a surrogate pair')
    if not isinstance(content.get("answer"), list):
        raise ValueError('must have a list under "answer", an empty one where there is no target')
    return [question.strip() for question in questions], bool(content["answer"])


FORMAT = Format(_recognises, _splits, _entries)
