"""Readers, one a file; the one that fits is picked by looking at what is there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from verl_socio.data import sets
from verl_socio.data.formats import FIRST_QUESTION, Choice, Format
from verl_socio.data.problem import Problem
from verl_socio.data.readers import hub, parquet, raw
from verl_socio.data.sample import Sample
from verl_socio.errors import invalid

AUTO = "auto"


def load_samples(
    source: str, split: str | None = None, data_format: str = AUTO, choice: Choice = FIRST_QUESTION
) -> list[Sample]:
    """Load the samples of a data set: strings only, in order of id or in the set's own order, no image opened.

    Args:
        source: A folder in SocioSeg's raw layout (or one split of it), a parquet file, a folder of parquet files, the
            folder of a benchmark as it was published, or the id of a data set on the Hub.
        split: Name of the split; None where there is only one. A single parquet file is one split, whatever the name.
        data_format: A name of `FORMATS`, or "auto" to look at what is there.
        choice: Which question is asked where a set has several for one image, and which file tells the answers.

    Returns:
        The samples, at least one.

    Raises:
        ValueError: There is no such source or split, it has no samples, or a row cannot be a sample; the first such
            row is named. `verl_socio.data.validate` lists them all, and looks at the images too.
    """
    samples, problems = [], []
    for found in entries(source, split, data_format, choice):
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


def split_names(source: str, data_format: str = AUTO) -> list[str]:
    """The names of the splits found in a source, sorted.

    Raises:
        ValueError: As for `load_samples`.
    """
    return sorted(_format(source, data_format).splits(source))


def entries(
    source: str, split: str | None, data_format: str = AUTO, choice: Choice = FIRST_QUESTION
) -> Iterator[Sample | Problem]:
    """Go through one split, in order of id or in the set's own order.

    Args:
        source: As for `load_samples`.
        split: As for `load_samples`.
        data_format: As for `load_samples`.
        choice: As for `load_samples`.

    Returns:
        The samples and, in their places, the problems that keep rows from being samples.

    Raises:
        ValueError: There is no such source or split, or it takes no annotations from a file of their own.
    """
    reader = _format(source, data_format)
    if choice.annotations is not None and not reader.takes_annotations:
        rule = f"is for tables of COCO's boxes alone, and {source} is none"
        raise invalid("annotations", choice.annotations, rule, "leave it null, or correct data")
    return reader.entries(source, _checked_split(source, split, sorted(reader.splits(source))), choice)


def format_of(source: str, data_format: str = AUTO) -> str:
    """The name of a source's format: the one given, or the first that recognises it.

    Raises:
        ValueError: There is no such format, or none recognises the source.
    """
    if data_format != AUTO:
        if data_format not in FORMATS:
            raise invalid("data_format", data_format, f"must be {AUTO} or one of {', '.join(FORMATS)}", "use one")
        return data_format
    for name, reader in FORMATS.items():
        if reader.recognises(source):
            return name
    raise _unrecognised(source)


def _format(source: str, data_format: str) -> Format:
    return FORMATS[format_of(source, data_format)]


def _checked_split(source: str, split: str | None, found: list[str]) -> str:
    if found and (Path(source).is_file() or (split is None and len(found) == 1)):
        return found[0]
    if split is None or split not in found:
        rule = f"must be a split of {source}; found there: {', '.join(found) or 'none'}"
        raise invalid("split", split, rule, "name one of them")
    return split


def _raw_entries(source: str, split: str, choice: Choice) -> Iterator[Sample | Problem]:
    return raw.entries(raw.splits(Path(source))[split].absolute())


def _parquet_entries(source: str, split: str, choice: Choice) -> Iterator[Sample | Problem]:
    return parquet.entries(parquet.splits(Path(source))[split])


def _hub_entries(source: str, split: str, choice: Choice) -> Iterator[Sample | Problem]:
    # An absolute folder, so that the references hold in any process.
    return hub.entries(str(Path(source).absolute()) if Path(source).exists() else source, split)


FORMATS: dict[str, Format] = {
    **sets.FORMATS,
    "raw": Format(lambda source: raw.recognises(Path(source)), lambda source: _raw_splits(source), _raw_entries),
    "parquet": Format(
        lambda source: parquet.recognises(Path(source)), lambda source: parquet.splits(Path(source)), _parquet_entries
    ),
    "hub": Format(hub.recognises, hub.splits, _hub_entries),
}
"""Reader by the name that `data_format` takes. `auto` is the first that recognises a source."""


def _raw_splits(source: str) -> Iterable[str]:
    return raw.splits(Path(source)) if Path(source).is_dir() else ()


def _unrecognised(source: str) -> ValueError:
    path = Path(source)
    if not path.exists():
        fix = "correct the path, or name a data set of the Hub as owner/name"
        return invalid("data", source, "must be a path that exists or the id of a data set on the Hub", fix)
    names = sorted(child.name for child in path.iterdir())[:8] if path.is_dir() else []
    found = f"; found there: {', '.join(names) or 'nothing'}" if path.is_dir() else ""
    rule = (
        "must be a folder with <split>/<id>/{sat,map,mask}.png and question.json, parquet files, or a benchmark as "
        "docs/evaluation.md shows it" + found
    )
    return invalid("data", source, rule, "point to the folder that holds the splits")
