"""Removes what a run's processes leave on the machine: shared memory and sockets.

vLLM's and TransferQueue's processes are ended from outside, and so never unlink their segments in /dev/shm; a run that
is killed cannot tidy up at all. While a run lives, the segments that its own processes have mapped are written down;
they are removed when it ends, or when the same run is started again. Nothing that another program made is touched.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from pathlib import Path
from types import TracebackType

import psutil

_SHARED_MEMORY = Path("/dev/shm")
_PERIOD_S = 3.0
# Where vLLM keeps the sockets between its processes; the path of a socket may have 107 characters at most.
_SOCKETS = "VLLM_RPC_BASE_PATH"


class Leftovers:
    """Watches the segments of this process's descendants; as a context it removes them in the end.

    Args:
        notes: A file that names them, one a line.
    """

    def __init__(self, notes: Path) -> None:
        self._notes = notes
        self._seen: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="leftovers", daemon=True)
        self._sockets = Path(tempfile.mkdtemp(prefix="verl_socio-"))

    def __enter__(self) -> None:
        """Begin to watch."""
        os.environ[_SOCKETS] = str(self._sockets)
        self._notes.write_text(f"{self._sockets}\n", encoding="utf-8")
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Remove what is left; the run's processes have ended."""
        self._stop.set()
        self._thread.join()
        os.environ.pop(_SOCKETS, None)
        remove_noted(self._notes)

    def _watch(self) -> None:
        while not self._stop.wait(_PERIOD_S):
            new = _mapped_by_descendants() - self._seen
            if new:
                self._seen |= new
                with self._notes.open("a", encoding="utf-8") as file:
                    file.writelines(f"{path}\n" for path in sorted(new))


def remove_noted(notes: Path) -> None:
    """Remove the segments and folders that a run noted; call it when none of its processes lives."""
    if not notes.exists():
        return
    for line in notes.read_text(encoding="utf-8").splitlines():
        path = Path(line)
        if path.parent == _SHARED_MEMORY:
            path.unlink(missing_ok=True)
        elif path.parent == Path(tempfile.gettempdir()):
            shutil.rmtree(path, ignore_errors=True)
    notes.unlink()


def _mapped_by_descendants() -> set[str]:
    found: set[str] = set()
    for process in psutil.Process().children(recursive=True):
        try:
            lines = Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8", errors="replace").splitlines()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended meanwhile
        for line in lines:
            path = line[line.find("/") :] if "/" in line else ""
            # Ray's object store removes its own files.
            if path.startswith(f"{_SHARED_MEMORY}/") and "plasma" not in path and not path.endswith(" (deleted)"):
                found.add(path)
    return found
