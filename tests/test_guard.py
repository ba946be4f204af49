import os
import signal
import subprocess
import sys
import time

import psutil

from verl_socio.guard import Guard

SLEEP = "import time; time.sleep(60)"
# A child that starts a child: the engine and its worker.
GUARDED = f"""
import subprocess, sys, time
from verl_socio.guard import Guard
with Guard():
    nested = "import subprocess, sys; subprocess.run([sys.executable, '-c', {SLEEP!r}])"
    subprocess.Popen([sys.executable, "-c", nested], stdout=subprocess.DEVNULL)
    time.sleep(60)
"""


def started_by(process, count):
    for _ in range(300):
        if len(found := process.children(recursive=True)) == count:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{found} instead of {count} processes")


def test_what_a_killed_process_has_started_ends():
    parent = subprocess.Popen([sys.executable, "-c", GUARDED])
    # The guard itself, the child, and the child's child.
    started = started_by(psutil.Process(parent.pid), 3)
    time.sleep(2.5)  # the guard looks every second
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    gone, alive = psutil.wait_procs(started, timeout=20)
    assert alive == [] and len(gone) == 3


def test_a_guard_that_is_called_off_ends_nothing_and_leaves_no_process():
    child = subprocess.Popen([sys.executable, "-c", SLEEP])
    try:
        before = set(psutil.Process().children())
        with Guard():
            assert len(set(psutil.Process().children()) - before) == 1
        assert set(psutil.Process().children()) == before
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()
