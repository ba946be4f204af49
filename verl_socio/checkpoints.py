"""Which checkpoints of a run are whole.

verl writes a checkpoint into its final folder file by file. A list of its files with their sizes, put beside them when
all are there, tells a whole one from one that was being written, or that is being removed, when the process was killed.

    <run>/checkpoints/global_step_<N>/{actor/..., data.pt, complete.json}
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
from pathlib import Path

from verl_socio.errors import invalid

_MARK = "complete.json"
_FOLDER = re.compile(r"global_step_(\d+)")
_log = logging.getLogger(__name__)


def step_of(checkpoint: Path) -> int:
    """The training step after which a checkpoint was written.

    Raises:
        ValueError: The folder is not named `global_step_<N>`.
    """
    match = _FOLDER.fullmatch(checkpoint.name)
    if match is None:
        raise invalid("checkpoint", str(checkpoint), "must be named global_step_<N>", "give a checkpoint of a run")
    return int(match.group(1))


def mark_whole(checkpoint: Path) -> None:
    """Note that a checkpoint is whole: every file below it is written and known by its size."""
    files = {str(path.relative_to(checkpoint)): path.stat().st_size for path in _files(checkpoint)}
    draft = checkpoint / f"{_MARK}.part"
    with draft.open("w", encoding="utf-8") as file:
        json.dump(files, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(checkpoint / _MARK)


def unmark(checkpoint: Path) -> None:
    """Take a checkpoint for whole no longer: its files are about to be written over."""
    (checkpoint / _MARK).unlink(missing_ok=True)


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint was marked and still has all of its files."""
    try:
        files = json.loads((checkpoint / _MARK).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    if not isinstance(files, dict) or not files:
        return False
    paths = {checkpoint / name: size for name, size in files.items()}
    return all(path.is_file() and path.stat().st_size == size for path, size in paths.items())


def whole(checkpoints: Path) -> list[Path]:
    """The whole checkpoints in a run's checkpoint folder, by their steps."""
    if not checkpoints.is_dir():
        return []
    found = [path for path in checkpoints.iterdir() if _FOLDER.fullmatch(path.name) and is_whole(path)]
    return sorted(found, key=step_of)


def newest_whole(checkpoints: Path) -> Path | None:
    """The whole checkpoint with the highest step in a run's checkpoint folder, or None."""
    found = whole(checkpoints)
    return found[-1] if found else None


def keep_newest(checkpoints: Path, count: int | None) -> None:
    """Remove the oldest whole checkpoints; verl does so as well, but counts only those of one start.

    Args:
        checkpoints: A run's checkpoint folder.
        count: How many stay; all of them for None, and below 1 as verl has it.
    """
    if count is not None and count > 0:
        for old in whole(checkpoints)[:-count]:
            shutil.rmtree(old)


def make_room(checkpoints: Path, count: int | None) -> None:
    """Remove the oldest whole checkpoints, as few as it takes, where the disk cannot hold one more; the newest stays.

    verl, too, removes the oldest before it writes, but not where it has written fewer than `count` since the start.

    Args:
        checkpoints: A run's checkpoint folder.
        count: How many the run keeps, as for `keep_newest`; where it keeps all, none is removed here either.
    """
    found = whole(checkpoints)
    if count is None or count < 1 or not found:
        return
    *older, newest = found
    missing = size_of(newest) - free_bytes(checkpoints)
    if missing > sum(map(size_of, older)):
        return  # nothing is lost for a checkpoint that cannot be written even so
    for old in older:
        if missing <= 0:
            return
        _log.warning("%s is removed: the disk has no room for another checkpoint beside it", old)
        missing -= size_of(old)
        shutil.rmtree(old)


def check_disk(checkpoints: Path) -> None:
    """Refuse to begin a checkpoint that the disk cannot hold.

    Args:
        checkpoints: A run's checkpoint folder.

    Raises:
        OSError: Less is free than the last checkpoint took; earlier checkpoints are untouched.
    """
    newest = newest_whole(checkpoints)
    if newest is None:
        return
    free, needed = free_bytes(checkpoints), size_of(newest)
    if free < needed:
        raise OSError(
            errno.ENOSPC,
            f"a checkpoint takes {needed / 1e9:.2f} GB, but only {free / 1e9:.2f} GB are free; earlier ones are "
            f"untouched: free some space and give the same command again to go on from step {step_of(newest)}",
            str(checkpoints),
        )


def size_of(checkpoint: Path) -> int:
    """Bytes of all files of a checkpoint."""
    return sum(path.stat().st_size for path in _files(checkpoint))


def free_bytes(folder: Path) -> int:
    """Bytes that are free where a folder is, or will be made."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _files(checkpoint: Path) -> list[Path]:
    return [path for path in checkpoint.rglob("*") if path.is_file() and not path.name.startswith(_MARK)]
