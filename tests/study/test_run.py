import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.table import Table

from verl_socio.study import run as module
from verl_socio.study.plan import Study
from verl_socio.study.run import execute, fill, read_seeds, run, state, tail
from verl_socio.study.steps import Step


@pytest.fixture
def step(tmp_path: Path) -> Callable[..., Step]:
    """A step of a few milliseconds: a small program that writes a file, or ends with a code."""

    def make(name: str, code: int = 0, writes: bool = True, needed: bool = False, kind: str = "data") -> Step:
        out = tmp_path / name
        write = f"open({str(out)!r}, 'a').write('x')" if writes else "pass"
        program = f"print('this is {name}'); {write}; raise SystemExit({code})"
        log = tmp_path / "logs" / f"{name}.log"
        return Step(name, (sys.executable, "-c", program), log, {kind: out.exists}, needed)

    return make


def test_what_is_done_is_not_done_again(step: Callable[..., Step], tmp_path: Path) -> None:
    one = step("one")
    assert fill({"a": [one], "b": [one]}) == []
    assert fill({"a": [one]}) == []
    assert (tmp_path / "one").read_text() == "x"


def test_a_failure_stops_what_needs_it_and_nothing_else(step: Callable[..., Step], tmp_path: Path) -> None:
    train, after = step("train", code=3, writes=False, needed=True), step("after")
    look, other = step("look", code=1, writes=False), step("other")
    assert fill({"a": [train, after], "b": [look, other], "c": [train]}) == [train, look]
    assert not (tmp_path / "after").exists()
    assert (tmp_path / "other").exists()
    assert (tmp_path / "logs" / "train.log").read_text().count("\nthis is train") == 1, "tried once, not for each part"


def test_a_failure_shows_the_end_of_its_log(
    step: Callable[..., Step], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "console", module.Console(file=sys.stdout))
    fill({"part": [step("broken", code=3, writes=False)]})
    out = capsys.readouterr().out
    assert "part: broken FAILED" in out
    assert "ended with code 3" in out
    assert "this is broken" in out


def test_a_step_that_leaves_nothing_has_failed(step: Callable[..., Step]) -> None:
    empty = step("empty", code=0, writes=False)
    assert fill({"part": [empty]}) == [empty]


def test_a_log_holds_every_attempt_and_its_command(tmp_path: Path) -> None:
    log = tmp_path / "deep" / "log"
    program = [sys.executable, "-c", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(4)"]
    assert [execute(program, log), execute(program, log)] == [4, 4]
    text = log.read_text()
    assert text.count("out\n") == text.count("err\n") == text.count(f"$ {sys.executable}") == 2


def test_the_end_of_a_log_is_short_whatever_it_holds(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"first\n" + b"\xff\xfe line\n" * 1000 + b"last")
    assert tail(log).endswith("last")
    assert len(tail(log).splitlines()) < 30


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_handed_on_and_waited_for(tmp_path: Path, number: int) -> None:
    log, begun, ended = tmp_path / "log", tmp_path / "begun", tmp_path / "ended"
    child = (
        f"import time\ntry:\n open({str(begun)!r}, 'w').close(); time.sleep(60)\n"
        f"finally:\n time.sleep(0.3); open({str(ended)!r}, 'w').close()"
    )
    program = (
        # What a shell starts in the background begins with interrupts switched off.
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "import sys; from pathlib import Path; from verl_socio.study.run import execute\n"
        f"execute([sys.executable, '-c', {child!r}], Path({str(log)!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    while not begun.exists() and process.poll() is None:
        time.sleep(0.05)
    os.kill(process.pid, number)
    assert process.wait() != 0
    assert ended.exists(), "the command had time to tidy up"


def test_only_one_process_fills_a_study(study: Study) -> None:
    with module._alone(study.runs):
        with pytest.raises(ValueError, match=r"is being filled by another.*Fix: "), module._alone(study.runs):
            pass
    with module._alone(study.runs):
        pass


def test_a_dry_run_starts_and_writes_nothing(
    study: Study, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "console", module.Console(file=sys.stdout, width=300))
    run(study.path, ["trained"], [1], dry_run=True)
    out = capsys.readouterr().out
    assert "train embedded run=seed_1" in out
    assert "model_merger.py" in out
    assert "run=seed_0" not in out
    assert "true_boxes" not in out, "what one variant is asked for, the baselines are not"
    assert not study.runs.exists()


def cells_of(table: Table) -> dict[str, str]:
    return {str(column.header): str(next(iter(column.cells))) for column in table.columns}


def test_the_table_tells_done_from_missing_and_failed(study: Study, step: Callable[..., Step]) -> None:
    done, gone, bad = step("done", kind="merge"), step("gone", kind="merge"), step("bad", code=1, kind="test")
    fill({"part": [done]})
    table = state(study, {"part": [done, gone, bad]}, [bad])
    assert cells_of(table) == {
        "run": "part", "data": "", "train": "", "merge": "1 of 2", "test": "failed", "sampled": "",
    }  # fmt: skip


def test_of_a_start_that_failed_what_it_left_is_done(study: Study, step: Callable[..., Step]) -> None:
    bad = step("bad", code=1, writes=False, kind="test")
    bad = replace(bad, results={**bad.results, "sampled": lambda: True})
    assert not bad.is_done()
    cells = cells_of(state(study, {"part": [bad]}, [bad]))
    assert (cells["test"], cells["sampled"]) == ("failed", "done")


@pytest.mark.parametrize(("text", "seeds"), [(None, []), ("0", [0]), ("0, 12", [0, 12])])
def test_seeds_are_read(text: str | None, seeds: list[int]) -> None:
    assert read_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "0,", "-1", "0;1", "²", "1.5"])
def test_what_are_no_seeds_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"--seeds = .*Fix: write them as in 0,1"):
        read_seeds(text)
