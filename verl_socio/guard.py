"""Ends the engine's processes when this one is killed: else they keep their memory for ever, on a GPU most of it."""

from __future__ import annotations

import os
import subprocess
import sys
from types import TracebackType

# The pipe to a process that is killed is closed by the system; until then, what it has started is looked up.
_WATCH = """
import select, sys, psutil
watched, seen = psutil.Process(int(sys.argv[1])), set()
while not select.select([sys.stdin], [], [], 1.0)[0]:
    try:
        seen |= set(watched.children(recursive=True))
    except psutil.NoSuchProcess:
        break
for process in seen - {psutil.Process()}:
    try:
        process.terminate()
    except psutil.NoSuchProcess:
        pass
"""


class Guard:
    """A small process that outlives this one by a moment and ends whatever this one has started meanwhile.

    It does so only where this process is killed; as a context it is called off at the end.
    """

    def __enter__(self) -> None:
        """Begin to watch."""
        command = [sys.executable, "-c", _WATCH, str(os.getpid())]
        # A session of its own: an interrupt from the keyboard is for this process to handle.
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Call it off: this process ends its own."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
