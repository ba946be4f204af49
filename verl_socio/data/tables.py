"""Tables of images on disk: opened once a process, memory-mapped, so that a row is read without the rows before it."""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from verl_socio.data import coco
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


def open_table(source: str, split: str) -> Dataset:
    """Open a parquet file, whatever the split, or one split of a folder or of a data set of the Hub.

    Raises:
        ValueError: As for `open_parquet` and `open_hub`.
    """
    path = Path(source)
    if path.is_file():
        return open_parquet(str(path.absolute()))
    return open_hub(str(path.absolute()) if path.exists() else source, split)


def table_uri(source: str, split: str, row: int, column: str) -> str:
    """The reference of one image in what `open_table` opens."""
    path = Path(source)
    if path.is_file():
        return parquet_uri(path.absolute(), row, column)
    return hub_uri(str(path.absolute()) if path.exists() else source, split, row, column)


def downloaded(source: str) -> Path:
    """The folder of a data set: itself, or that of the Hub's files in the Hugging Face cache.

    Raises:
        ValueError: There is no such folder and the Hub does not give it.
    """
    path = Path(source)
    if path.exists():
        return path.absolute()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(source, repo_type="dataset"))
    except (OSError, ValueError, HfHubHTTPError, HFValidationError) as error:
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

    Returns:
        The file, its bytes, or a mask of nested lists as a PNG: 0 and 1 for truth values, else the numbers.

    Raises:
        ValueError: The reference is malformed, or the table, row or column is not there, or the cell holds no image.
    """
    import datasets

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
    if isinstance(table.features[column], datasets.List | datasets.LargeList):
        return coco.png_of(_labels(uri, table, row, column))
    return cell_source(uri, table.select_columns([column])[row][column], folder)


def _labels(uri: str, table: Dataset, row: int, column: str) -> np.ndarray:
    """A mask of nested lists, rows of pixels: bool or uint8 (H, W)."""
    lines = table.with_format("arrow")[row].column(column).combine_chunks().flatten()
    values = lines.flatten()
    width = len(values) // max(1, len(lines))
    whole = lines.null_count == 0 and values.null_count == 0 and len(values) > 0
    if not whole or any(length != width for length in lines.value_lengths().to_pylist()):
        rule = "must hold a mask as rows of equally many values"
        raise invalid("image", uri, rule, "write or download the table again")
    flat: np.ndarray = values.to_numpy(zero_copy_only=False)
    if flat.dtype != np.bool_ and not (flat.dtype.kind in "iu" and flat.min() >= 0 and flat.max() <= 255):
        rule = f"must hold truth values or whole numbers of 0 to 255, not {flat.dtype}"
        raise invalid("image", uri, rule, "write or download the table again")
    labels_hw = flat.reshape(-1, width)
    return labels_hw if labels_hw.dtype == np.bool_ else labels_hw.astype(np.uint8)


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
