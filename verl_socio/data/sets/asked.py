"""Tables of pictures and texts, as VisionReasoner's authors released their test sets (arXiv 2505.12081).

Each row has image, text, image_id, ann_id, img_height and img_width; what the answer is differs from set to set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verl_socio.data import tables
from verl_socio.data.formats import Choice, Format, folder_of
from verl_socio.data.problem import Problem
from verl_socio.data.readers import hub, parquet
from verl_socio.data.sample import ImageRef, Sample
from verl_socio.data.truth import Truth, whole_number
from verl_socio.errors import invalid

IMAGE, TEXT, MASK = "image", "text", "mask"
_COMMON = (IMAGE, TEXT, "image_id", "ann_id", "img_height", "img_width")
_FIX = "write or download the table again, or drop the row"


@dataclass(frozen=True)
class Table:
    """A kind of such tables.

    Attributes:
        needed: The columns of the answer.
        optional: Columns that some of its sets have.
        known: Ids of data sets on the Hub that are of this kind.
        truth: Reads the answer of a row; it raises `ValueError` with the rule that the row breaks.
        alone: Columns whose values together no two rows may share.
        told_by: Opens COCO's own file, and gives what says its answer in place of a row's; that raises as `truth` does.
            None where there is no such file.
    """

    needed: tuple[str, ...]
    optional: tuple[str, ...]
    known: tuple[str, ...]
    truth: Callable[[Mapping[str, Any]], Truth]
    alone: tuple[str, ...] = ()
    told_by: Callable[[str], Callable[[Truth], Truth]] | None = None

    def format(self) -> Format:
        """The reader of this kind."""
        return Format(self._recognises, _splits, self._entries, takes_annotations=self.told_by is not None)

    def _recognises(self, source: str) -> bool:
        if source in self.known:
            return True
        path = Path(source)
        files = [path] if path.suffix == ".parquet" and path.is_file() else []
        files = files or (parquet.files_in(path) if path.is_dir() else [])
        return bool(files) and {IMAGE, TEXT, *self.needed} <= set(parquet.columns_of(files[0]))

    def _entries(self, source: str, split: str, choice: Choice) -> Iterator[Sample | Problem]:
        table = tables.open_table(source, split)
        have = set(table.column_names)
        missing = [name for name in (*_COMMON, *self.needed) if name not in have]
        if missing:
            rule = f"must have the columns {', '.join(missing)} too; it has {', '.join(table.column_names) or 'none'}"
            raise invalid("data", source, rule, "download the set again, or correct data_format")
        present = {name: _validity(table, name) for name in (IMAGE, MASK) if name in have}
        small = [name for name in (*_COMMON, *self.needed, *self.optional) if name in have and name not in present]
        seen: dict[tuple[str, ...], int] = {}
        says = None if choice.annotations is None or self.told_by is None else self.told_by(choice.annotations)
        for number, row in enumerate(table.select_columns(small)):
            place = f"{source} {split} row {number}"
            key = tuple(str(row[name]) for name in self.alone)
            if self.alone and seen.setdefault(key, number) != number:
                rule = f"must not have the {' and '.join(self.alone)} of row {seen[key]}: {', '.join(key)}"
                yield Problem(_id_of(row, number), place, rule, "join the two rows")
                continue
            uris = {name: tables.table_uri(source, split, number, name) for name in present if present[name][number]}
            yield self._entry(row, number, uris, place, says)

    def _entry(
        self,
        row: Mapping[str, Any],
        number: int,
        uris: Mapping[str, str],
        place: str,
        says: Callable[[Truth], Truth] | None,
    ) -> Sample | Problem:
        sample_id = _id_of(row, number)
        missing = [name for name in (IMAGE, MASK) if name not in uris and (name == IMAGE or MASK in self.needed)]
        if missing:
            return Problem(sample_id, place, f"must have a value in the column {missing[0]}", _FIX)
        if not isinstance(row[TEXT], str) or not question_of(row[TEXT]):
            return Problem(sample_id, place, f"must have a text that says something, not {row[TEXT]!r}", _FIX)
        try:
            truth = self.truth(row) if says is None else says(self.truth(row))
        except ValueError as error:
            return Problem(sample_id, place, str(error), _FIX)
        target = ImageRef(uris[MASK]) if MASK in uris else None
        return Sample(sample_id, question_of(row[TEXT]), ImageRef(uris[IMAGE]), None, target, None, truth)


def _id_of(row: Mapping[str, Any], number: int) -> str:
    # Two rows may ask the same of the same object: only its place tells a row from all others.
    return f"{number:06d}-{row['image_id']}-{row['ann_id']}"


def question_of(text: str) -> str:
    """The text as the published evaluations ask it: in lower case, without . " ? ! at its ends."""
    return text.lower().strip('."?! \n\t')


def size_of(row: Mapping[str, Any]) -> tuple[int, int]:
    """The image's width and height as the row says them, in pixels.

    Raises:
        ValueError: They are no whole numbers; the message is the rule broken.
    """
    return whole_number("img_width", row["img_width"]), whole_number("img_height", row["img_height"])


def number_of(name: str, value: Any) -> int | None:
    """An id that is a whole number, also where it is written as text; None for any other text.

    Raises:
        ValueError: It is neither; the message is the rule broken.
    """
    if isinstance(value, str):
        return int(value) if value.isdecimal() else None
    return whole_number(name, value)


def _splits(source: str) -> list[str]:
    path = Path(source)
    if path.is_file():
        return sorted(parquet.splits(path))
    if path.exists() and not parquet.files_in(path):
        folder_of(source, ["data/test-00000-of-00001.parquet"], "data/<split>-*.parquet")
    return sorted(hub.splits(source))


def _validity(table: Any, name: str) -> list[bool]:
    # Looking at an Arrow column's validity bits tells which images are there without touching their bytes.
    found: list[bool] = table.with_format("arrow").data.column(name).is_valid().to_pylist()
    return found
