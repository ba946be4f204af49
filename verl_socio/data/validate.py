"""Check a data set before it costs training time: every bad row in one pass, each with its rule and its fix."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from verl_socio import geometry
from verl_socio.data import readers
from verl_socio.data.problem import Problem
from verl_socio.data.readers import raw
from verl_socio.data.sample import ImageRef, Sample, label_array, split_labels

_BATCH = 32


def validate(
    source: str, split: str | None = None, need_map: bool | None = None, need_target: bool = True
) -> list[Problem]:
    """Check every row of a data set: text, files, sizes, pairs and masks.

    Images are decoded a few at a time and forgotten again, so memory does not grow with the data set.

    Args:
        source: As for `load_samples`.
        split: One split; None checks every split, and that no id is in two of them.
        need_map: Whether a row without a map is a bad one; None: where another row has one.
        need_target: Whether a row that marks nothing is a bad one; a set that says so itself is not asked.

    Returns:
        What is wrong, in order of split and id; empty if nothing is.

    Raises:
        ValueError: There is no such source or split, or a table cannot be read at all.
    """
    single_file = Path(source).is_file()
    names = [split] if split is not None or single_file else readers.split_names(source)
    if need_map is None:
        every_row = itertools.chain.from_iterable(readers.entries(source, name) for name in names)
        need_map = any(isinstance(row, Sample) and row.map is not None for row in every_row)
    found: list[Problem] = []
    seen: dict[str, str] = {}
    # File names that differ in case only are one file on many file systems.
    fold_case = raw.recognises(Path(source))
    for name in names:
        rows = _without_repeats(readers.entries(source, name), name or source, seen, fold_case, found)
        empty = True
        for problems in _checked(rows, need_map, need_target):
            empty = False
            found.extend(problems)
        if empty:
            found.append(Problem("", f"{source} {name or ''}".strip(), "must hold at least one row", "write it again"))
    return found


def check_sample(sample: Sample, need_map: bool = True, need_target: bool = True) -> list[Problem]:
    """Check the images of one sample.

    Args:
        sample: The sample.
        need_map: Whether a sample without a map is a bad one.
        need_target: Whether a sample that marks nothing is a bad one.

    Returns:
        What is wrong; empty if nothing is.
    """
    problems: list[Problem] = []
    size_wh = _picture_size(sample, sample.satellite, problems)
    if sample.map is None:
        if need_map:
            place = _place(sample)
            problems.append(Problem(sample.id, place, "must have a map image", "add the map, or train without maps"))
    else:
        map_wh = _picture_size(sample, sample.map, problems)
        if size_wh is not None and map_wh is not None and map_wh != size_wh:
            rule = f"must have the satellite's size, {_text(size_wh)}, but has {_text(map_wh)}"
            problems.append(Problem(sample.id, sample.map.uri, rule, "cut both images to the same place and size"))
    if sample.target is None and sample.truth.boxes_xyxy is None and sample.truth.count is None:
        problems.append(Problem(sample.id, _place(sample), "must have a mask", "add the mask of the target"))
    elif sample.target is not None:
        problems.extend(_mask_problems(sample, sample.target, size_wh, need_target))
    elif size_wh is not None and sample.truth.size_wh not in (None, size_wh):
        rule = f"must have the size its boxes were made for, {_text(sample.truth.size_wh)}, but has {_text(size_wh)}"
        problems.append(Problem(sample.id, sample.satellite.uri, rule, "restore the picture in its own size"))
    if size_wh is not None:
        problems.extend(_box_problems(sample, size_wh))
    return problems


def _box_problems(sample: Sample, size_wh: tuple[int, int]) -> Iterator[Problem]:
    width, height = size_wh
    for left, top, right, bottom in sample.truth.boxes_xyxy or ():
        if left >= width or top >= height or right <= 0 or bottom <= 0:
            rule = f"must have its boxes on the image of {_text(size_wh)}, not {(left, top, right, bottom)}"
            yield Problem(sample.id, _place(sample), rule, "write coordinates in pixels of the image as it is stored")
            return


def _mask_problems(
    sample: Sample, target: ImageRef, size_wh: tuple[int, int] | None, need_target: bool
) -> Iterator[Problem]:
    try:
        labels_hw = label_array(target, sample.truth.mask_channel)
        mask_hw = split_labels(labels_hw, sample.truth.ignore_label)[0]
    except ValueError as error:
        yield Problem(sample.id, target.uri, f"must be a readable mask ({error})", "draw or copy the mask again")
        return
    mask_wh = (mask_hw.shape[1], mask_hw.shape[0])
    if size_wh is not None and mask_wh != size_wh:
        rule = f"must have the satellite's size, {_text(size_wh)}, but has {_text(mask_wh)}"
        yield Problem(sample.id, target.uri, rule, "draw the mask on the satellite's own pixels")
    if not mask_hw.any() and (sample.truth.may_be_empty or not need_target):
        return
    if not mask_hw.any():
        yield Problem(sample.id, target.uri, "must mark at least one pixel above 0", "draw the target or drop the row")
    elif not len(geometry.mask_boxes(np.ascontiguousarray(mask_hw))):
        rule = f"must have a region large enough for a box, but marks {int(mask_hw.sum())} px"
        yield Problem(sample.id, target.uri, rule, "draw the whole target or drop the row")


def _picture_size(sample: Sample, image: ImageRef, problems: list[Problem]) -> tuple[int, int] | None:
    try:
        return image.open().size
    except ValueError as error:
        problems.append(Problem(sample.id, image.uri, f"must be a readable image ({error})", "replace the file"))
        return None


def _checked(rows: Iterable[Sample | Problem], need_map: bool, need_target: bool) -> Iterator[list[Problem]]:
    def check(row: Sample | Problem) -> list[Problem]:
        return check_sample(row, need_map, need_target) if isinstance(row, Sample) else [row]

    rows = iter(rows)
    # Decoding leaves Python's lock, so threads use all cores; batches keep what is in flight small.
    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        while batch := list(itertools.islice(rows, _BATCH)):
            yield from pool.map(check, batch)


def _without_repeats(
    rows: Iterable[Sample | Problem], split: str, seen: dict[str, str], fold_case: bool, found: list[Problem]
) -> Iterator[Sample | Problem]:
    for row in rows:
        key = row.id.casefold() if fold_case else row.id
        if key and key in seen:
            rule = f"must have an id of its own, but {row.id} is in {seen[key]} already"
            place = row.file if isinstance(row, Problem) else _place(row)
            found.append(Problem(row.id, place, rule, "rename one of the two, or drop it if it is the same"))
        seen.setdefault(key, f"{split} (as {row.id})" if fold_case else split)
        yield row


def _place(sample: Sample) -> str:
    uri = sample.satellite.uri
    return uri.rsplit("/", 1)[0]


def _text(size_wh: tuple[int, int]) -> str:
    return f"{size_wh[0]}x{size_wh[1]} px"
