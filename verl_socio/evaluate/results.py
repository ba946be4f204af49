"""The folder of an evaluation: results are added line by line, never overwritten, and survive a kill.

It is `<run>/eval/<name>` and holds `fingerprint.json`, `config.yaml`, `results.jsonl`, `summary.json`, `pictures/`,
`vllm.log` and an empty `.lock`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from verl_socio.errors import invalid
from verl_socio.evaluate.fingerprint import Fingerprint
from verl_socio.evaluate.rows import SampleRow, read_rows
from verl_socio.file_lock import hold
from verl_socio.nested import differences
from verl_socio.text import for_terminal
from verl_socio.whole_file import write_whole

_FINGERPRINT = "fingerprint.json"
_ROWS = "results.jsonl"
_SUMMARY = "summary.json"
# The note of which model a server answers with.
_SERVED = "served_model"
# Not the rows themselves: a file that another takes the place of holds no lock.
_LOCK = ".lock"
# What a start leaves that was killed before the fingerprint was whole.
_LEFTOVERS = (_LOCK, f".{_FINGERPRINT}.part")


class Results:
    """An evaluation's folder, held by one process at a time.

    Attributes:
        folder: The folder.
        done: Ids of the samples that have a row.
        failures: Of these the ones without a result, with the reason, the first to fail first.
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
        # Looked at before as well: no lock is left in a folder of something else.
        _is_claimed(folder, fingerprint)
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as opened:
            lock = opened.enter_context((folder / _LOCK).open("w"))
            rule = "is being written by another evaluation"
            hold(lock, invalid("name", folder.name, rule, "wait for it, or choose another name with name=NAME"))
            if not _is_claimed(folder, fingerprint):
                write_whole(folder / _FINGERPRINT, fingerprint.to_json())
            self._file = opened.enter_context((folder / _ROWS).open("a+b"))
            _cut_torn_line(self._file.fileno())
            self.done: set[str] = set()
            self.failures: dict[str, str] = {}
            for row in self.rows():
                self._count(row)
            self._opened = opened.pop_all()

    def __enter__(self) -> Results:
        """Hold the folder."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Let the folder go."""
        try:
            self._opened.close()
        except OSError:
            # What could not be written is tried once more on closing; it was told already.
            if error is None:
                raise

    def append(self, row: SampleRow) -> None:
        """Add a sample. It is in the file when this returns: a kill costs the samples under way, no finished one."""
        assert row.id not in self.done, row.id
        self._file.write(row.to_line().encode())
        self._file.flush()
        self._count(row)

    def rows(self) -> Iterator[SampleRow]:
        """Read the rows one by one, in the order in which they were finished.

        Raises:
            ValueError: A row cannot be read; the message names its line.
        """
        yield from read_rows(self.folder / _ROWS)

    def write(self, name: str, text: str) -> None:
        """Write a small file of the folder in one step: a reader never sees half of it."""
        write_whole(self.folder / name, text)

    def finish(self, summary: str) -> None:
        """Write the summary, which says that every sample has its row."""
        self.write(_SUMMARY, summary)

    def reopen(self) -> None:
        """Go on with rows missing: a summary from before would still say that there are none."""
        (self.folder / _SUMMARY).unlink(missing_ok=True)

    def note_served(self, name: str) -> None:
        """Note which of a server's models answers where the settings name none.

        Raises:
            ValueError: Another one answered what there is.
        """
        mark = _read_mark(self.folder / _FINGERPRINT)
        before = mark.notes.get(_SERVED, name)
        if self.done and before != name:
            rule = f"was {before} when these results began, and the server's first model is now {name}"
            fix = f"serve {before} again, or choose another name with name=NAME"
            raise invalid("served_model", None, rule, fix)
        self.write(_FINGERPRINT, Fingerprint(mark.identity, {**mark.notes, _SERVED: name}).to_json())

    def drop_failed(self) -> None:
        """Take the rows of failed samples out, so that these are tried again; all others stay as they are."""
        if not self.failures:
            return
        self.reopen()
        write_whole(self.folder / _ROWS, "".join(row.to_line() for row in self.rows() if row.failure is None))
        self._file.close()
        self._file = self._opened.enter_context((self.folder / _ROWS).open("a+b"))
        self.done -= self.failures.keys()
        self.failures.clear()

    def check_failures(self, size: int, allowed: float) -> None:
        """Stop where too many samples failed: the figures would tell of the failures, not of the model.

        Args:
            size: How many samples there are in all.
            allowed: Share of them that may fail, 0..1.

        Raises:
            RuntimeError: More did; the message says what failed first.
        """
        if len(self.failures) > allowed * size:
            name, reason = next(iter(self.failures.items()))
            first = for_terminal(f"{name}: {reason}").rstrip(".")
            raise RuntimeError(
                f"{len(self.failures)} of {size} samples failed, of which max_failures = {allowed:g} may; the first is "
                f"{first}. All rows are kept in {self.folder / _ROWS}. Fix: mend the cause and give the same command "
                "with retry_failed=true, or count them as wrong: max_failures=1."
            )

    def _count(self, row: SampleRow) -> None:
        self.done.add(row.id)
        if row.failure is not None:
            self.failures[row.id] = row.failure


def _is_claimed(folder: Path, fingerprint: Fingerprint) -> bool:
    """Whether the folder holds results that rest on the same things; False where it holds nothing yet.

    Raises:
        ValueError: It holds something else.
    """
    mark = folder / _FINGERPRINT
    if mark.is_file():
        found = differences(_read_mark(mark).identity, fingerprint.identity)
        if found:
            key, old, new = found[0]
            rule = f"holds other results ({len(found)} things differ; {key} was {_short(old)} and is now {_short(new)})"
            raise invalid("name", folder.name, rule, "choose another name with name=NAME, or name=auto")
        return True
    if folder.is_dir() and any(path.name not in _LEFTOVERS for path in folder.iterdir()):
        rule = "must be empty or hold an evaluation"
        raise invalid("name", str(folder), rule, "choose another name with name=NAME")
    return False


def _read_mark(path: Path) -> Fingerprint:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Fingerprint(content["identity"], content["notes"])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        rule = f"must be a fingerprint ({type(error).__name__}: {error})"
        raise invalid("results", str(path), rule, "choose another name with name=NAME") from error


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
