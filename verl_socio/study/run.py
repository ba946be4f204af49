"""The verb `study run`: do what is missing, show what is there."""

from __future__ import annotations

import shlex
import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from verl_socio.errors import invalid
from verl_socio.file_lock import hold
from verl_socio.study.checks import check_evaluations, settle
from verl_socio.study.plan import Study
from verl_socio.study.reading import load
from verl_socio.study.steps import Step, baseline_steps, runs_of, steps_of
from verl_socio.train.settings import ROOT

_SHOWN_LINES = 15

console = Console()


def run(plan: Path, only: Sequence[str], seeds: Sequence[int], *, dry_run: bool) -> None:
    """Do every step of a study that is not done.

    A step whose result is there is never done again. One that fails is shown with the end of its log, and the others
    go on.

    Args:
        plan: The plan's file.
        only: Names of variants; none means all of them, and the baselines.
        seeds: Seeds; none means all.
        dry_run: List the commands that would run, and stop.

    Raises:
        ValueError: The plan, a name, a seed or a setting breaks a rule; nothing was started.
        RuntimeError: Some steps failed; everything else is done.
    """
    study = load(plan)
    settled = settle(study)
    runs = runs_of(study, settled.last_steps, only, seeds)
    settled.check_unchanged(runs)
    check_evaluations(study)
    parts = {} if only else {"baselines": baseline_steps(study)}
    parts |= {each.name: steps_of(study, each) for each in runs}
    if dry_run:
        missing = [step for steps in parts.values() for step in steps if not step.is_done()]
        for command in dict.fromkeys(step.command for step in missing):
            _say(shlex.join(command))
        console.print(state(study, parts, failed=()))
        return
    with _alone(study.runs):
        failed = fill(parts)
    console.print(state(study, parts, failed))
    if failed:
        logs = "\n".join(str(step.log) for step in failed)
        raise RuntimeError(f"{len(failed)} steps failed; the same command tries them again. Their logs:\n{logs}")


def read_seeds(text: str | None) -> list[int]:
    """Seeds as a user types them: "0,1"; None means all.

    Raises:
        ValueError: The text is something else.
    """
    if text is None:
        return []
    words = text.split(",")
    if not all(word.strip().isascii() and word.strip().isdigit() for word in words):
        raise invalid("--seeds", text, "must be whole numbers with commas between them", "write them as in 0,1")
    return [int(word) for word in words]


def fill(parts: Mapping[str, Sequence[Step]]) -> list[Step]:
    """Do what is missing.

    Args:
        parts: The steps of each part, in order; a step that several parts have is tried once.

    Returns:
        The steps that failed. What needed them was left out.
    """
    failed: dict[tuple[str, ...], Step] = {}
    for name, steps in parts.items():
        for step in steps:
            if step.command not in failed and not step.is_done() and not _succeeds(name, step):
                failed[step.command] = step
            if step.command in failed and step.needed:
                break
    return list(failed.values())


def _succeeds(name: str, step: Step) -> bool:
    _say(f"{name}: {step.name} ... ({step.log})")
    started = time.monotonic()
    code = execute(step.command, step.log)
    took = time.monotonic() - started
    if code == 0 and step.is_done():
        _say(f"{name}: {step.name} done in {took:.0f} s")
        return True
    what = f"ended with code {code}" if code else "ended well, but its result is not there"
    _say(f"{name}: {step.name} FAILED after {took:.0f} s: it {what}. The end of its log:\n{tail(step.log)}")
    return False


def execute(command: Sequence[str], log: Path) -> int:
    """Run a command to its end.

    An interrupt is handed on to it, once, and waited for: a training has processes of its own to end.

    Args:
        command: Program and arguments.
        log: What it says is added to this file.

    Returns:
        Its exit code.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    # What a shell starts in the background ignores interrupts, and so would the command: it could never be stopped.
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    with log.open("ab") as file:
        file.write(f"$ {shlex.join(command)}\n".encode())
        file.flush()
        # A session of its own: else the terminal would interrupt it as well, a second time.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT, start_new_session=True
        )
        try:
            return process.wait()
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait()
            for number, handler in before.items():
                signal.signal(number, handler)


def tail(log: Path) -> str:
    """The last lines of a log."""
    with log.open(encoding="utf-8", errors="replace") as file:
        return "".join(deque(file, maxlen=_SHOWN_LINES)).rstrip()


@contextmanager
def _alone(runs: Path) -> Iterator[None]:
    """Let one process at a time fill a study.

    Raises:
        ValueError: Another one does.
    """
    runs.mkdir(parents=True, exist_ok=True)
    with (runs / ".lock").open("w") as lock:
        rule = "is being filled by another `study run`"
        hold(lock, invalid("runs", str(runs), rule, "wait for it, or stop it"))
        yield


def state(study: Study, parts: Mapping[str, Sequence[Step]], failed: Sequence[Step]) -> Table:
    """What is there and what is missing, a line a run."""
    kinds = ["data", "train", "merge", *study.evaluations]
    table = Table(title=f"{study.path}: what is there", title_justify="left")
    for head in ("run", *kinds):
        table.add_column(head, overflow="fold")
    commands = {step.command for step in failed}
    for name, steps in parts.items():
        table.add_row(
            name, *(_cell([step for step in steps if kind in step.results], kind, commands) for kind in kinds)
        )
    return table


def _cell(steps: Sequence[Step], kind: str, failed: set[tuple[str, ...]]) -> str:
    if not steps:
        return ""
    if any(step.command in failed and not step.results[kind]() for step in steps):
        return "failed"
    done = sum(step.results[kind]() for step in steps)
    return "done" if done == len(steps) else f"{done} of {len(steps)}"


def _say(text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
