"""Tables of images on disk: opened once a process, memory-mapped, so that a row is read without the rows before it."""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import TYPE_CHECKING

from verl_socio.errors import invalid

if TYPE_CHECKING:
    from datasets import Dataset

PARQUET = "parquet:"
HUB = "hub:"


def parquet_uri(file: Path, row: int, column: str) -> str:
    """The reference of one image in a parquet file."""
    return f"{PARQUET}{file}#{row}/{column}"


def hub_uri(source: str, split: str, row: int, column: str) -> str:
    """The reference of one image in a data set of the Hub, or in a local folder in the Hub's layout."""
    return f"{HUB}{source}#{split}/{row}/{column}"


@functools.lru_cache(maxsize=16)
def open_parquet(file: str) -> Dataset:
    """Open a parquet file as a memory-mapped table; `datasets` keeps its Arrow copy in the Hugging Face cache.

    A parquet file has no cheaper unit than a row group, which may hold hundreds of images; the Arrow copy has.

    Args:
        file: Absolute path.

    Returns:
        The table, with images left undecoded.

    Raises:
        ValueError: The file is not there or cannot be read.
    """
    import datasets

    try:
        return undecoded(datasets.load_dataset("parquet", data_files=[file], split="train"))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        rule = f"must be a readable parquet file ({type(error).__name__}: {error})"
        raise invalid("data", file, rule, "restore the file, or write or download it again") from error


@functools.lru_cache(maxsize=16)
def open_hub(source: str, split: str) -> Dataset:
    """Open one split of a data set of the Hub, or of a local folder in its layout, memory-mapped.

    Args:
        source: Data set id ("owner/name") or folder.
        split: Name of the split.

    Returns:
        The table, with images left undecoded.

    Raises:
        ValueError: There is no such data set or split, or it cannot be reached or read.
    """
    import datasets
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return undecoded(datasets.load_dataset(source, split=split))
    except (OSError, ValueError, datasets.exceptions.DatasetsError, HfHubHTTPError) as error:
        raise unreachable(source, error) from error


def unreachable(source: str, error: Exception) -> ValueError:
    """The error for a data set that is neither here nor given by the Hub."""
    rule = f"must be a path that exists or a data set that the Hub gives ({type(error).__name__}: {error})"
    return invalid("data", source, rule, "correct the path or id; for a data set of the Hub check network and token")


def undecoded(table: Dataset) -> Dataset:
    """The same table with image columns as they are stored, so that reading a row decodes nothing."""
    import datasets

    for name, feature in table.features.items():
        if isinstance(feature, datasets.Image):
            table = table.cast_column(name, datasets.Image(decode=False))
    return table


def image_source(uri: str) -> Path | io.BytesIO:
    """Find the image file that a `parquet:` or `hub:` reference stands for.

    Raises:
        ValueError: The reference is malformed, or the table, row or column is not there, or the cell holds no image.
    """
    scheme = PARQUET if uri.startswith(PARQUET) else HUB
    source, _, rest = uri[len(scheme) :].rpartition("#")
    parts = rest.split("/", 1 if scheme == PARQUET else 2)
    if not source or len(parts) != (2 if scheme == PARQUET else 3) or not parts[-2].isdecimal():
        shape = "parquet:FILE#ROW/COLUMN" if scheme == PARQUET else "hub:SOURCE#SPLIT/ROW/COLUMN"
        raise invalid("image", uri, f"must read {shape}", "write references with verl_socio.data.load_samples")
    table = open_parquet(source) if scheme == PARQUET else open_hub(source, parts[0])
    row, column = int(parts[-2]), parts[-1]
    if row >= len(table) or column not in table.column_names:
        found = f"{len(table)} rows and the columns {', '.join(table.column_names)}"
        raise invalid("image", uri, f"must be in the table, which has {found}", "load the samples again")
    folder = Path(source).parent if scheme == PARQUET else Path(source)
    return cell_source(uri, table.select_columns([column])[row][column], folder)


def cell_source(uri: str, cell: object, folder: Path) -> Path | io.BytesIO:
    """The image of one cell: its bytes, or the file that it names, relative names being taken from `folder`.

    Raises:
        ValueError: The cell is empty, or names a file that does not exist.
    """
    data, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (None, cell)
    if isinstance(data, bytes) and data:
        return io.BytesIO(data)
    if not isinstance(path, str) or not path:
        raise invalid("image", uri, "must hold an image's bytes or path", "write the row again with its image")
    file = folder / path
    if not file.is_file():
        raise invalid("image", f"{uri} -> {file}", "must be an existing image file", "restore the file or its path")
    return file
