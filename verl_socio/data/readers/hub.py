"""A data set of the Hugging Face Hub, or a local folder of parquet files in the Hub's layout, kept memory-mapped."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from verl_socio.data import tables
from verl_socio.data.problem import Problem
from verl_socio.data.readers import columns, parquet
from verl_socio.data.sample import Sample

_DATASET_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def recognises(source: str) -> bool:
    """Whether the source is a folder with parquet files, or reads like the id of a data set and is no path."""
    folder = Path(source)
    if folder.exists():
        return folder.is_dir() and bool(parquet.files_in(folder))
    return _DATASET_ID.fullmatch(source) is not None


def splits(source: str) -> dict[str, str]:
    """The splits, by name.

    Raises:
        ValueError: There is no such data set, or it cannot be reached.
    """
    import datasets
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return {name: name for name in datasets.get_dataset_split_names(source)}
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise tables.unreachable(source, error) from error


def entries(source: str, split: str) -> Iterator[Sample | Problem]:
    """Go through one split in order of id, without reading an image.

    Args:
        source: Data set id or folder.
        split: Name of the split.

    Yields:
        A sample whose images are `hub:` references, or what keeps a row from being one.

    Raises:
        ValueError: The split cannot be opened or lacks a column.
    """
    yield from columns.sorted_by_id(_rows(source, split))


def _rows(source: str, split: str) -> Iterator[Sample | Problem]:
    table = tables.open_hub(source, split)
    chosen = columns.chosen_columns(source, table.column_names)
    text = table.select_columns([name for field, name in chosen.items() if field not in columns.IMAGES])
    # Looking at an Arrow column's validity bits tells which images are there without touching their bytes.
    present = {
        field: table.with_format("arrow").data.column(chosen[field]).is_valid().to_pylist()
        for field in columns.IMAGES
        if field in chosen
    }
    for number, values in enumerate(text):
        row = {field: values[name] for field, name in chosen.items() if field not in columns.IMAGES}
        row |= {field: True if there[number] else None for field, there in present.items()}

        def reference(field: str, number: int = number) -> str:
            return tables.hub_uri(source, split, number, chosen[field])

        yield columns.entry(row, f"{source} {split} row {number}", Path(source), reference)
