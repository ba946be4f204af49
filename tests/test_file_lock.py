import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from verl_socio.file_lock import hold


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "lock"


def test_only_one_holds_a_file_until_it_is_closed(place: Path) -> None:
    taken = ValueError("somebody is here")
    with place.open("w") as file:
        hold(file, taken)
        other = place.open("w")
        with pytest.raises(ValueError, match="somebody is here"):
            hold(other, taken)
        assert other.closed
    with place.open("w") as file:
        hold(file, taken)


def test_a_process_that_is_killed_lets_go_though_what_it_started_lives(place: Path) -> None:
    program = (
        "import subprocess, sys; from verl_socio.file_lock import hold\n"
        "file = open(sys.argv[1], 'w'); hold(file, ValueError())\n"
        "child = subprocess.Popen(['sleep', '30'], stdout=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True); child.wait()"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(place)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        with pytest.raises(ValueError, match="somebody"):
            hold(place.open("w"), ValueError("somebody"))
        process.kill()
        process.communicate()
        with place.open("w") as file:
            hold(file, ValueError("still held"))
    finally:
        os.kill(child, signal.SIGKILL)
