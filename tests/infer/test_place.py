import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from verl_socio.infer.place import LOG, check_free, claim


def test_of_several_that_begin_in_the_same_second_each_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "strftime", lambda _: "20270101-120000")
    root = tmp_path / "outputs" / "infer"
    with ExitStack() as held:
        folders = [held.enter_context(claim(None, root)) for _ in range(3)]
    assert [folder.name for folder in folders] == ["20270101-120000", "20270101-120000-2", "20270101-120000-3"]
    assert {folder.parent for folder in folders} == {root}


def test_a_folder_that_another_process_holds_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "found"
    with claim(out, tmp_path) as folder:
        assert folder == out
        with pytest.raises(ValueError, match=r"^output folder = .*is being written by another process.*Fix: "):
            claim(out, tmp_path).__enter__()
    with claim(out, tmp_path):
        (out / "a_boxes.json").write_text("{}")
    with pytest.raises(ValueError, match=r"must be new or empty.*Fix: "):
        claim(out, tmp_path).__enter__()


def test_what_a_start_that_failed_leaves_is_no_hindrance(tmp_path: Path) -> None:
    out = tmp_path / "found"
    with claim(out, tmp_path):
        (out / LOG).write_text("out of memory")
    check_free(out)
    with claim(out, tmp_path):
        assert (out / LOG).read_text() == "out of memory"
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match=r"^output folder = .*must be new or empty.*Fix: "):
        check_free(out)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "found").write_text("years of work")
    with pytest.raises(ValueError, match=r"^output folder = .*must be new or empty.*Fix: "):
        check_free(tmp_path / "found")
