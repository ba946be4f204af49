import subprocess
import sys
import time
from pathlib import Path

from verl_socio.engine.leftovers import Leftovers, remove_noted

HOLD = """
import sys, time
from multiprocessing import resource_tracker, shared_memory
segment = shared_memory.SharedMemory(name=sys.argv[1], create=True, size=4096)
resource_tracker.unregister("/" + sys.argv[1], "shared_memory")
segment.buf[0] = 1
print("ready", flush=True)
time.sleep(60)
"""


def hold(name: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, name], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def test_segments_of_killed_children_are_removed_and_no_others(tmp_path: Path) -> None:
    mine, other = (Path("/dev/shm") / f"verl_socio_test_{name}_{time.time_ns()}" for name in ("mine", "other"))
    other.write_bytes(b"not of this run")
    notes = tmp_path / "leftovers.txt"
    with Leftovers(notes):
        process = hold(mine.name)
        while str(mine) not in notes.read_text():
            time.sleep(0.1)
        process.kill()
        process.wait()
        assert mine.exists()
    assert not mine.exists() and not notes.exists()
    assert other.read_bytes() == b"not of this run"
    other.unlink()


def test_what_a_killed_run_noted_is_removed_later(tmp_path: Path) -> None:
    segment = Path("/dev/shm") / f"verl_socio_test_{time.time_ns()}"
    segment.write_bytes(b"left")
    kept = tmp_path / "kept.txt"
    kept.write_text("a user's file")
    notes = tmp_path / "leftovers.txt"
    notes.write_text(f"{segment}\n{kept}\n")
    remove_noted(notes)
    assert not segment.exists() and kept.exists()


def test_nothing_noted_is_nothing_to_do(tmp_path: Path) -> None:
    remove_noted(tmp_path / "leftovers.txt")
