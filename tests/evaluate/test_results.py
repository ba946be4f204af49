import dataclasses
import fcntl
import json

import pytest

from verl_socio.evaluate.fingerprint import Fingerprint
from verl_socio.evaluate.results import Results

MARK = Fingerprint({"model": "abc", "sampling": {"seed": 0}}, {"command": ["a"]})


@pytest.fixture
def named(row_of):
    return lambda name: dataclasses.replace(row_of("text"), id=name)


@pytest.fixture
def fill(named):
    def append(folder, *names):
        with Results(folder, MARK) as results:
            for name in names:
                results.append(named(name))

    return append


def test_rows_are_there_for_the_next_process_and_are_added_to(tmp_path, fill):
    fill(tmp_path / "eval", "a", "b")
    fill(tmp_path / "eval", "c")
    with Results(tmp_path / "eval", dataclasses.replace(MARK, notes={"command": ["other"]})) as results:
        assert results.done == {"a", "b", "c"}
        assert [row.id for row in results.rows()] == ["a", "b", "c"]
    kept = json.loads((tmp_path / "eval" / "fingerprint.json").read_text())
    assert kept == {"sha256": MARK.sha256, "identity": dict(MARK.identity), "notes": {"command": ["a"]}}


@pytest.mark.parametrize("torn", [b'{"id": "c", "quest', b"x" * 200_000, b"{"])
def test_a_row_that_was_being_written_at_a_kill_is_dropped(tmp_path, torn, fill):
    fill(tmp_path / "eval", "a", "b")
    path = tmp_path / "eval" / "results.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    fill(tmp_path / "eval")
    assert path.read_bytes() == whole


def test_a_file_that_holds_only_a_torn_row_is_emptied(tmp_path, fill):
    fill(tmp_path / "eval")
    path = tmp_path / "eval" / "results.jsonl"
    path.write_bytes(b'{"id')
    with Results(tmp_path / "eval", MARK) as results:
        assert results.done == set()
    assert path.read_bytes() == b""


def test_other_results_are_never_added_to_or_overwritten(tmp_path, fill):
    fill(tmp_path / "eval", "a")
    before = {path.name: path.read_bytes() for path in (tmp_path / "eval").iterdir()}
    other = Fingerprint({"model": "abc", "sampling": {"seed": 1}}, {})
    with pytest.raises(ValueError, match=r"sampling.seed was 0 and is now 1.*Fix: .*name=NAME"):
        Results(tmp_path / "eval", other)
    assert {path.name: path.read_bytes() for path in (tmp_path / "eval").iterdir()} == before


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"must be empty or hold an evaluation.*Fix:"):
        Results(tmp_path, MARK)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_two_evaluations_at_once_do_not_mix(tmp_path, fill):
    with Results(tmp_path / "eval", MARK):
        with pytest.raises(ValueError, match=r"is being written by another evaluation.*Fix:"):
            Results(tmp_path / "eval", MARK)
    fill(tmp_path / "eval", "a")


def test_a_start_that_was_killed_before_its_fingerprint_locks_nobody_out(tmp_path, fill):
    (tmp_path / ".lock").touch()
    (tmp_path / ".fingerprint.json.part").write_text('{"sha256": "12')
    fill(tmp_path, "a")
    assert json.loads((tmp_path / "fingerprint.json").read_text())["sha256"] == MARK.sha256


def test_the_folder_is_held_before_it_is_claimed(tmp_path):
    with (tmp_path / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="is being written by another evaluation"):
            Results(tmp_path, MARK)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.fixture
def two_of_four_failed(tmp_path, named):
    """A folder with the rows a, b, c and d, of which b and d failed, and its summary."""
    with Results(tmp_path / "eval", MARK) as results:
        for name, reason in zip("abcd", (None, "out of memory.", None, "too long"), strict=True):
            results.append(dataclasses.replace(named(name), failure=reason))
        results.finish("{}")
    return tmp_path / "eval"


def test_failed_samples_are_tried_again_and_all_others_stay(two_of_four_failed, named):
    lines = (two_of_four_failed / "results.jsonl").read_text().splitlines()
    with Results(two_of_four_failed, MARK) as results:
        results.drop_failed()
        assert (results.done, results.failures) == ({"a", "c"}, {})
        assert not (two_of_four_failed / "summary.json").exists()
        with pytest.raises(ValueError, match="is being written by another evaluation"):
            Results(two_of_four_failed, MARK)
        results.append(named("d"))
    assert (two_of_four_failed / "results.jsonl").read_text().splitlines()[:2] == [lines[0], lines[2]]
    with Results(two_of_four_failed, MARK) as results:
        assert [row.id for row in results.rows()] == ["a", "c", "d"]


def test_without_failures_nothing_is_dropped_and_the_summary_stays(tmp_path, named):
    with Results(tmp_path / "eval", MARK) as results:
        results.append(named("a"))
        results.finish("{}")
        results.drop_failed()
        assert results.done == {"a"} and (tmp_path / "eval" / "summary.json").is_file()


def test_more_failures_than_allowed_are_an_error_that_says_what_failed_first(two_of_four_failed):
    with Results(two_of_four_failed, MARK) as results:
        results.check_failures(4, 0.5)
        with pytest.raises(RuntimeError, match=r"2 of 4 samples failed, .* = 0.4 may; .* b: out of memory\. All rows"):
            results.check_failures(4, 0.4)
        results.check_failures(20, 0.1)


def test_a_server_s_first_model_has_to_stay_the_same(tmp_path, fill, named):
    with Results(tmp_path / "eval", MARK) as results:
        results.note_served("answered nothing")
    with Results(tmp_path / "eval", MARK) as results:
        results.note_served("m-7b")
        results.append(named("a"))
        results.note_served("m-7b")
        with pytest.raises(ValueError, match=r"served_model = None: was m-7b .* is now m-3b.*Fix: serve m-7b again"):
            results.note_served("m-3b")
    kept = json.loads((tmp_path / "eval" / "fingerprint.json").read_text())
    notes = {"command": ["a"], "served_model": "m-7b"}
    assert kept == {"sha256": MARK.sha256, "identity": dict(MARK.identity), "notes": notes}
    fill(tmp_path / "eval", "b")


@pytest.mark.parametrize("line", [b"nonsense\n", b"{}\n", b"\n", b"[1]\n"])
def test_a_line_that_is_no_row_is_named(tmp_path, line, named, fill):
    fill(tmp_path / "eval", "a")
    path = tmp_path / "eval" / "results.jsonl"
    path.write_bytes(path.read_bytes() + line + named("b").to_line().encode())
    with pytest.raises(ValueError, match=r"line 2 is none.*Fix: delete the line"):
        Results(tmp_path / "eval", MARK)


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense"])
def test_a_broken_fingerprint_is_an_error(tmp_path, text, fill):
    fill(tmp_path / "eval", "a")
    (tmp_path / "eval" / "fingerprint.json").write_text(text)
    with pytest.raises(ValueError, match=r"must be a fingerprint.*Fix:"):
        Results(tmp_path / "eval", MARK)
