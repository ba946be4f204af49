"""Readers, one a file; the one that fits is picked by looking at what is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from verl_socio.data.problem import Problem
from verl_socio.data.readers import hub, parquet, raw
from verl_socio.data.sample import Sample
from verl_socio.errors import invalid


def load_samples(source: str, split: str | None = None) -> list[Sample]:
    """Load the samples of a data set: strings only, in order of id, no image opened.

    Args:
        source: A folder in SocioSeg's raw layout (or one split of it), a parquet file, a folder of parquet files, or
            the id of a data set on the Hub.
        split: Name of the split; None where there is only one. A single parquet file is one split, whatever the name.

    Returns:
        The samples, at least one.

    Raises:
        ValueError: There is no such source or split, it has no samples, or a row cannot be a sample; the first such
            row is named. `verl_socio.data.validate` lists them all, and looks at the images too.
    """
    samples, problems = [], []
    for found in entries(source, split):
        if isinstance(found, Sample):
            samples.append(found)
        else:
            problems.append(found)
    if problems:
        first, more = problems[0], len(problems) - 1
        field = f"sample {first.id or '?'} of {source}" + (f" (and {more} more)" if more else "")
        raise invalid(field, first.file, first.rule, f"{first.fix}; `verl-socio data validate` lists every bad row")
    if not samples:
        raise invalid("data", source, "must hold at least one sample", "check that the folder or table is whole")
    return samples


def split_names(source: str) -> list[str]:
    """The names of the splits found in a source, sorted.

    Raises:
        ValueError: As for `load_samples`.
    """
    path = Path(source)
    if raw.recognises(path):
        return sorted(raw.splits(path))
    if parquet.recognises(path):
        return sorted(parquet.splits(path))
    if hub.recognises(source):
        return sorted(hub.splits(source))
    raise _unrecognised(source)


def entries(source: str, split: str | None) -> Iterator[Sample | Problem]:
    """Go through one split in order of id.

    Args:
        source: As for `load_samples`.
        split: As for `load_samples`.

    Returns:
        The samples and, in their places, the problems that keep rows from being samples.

    Raises:
        ValueError: There is no such source or split.
    """
    path = Path(source)
    name = _checked_split(source, split)
    if raw.recognises(path):
        return raw.entries(raw.splits(path)[name].absolute())
    if parquet.recognises(path):
        return parquet.entries(parquet.splits(path)[name])
    # An absolute folder, so that the references hold in any process.
    return hub.entries(str(path.absolute()) if path.exists() else source, name)


def _checked_split(source: str, split: str | None) -> str:
    found = split_names(source)
    if Path(source).is_file() or (split is None and len(found) == 1):
        return found[0]
    if split is None or split not in found:
        rule = f"must be a split of {source}; found there: {', '.join(found) or 'none'}"
        raise invalid("split", split, rule, "name one of them")
    return split


def _unrecognised(source: str) -> ValueError:
    path = Path(source)
    if not path.exists():
        fix = "correct the path, or name a data set of the Hub as owner/name"
        return invalid("data", source, "must be a path that exists or the id of a data set on the Hub", fix)
    names = sorted(child.name for child in path.iterdir())[:8] if path.is_dir() else []
    found = f"; found there: {', '.join(names) or 'nothing'}" if path.is_dir() else ""
    rule = "must be a folder with <split>/<id>/{sat,map,mask}.png and question.json, or parquet files" + found
    return invalid("data", source, rule, "point to the folder that holds the splits")
