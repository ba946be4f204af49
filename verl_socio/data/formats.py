"""What a reader of one format of data offers, and how a user asks for its samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from verl_socio.data.problem import Problem
from verl_socio.data.sample import Sample
from verl_socio.errors import invalid

FIRST, RANDOM = "first", "random"


@dataclass(frozen=True)
class Choice:
    """Which question is asked where a set has several for one image, and which file tells the answers.

    Attributes:
        question: "first" (SegEarth-R1's protocol), or "random": one drawn for each image (Think2Seg-RS's).
        seed: Of the draw, 0 or more. An image's question depends on the seed and its id alone.
        annotations: COCO's own file of annotations, whose boxes and crowds then are the answers; None: what the set
            itself says.

    Raises:
        ValueError: An unknown word or a seed below 0.
    """

    question: str = FIRST
    seed: int = 0
    annotations: str | None = None

    def __post_init__(self) -> None:
        """Check both."""
        if self.question not in (FIRST, RANDOM):
            raise invalid("question", self.question, f"must be {FIRST} or {RANDOM}", "use one of them")
        if type(self.seed) is not int or self.seed < 0:
            raise invalid("question_seed", self.seed, "must be a whole number of 0 or more", "use 0")
        if self.annotations is not None and (type(self.annotations) is not str or not self.annotations.strip()):
            raise invalid("annotations", self.annotations, "must be a file or null", "give instances_val2017.json")

    def of(self, questions: list[str], sample_id: str) -> str:
        """Choose one of at least one questions."""
        if self.question == FIRST:
            return questions[0]
        draw = np.random.default_rng([self.seed, *sample_id.encode("utf-8", "surrogatepass")])
        return questions[int(draw.integers(len(questions)))]


FIRST_QUESTION = Choice()
"""The choice where none is made."""


@dataclass(frozen=True)
class Format:
    """A format of data sets.

    Attributes:
        recognises: Whether a source (a path or the id of a data set on the Hub) looks like it.
        splits: The names of a source's splits. Raises `ValueError` where it lacks a file or column.
        entries: Goes through a split of a source: samples, and what keeps rows from being ones.
        takes_annotations: Whether COCO's own file may tell the answers.
    """

    recognises: Callable[[str], bool]
    splits: Callable[[str], Iterable[str]]
    entries: Callable[[str, str, Choice], Iterator[Sample | Problem]]
    takes_annotations: bool = False


def folder_of(source: str, needed: Iterable[str], layout: str) -> Path:
    """Check that a folder holds what a format needs.

    Args:
        source: The folder, absolute.
        needed: Files and folders below it.
        layout: What the whole looks like, for the error.

    Returns:
        The folder.

    Raises:
        ValueError: Something is not there; it is named.
    """
    folder = Path(source)
    missing = [name for name in needed if not (folder / name).exists()]
    if missing:
        names = sorted(child.name for child in folder.iterdir())[:8] if folder.is_dir() else []
        rule = f"must hold {', '.join(missing)}; found there: {', '.join(names) or 'nothing'}. Its layout is {layout}"
        fix = "point to the set's own folder, with its archives unpacked, or correct data_format"
        raise invalid("data", source, rule, fix)
    return folder
