"""Parquet: SocioSeg's columns with images inside, or a table of strings that says where the images are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verl_socio.data import tables
from verl_socio.data.problem import Problem
from verl_socio.data.readers import columns
from verl_socio.data.sample import Sample
from verl_socio.errors import invalid

if TYPE_CHECKING:
    import pyarrow.parquet

# train.parquet, train-00000-of-00002.parquet
_SHARD = re.compile(r"(?P<split>.+?)(-\d+-of-\d+)?\.parquet")


def recognises(source: Path) -> bool:
    """Whether the source is a parquet file, or a folder of parquet files that are tables of paths."""
    if source.is_file():
        return source.suffix == ".parquet"
    files = files_in(source) if source.is_dir() else []
    return bool(files) and "satellite" in columns_of(files[0])


def files_in(folder: Path) -> list[Path]:
    """The parquet files of a folder and of its `data` folder, sorted."""
    return sorted([*folder.glob("*.parquet"), *folder.glob("data/*.parquet")])


def columns_of(file: Path) -> list[str]:
    """The names of a file's columns.

    Raises:
        ValueError: It is no parquet file.
    """
    return list(_opened(file).schema_arrow.names)


def splits(source: Path) -> dict[str, list[Path]]:
    """The files of each split by its name; a single file is one split under its own name."""
    found: dict[str, list[Path]] = {}
    for file in [source] if source.is_file() else files_in(source):
        match = _SHARD.fullmatch(file.name)
        if match is not None:
            found.setdefault(match["split"], []).append(file)
    return found


def entries(files: list[Path]) -> Iterator[Sample | Problem]:
    """Go through the files of one split in order of id, reading text columns only.

    Args:
        files: A value of `splits`.

    Yields:
        A sample, or what keeps a row from being one.

    Raises:
        ValueError: A file is not parquet, or lacks a column.
    """
    yield from columns.sorted_by_id(found for file in files for found in _rows(file.absolute()))


def _rows(file: Path) -> Iterator[Sample | Problem]:
    import pyarrow as pa

    table = _opened(file)
    chosen = columns.chosen_columns(str(file), table.schema_arrow.names)
    # Of an image struct only the path is read: enough to tell a null from an image, and never the pixels.
    wanted = {field: name for field, name in chosen.items()}
    for field in columns.IMAGES:
        if field in chosen and pa.types.is_struct(table.schema_arrow.field(chosen[field]).type):
            wanted[field] = f"{chosen[field]}.path"
    number = 0
    try:
        for batch in table.iter_batches(batch_size=4096, columns=list(wanted.values())):
            for values in batch.to_pylist():
                row = {field: values[name] for field, name in chosen.items()}
                yield _entry(row, chosen, file, number)
                number += 1
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(file, error) from error


def _entry(row: dict[str, Any], chosen: dict[str, str], file: Path, number: int) -> Sample | Problem:
    def reference(field: str) -> str:
        return tables.parquet_uri(file, number, chosen[field])

    return columns.entry(row, f"{file} row {number}", file.parent, reference)


def _opened(file: Path) -> pyarrow.parquet.ParquetFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> ValueError:
    rule = f"must be a readable parquet file ({type(error).__name__}: {error})"
    return invalid("data", str(file), rule, "write or download the file again")
