"""The folder of what is found: new, and one process's own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from verl_socio.data.write import check_new
from verl_socio.errors import invalid
from verl_socio.file_lock import hold

LOG = "vllm.log"
_LOCK = ".lock"


def check_free(out: Path) -> None:
    """Refuse a folder that holds anything; what a start that failed leaves is nothing.

    Raises:
        ValueError: `out` is a file, or a folder with something else in it.
    """
    if not (out.is_dir() and all(path.name in (LOG, _LOCK) for path in out.iterdir())):
        check_new(out)


@contextmanager
def claim(out: Path | None, root: Path) -> Iterator[Path]:
    """Hold a folder, made where it is missing.

    Args:
        out: The folder; None for one below `root` that is named after the time.
        root: Where the folders that nobody named are.

    Yields:
        The folder. No other process gets it until the context ends.

    Raises:
        ValueError: Another process holds the folder, or it holds something.
    """
    folder = _made(root) if out is None else out
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("w") as lock:
        rule = "is being written by another process"
        hold(lock, invalid("output folder", str(folder), rule, "wait for it, or name another folder"))
        check_free(folder)
        yield folder


def _made(root: Path) -> Path:
    """A folder that this process made: of two that begin in the same second each has its own."""
    root.mkdir(parents=True, exist_ok=True)
    name = time.strftime("%Y%m%d-%H%M%S")
    number, folder = 1, root / name
    while True:
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
            folder = root / f"{name}-{number}"
        else:
            return folder
