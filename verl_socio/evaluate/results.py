"""The folder of an evaluation: results are added line by line, never overwritten, and survive a kill.

It is `<run>/eval/<name>` and holds `fingerprint.json`, `config.yaml`, `results.jsonl`, `summary.json`, `pictures/` and
`vllm.log`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from verl_socio.errors import invalid
from verl_socio.evaluate.fingerprint import Fingerprint
from verl_socio.evaluate.rows import SampleRow, read_rows
from verl_socio.file_lock import hold
from verl_socio.nested import differences
from verl_socio.whole_file import write_whole

_FINGERPRINT = "fingerprint.json"


class Results:
    """An evaluation's folder, held by one process at a time.

    Attributes:
        folder: The folder.
        done: Ids of the samples that have a row.
    """

    def __init__(self, folder: Path, fingerprint: Fingerprint) -> None:
        """Make the folder, or go on with what is in it.

        Args:
            folder: `<run>/eval/<name>`.
            fingerprint: What the results rest on.

        Raises:
            ValueError: The folder holds something else or other results, another process writes there, or a row in it
                cannot be read.
        """
        self.folder = folder
        _claim(folder, fingerprint)
        self._file = (folder / "results.jsonl").open("a+b")
        rule = "is being written by another evaluation"
        hold(self._file, invalid("name", folder.name, rule, "wait for it, or choose another name with name=NAME"))
        _cut_torn_line(self._file.fileno())
        self.done = {row.id for row in self.rows()}

    def __enter__(self) -> Results:
        """Hold the folder."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Let the folder go."""
        try:
            self._file.close()
        except OSError:
            # What could not be written is tried once more on closing; it was told already.
            if error is None:
                raise

    def append(self, row: SampleRow) -> None:
        """Add a sample. It is in the file when this returns: a kill costs the samples under way, no finished one."""
        assert row.id not in self.done, row.id
        self._file.write(row.to_line().encode())
        self._file.flush()
        self.done.add(row.id)

    def rows(self) -> Iterator[SampleRow]:
        """Read the rows one by one, in the order in which they were finished.

        Raises:
            ValueError: A row cannot be read; the message names its line.
        """
        yield from read_rows(self.folder / "results.jsonl")

    def write(self, name: str, text: str) -> None:
        """Write a small file of the folder in one step: a reader never sees half of it."""
        write_whole(self.folder / name, text)


def _claim(folder: Path, fingerprint: Fingerprint) -> None:
    mark = folder / _FINGERPRINT
    if mark.is_file():
        try:
            before = json.loads(mark.read_text(encoding="utf-8"))["identity"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            rule = f"must be a fingerprint ({type(error).__name__}: {error})"
            raise invalid("results", str(mark), rule, "choose another name with name=NAME") from error
        found = differences(before, fingerprint.identity)
        if found:
            key, old, new = found[0]
            rule = f"holds other results ({len(found)} things differ; {key} was {_short(old)} and is now {_short(new)})"
            raise invalid("name", folder.name, rule, "choose another name with name=NAME, or name=auto")
        return
    if folder.is_dir() and any(folder.iterdir()):
        rule = "must be empty or hold an evaluation"
        raise invalid("name", str(folder), rule, "choose another name with name=NAME")
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(mark, fingerprint.to_json())


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _cut_torn_line(file: int) -> None:
    """Drop the end of the file up to the last line break: a row that was being written when the process was killed."""
    end = position = os.fstat(file).st_size
    while position > 0:
        start = max(0, position - 2**16)
        block = os.pread(file, position - start, start)
        if (last := block.rfind(b"\n")) >= 0:
            position = start + last + 1
            break
        position = start
    if position < end:
        os.ftruncate(file, position)
