"""Write samples: SocioSeg's raw layout, a table of paths, the Hub's parquet layout. Nothing is ever overwritten."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from verl_socio.data.readers import raw
from verl_socio.data.sample import LEVELS, ImageRef, Sample
from verl_socio.errors import invalid

# Rows of images in one row group, as the Hub's own writer does: a reader never holds more than these at once.
_ROW_GROUP = 100


def check_new(out: Path) -> None:
    """Refuse to write where something is.

    Raises:
        ValueError: `out` is a file or a folder that is not empty.
    """
    # A link that leads nowhere is something too.
    if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
        # Named, because it may be hidden: what a process that was killed left.
        holds = f", and holds {next(out.iterdir()).name}" if out.is_dir() else ""
        fix = "name another folder, or remove this one"
        raise invalid("output folder", str(out), f"must be new or empty{holds}", fix)


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Fill a folder that appears under its name, or in the empty one that has it, only when it is whole.

    Args:
        out: The folder to make; it may exist if it is empty.

    Yields:
        A hidden folder to write to, which is moved at the end, or removed if the block raises.

    Raises:
        ValueError: `out` is a file or a folder that is not empty.
    """
    check_new(out)
    out = out.absolute()
    # A folder that is there stays: it may be a mounted volume, a link or where the command runs, and nothing beside it
    # need be writable.
    kept = out.is_dir()
    place = out if kept else out.parent
    place.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{out.name}.unfinished-", dir=place, ignore_cleanup_errors=True) as hidden:
        # Below it, because a temporary folder is its owner's alone.
        draft = Path(hidden) / "whole"
        draft.mkdir()
        yield draft
        if kept:
            for child in draft.iterdir():
                child.rename(out / child.name)
        else:
            draft.rename(out)


def write_raw_sample(
    folder: Path, question: str, level: str, satellite: Image.Image, map_image: Image.Image, mask_hw: np.ndarray
) -> None:
    """Write one sample in SocioSeg's raw layout.

    Args:
        folder: `<split>/<id>`, which must not exist yet.
        question: What is asked for.
        level: "name", "class" or "function"; written beside the question as the key `level`, which SocioSeg's own
            files do not have and its readers pass over.
        satellite: The satellite image.
        map_image: The map, of the satellite's size.
        mask_hw: bool (H, W), True on the target; written as 0 and 255.

    Raises:
        ValueError: The sizes differ, the level is unknown, or the folder exists.
    """
    if level not in LEVELS:
        raise invalid("level", level, f"must be one of {', '.join(LEVELS)}", "use one of them")
    if not satellite.size == map_image.size == (mask_hw.shape[1], mask_hw.shape[0]):
        sizes = (satellite.size, map_image.size, (mask_hw.shape[1], mask_hw.shape[0]))
        raise invalid("sizes of satellite, map and mask", sizes, "must be the same", "render the three at one size")
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        fix = "give every sample an id of its own"
        raise invalid("sample folder", str(folder), "must not exist yet", fix) from error
    satellite.save(folder / raw.SATELLITE)
    map_image.save(folder / raw.MAP)
    Image.fromarray(mask_hw.astype(np.uint8) * 255).save(folder / raw.MASK)
    text = json.dumps({"problem": question, "level": level}, ensure_ascii=False)
    (folder / raw.QUESTION).write_text(text + "\n", encoding="utf-8")


def write_parquet(samples: Iterable[Sample], path: Path) -> None:
    """Write a table of strings that says where the images are; never pixels.

    Args:
        samples: The samples; images in files are written with absolute paths.
        path: The parquet file, which must not exist yet.

    Raises:
        ValueError: The file exists, or there is no sample.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [sample.to_row() for sample in samples]
    if not rows:
        raise invalid("samples", 0, "must be at least one", "load samples first")
    _must_not_exist(path)
    columns = list(rows[0])
    table = pa.table({name: pa.array([row[name] for row in rows], pa.string()) for name in columns})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def write_hub(splits: Mapping[str, Iterable[Sample]], out: Path) -> None:
    """Write a data set in the Hub's layout: `data/<split>-00000-of-00001.parquet` with the images inside.

    The columns are SocioSeg's (id, problem, map_image, sat_image, mask_label) and level; `datasets.load_dataset` reads
    the folder as it is.

    Args:
        splits: The samples of each split.
        out: The folder, which must be new or empty.

    Raises:
        ValueError: The folder is not empty, or an image cannot be read.
    """
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    image = datasets.Image()
    text = datasets.Value("string")
    features = datasets.Features(
        {"id": text, "problem": text, "level": text, "map_image": image, "sat_image": image, "mask_label": image}
    )
    with new_folder(out) as folder:
        (folder / "data").mkdir()
        for split, samples in splits.items():
            schema = features.arrow_schema
            with pq.ParquetWriter(folder / "data" / f"{split}-00000-of-00001.parquet", schema) as writer:
                for rows in _batches(samples):
                    writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def _batches(samples: Iterable[Sample]) -> Iterator[list[dict[str, object]]]:
    rows: list[dict[str, object]] = []
    for sample in samples:
        rows.append(
            {
                "id": sample.id,
                "problem": sample.question,
                "level": sample.level,
                "map_image": _stored(sample.map),
                "sat_image": _stored(sample.satellite),
                "mask_label": _stored(sample.target),
            }
        )
        if len(rows) == _ROW_GROUP:
            yield rows
            rows = []
    if rows:
        yield rows


def _stored(image: ImageRef | None) -> dict[str, object] | None:
    return None if image is None else {"bytes": image.encoded(), "path": None}


def _must_not_exist(path: Path) -> None:
    if path.exists():
        raise invalid("output file", str(path), "must not exist yet", "name another file, or remove this one")
