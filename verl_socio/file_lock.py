"""Lets one process at a time write to a place."""

from __future__ import annotations

import fcntl
from typing import IO, Any


def hold(file: IO[Any], taken: ValueError) -> None:
    """Lock an open file until it is closed, which the system does for a process that is killed.

    Args:
        file: The file; its content plays no part. It is closed where it is held already.
        taken: What to raise then.

    Raises:
        ValueError: `taken`.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise taken from error
