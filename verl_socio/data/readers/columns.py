"""Rows of a table as samples: SocioSeg's column names and the project's own, images as structs or as paths."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from verl_socio.data import tables
from verl_socio.data.levels import level_of
from verl_socio.data.problem import Problem
from verl_socio.data.sample import LEVELS, ImageRef, Sample
from verl_socio.data.solution import parse_solution
from verl_socio.data.truth import Truth
from verl_socio.errors import invalid

# The sample's field, and the columns that may hold it, in order of preference.
ALIASES = {
    "id": ("id",),
    "question": ("question", "problem"),
    # Sets of plain pictures (Seg-Zero, VisionReasoner) have one image and call it so.
    "satellite": ("satellite", "sat_image", "image"),
    "map": ("map", "map_image"),
    "target": ("target", "mask_label"),
    "level": ("level",),
    "truth": ("truth",),
    "solution": ("solution",),
}
IMAGES = ("satellite", "map", "target")
_REQUIRED = ("id", "question", "satellite")


def chosen_columns(source: str, names: Iterable[str]) -> dict[str, str]:
    """Find the column of every field of a sample.

    Args:
        source: The table, for the error.
        names: The columns that it has.

    Returns:
        Column by field; fields without a column are left out.

    Raises:
        ValueError: There is no column for the id, the question or the satellite image.
    """
    have = list(names)
    found = {field: next((c for c in columns if c in have), None) for field, columns in ALIASES.items()}
    for field in _REQUIRED:
        if found[field] is None:
            rule = f"must have a column {' or '.join(ALIASES[field])}; it has {', '.join(have) or 'none'}"
            raise invalid("data", source, rule, "rename the column, or write the table with verl_socio.data.write")
    return {field: column for field, column in found.items() if column is not None}


def entry(row: Mapping[str, Any], place: str, folder: Path, reference: Callable[[str], str]) -> Sample | Problem:
    """Turn one row into a sample.

    Args:
        row: By field of the sample: text; for an image a path, a reference, or any other value that is not None where
            the table itself holds the image.
        place: Where the row is, for the problem.
        folder: What relative paths are relative to.
        reference: Gives the reference of an image that the table holds, by field.

    Returns:
        The sample, or what keeps the row from being one.
    """
    name = row.get("id")
    if name is None or not str(name).strip():
        return Problem("", place, "must have an id", "give every row an id of its own")
    question, level = row.get("question"), row.get("level")
    if not isinstance(question, str) or not question.strip():
        return Problem(str(name), place, "must have a question that is not empty", "write what is asked for")
    if level is not None and level not in LEVELS:
        rule = f"must have a level of {', '.join(LEVELS)}, not {level!r}"
        return Problem(str(name), place, rule, "correct it, or leave the level out")
    try:
        truth = _truth(row.get("truth"), row.get("solution"))
    except ValueError as error:
        return Problem(str(name), place, str(error), "correct it, or leave the column out")
    images: dict[str, ImageRef | None] = {}
    for field in IMAGES:
        value = row.get(field)
        if value is None or value == "":
            images[field] = None
        else:
            images[field] = ImageRef(_resolved(value, folder) if isinstance(value, str) else reference(field))
    satellite = images["satellite"]
    if satellite is None:
        return Problem(str(name), place, "must have a satellite image", "fill the column")
    return Sample(
        id=str(name),
        question=question.strip(),
        satellite=satellite,
        map=images["map"],
        target=images["target"],
        level=level or level_of(question),
        truth=truth,
    )


def _truth(text: str | None, solution: str | None) -> Truth:
    """What is known beside the mask; a training set's own column of solutions tells boxes and points."""
    truth = Truth.from_text(text)
    if not solution:
        return truth
    found = parse_solution(str(solution))
    return replace(truth, boxes_xyxy=found.boxes_xyxy, points_xy=found.points_xy)


def sorted_by_id(found: Iterable[Sample | Problem]) -> Iterator[Sample | Problem]:
    """Problems without an id first, then everything in order of id; rows of one id keep their order."""
    yield from sorted(found, key=lambda item: item.id)


def _resolved(value: str, folder: Path) -> str:
    return value if value.startswith((tables.PARQUET, tables.HUB)) else str(folder / value)
