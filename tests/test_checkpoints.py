import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verl_socio.checkpoints import (
    free_bytes,
    is_whole,
    keep_newest,
    make_room,
    mark_whole,
    newest_whole,
    size_of,
    step_of,
    unmark,
    whole,
)

FILES = {"actor/model_world_size_1_rank_0.pt": 900, "actor/huggingface/config.json": 20, "data.pt": 30}


def write(folder: Path, *, mark: bool = True) -> Path:
    for name, size in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    if mark:
        mark_whole(folder)
    return folder


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write(tmp_path / "checkpoints" / "global_step_5")


def test_a_marked_checkpoint_is_whole(checkpoint: Path) -> None:
    assert is_whole(checkpoint)
    assert size_of(checkpoint) == sum(FILES.values())
    assert sorted(path.name for path in checkpoint.iterdir()) == ["actor", "complete.json", "data.pt"]


def test_without_its_mark_it_was_still_being_written(tmp_path: Path) -> None:
    assert not is_whole(write(tmp_path / "global_step_5", mark=False))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["truncated", "grown", "missing", "a folder"])
def test_a_damaged_file_is_seen(checkpoint: Path, name: str, damage: str) -> None:
    path = checkpoint / name
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "grown":
        path.write_bytes(path.read_bytes() + b"x")
    else:
        path.unlink()
        if damage == "a folder":
            path.mkdir()
    assert not is_whole(checkpoint)


@settings(max_examples=60, deadline=None)
@given(
    cut=st.integers(min_value=0), junk=st.binary(max_size=30), names=st.sets(st.sampled_from(sorted(FILES)), min_size=1)
)
def test_any_damage_to_any_files_is_seen(
    tmp_path_factory: pytest.TempPathFactory, cut: int, junk: bytes, names: set[str]
) -> None:
    folder = write(tmp_path_factory.mktemp("c") / "global_step_1")
    for name in names:
        (folder / name).write_bytes(b"x" * (cut % FILES[name]))
    assert not is_whole(folder)
    for name in names:
        (folder / name).write_bytes(b"y" * FILES[name])
    assert is_whole(folder), "put right again"
    mark = (folder / "complete.json").read_bytes()
    (folder / "complete.json").write_bytes(mark[: cut % len(mark)])
    assert not is_whole(folder), "a mark cut off anywhere marks nothing"
    (folder / "complete.json").write_bytes(junk)
    assert not is_whole(folder)
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    "mark", [b"", b"{", b"{}", b"[]", b"null", b"7", b"\xff\xfe", b'{"data.pt": "30"}', b'{"gone.pt": 1}']
)
def test_a_half_written_mark_marks_nothing(checkpoint: Path, mark: bytes) -> None:
    (checkpoint / "complete.json").write_bytes(mark)
    assert not is_whole(checkpoint)


def test_a_mark_that_was_being_written_marks_nothing_and_is_written_anew(checkpoint: Path) -> None:
    mark = checkpoint / "complete.json"
    mark.rename(checkpoint / "complete.json.part")
    assert not is_whole(checkpoint)
    mark_whole(checkpoint)
    assert is_whole(checkpoint)
    assert not (checkpoint / "complete.json.part").exists()


def test_the_newest_whole_one_of_several_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    for step in (2, 9, 10, 100):
        write(folder / f"global_step_{step}", mark=step != 100)
    (folder / "global_step_10" / "data.pt").unlink()
    (folder / "latest_checkpointed_iteration.txt").write_text("100")
    (folder / "global_step_300").write_text("a file of that name")
    (folder / "global_step_200_old").mkdir()
    write(folder / "merged")
    assert newest_whole(folder) == folder / "global_step_9", "by number, not by name or date"
    write(folder / "global_step_100")
    assert newest_whole(folder) == folder / "global_step_100"


def test_a_checkpoint_that_is_being_removed_is_not_whole_any_more(checkpoint: Path) -> None:
    # rmtree goes through the files one by one, in any order; the mark may be the last to go.
    shutil.rmtree(checkpoint / "actor")
    assert newest_whole(checkpoint.parent) is None


def test_without_its_mark_a_checkpoint_is_not_whole_any_more(checkpoint: Path) -> None:
    unmark(checkpoint)
    assert not is_whole(checkpoint)
    assert size_of(checkpoint) == sum(FILES.values())
    unmark(checkpoint)
    unmark(checkpoint.parent / "global_step_6")


@pytest.mark.parametrize(
    ("count", "kept"), [(None, {2, 9, 10, 100}), (0, {2, 9, 10, 100}), (4, {2, 9, 10, 100}), (1, {100}), (2, {10, 100})]
)
def test_the_oldest_of_all_starts_are_removed(tmp_path: Path, count: int | None, kept: set[int]) -> None:
    for step in (2, 9, 10, 100):
        write(tmp_path / f"global_step_{step}")
    others = {write(tmp_path / "global_step_5", mark=False), write(tmp_path / "merged"), tmp_path / "global_step_1_old"}
    write(tmp_path / "global_step_1_old")
    keep_newest(tmp_path, count)
    assert set(tmp_path.iterdir()) == {tmp_path / f"global_step_{step}" for step in kept} | others


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets a disk hold so many bytes more than the checkpoints in `tmp_path`; what is removed from it becomes free."""

    def hold(more: int) -> None:
        total = more + size_of(tmp_path)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=total - size_of(tmp_path)))

    return hold


@pytest.mark.parametrize(
    ("more", "kept"),
    [(950, {2, 9, 10, 100}), (949, {9, 10, 100}), (0, {9, 10, 100}), (-1, {10, 100}), (-1900, {100})],
)
def test_where_the_disk_is_short_the_oldest_give_way_as_few_as_it_takes(
    tmp_path: Path, disk: Callable[[int], None], more: int, kept: set[int]
) -> None:
    for step in (2, 9, 10, 100):
        write(tmp_path / f"global_step_{step}")
    disk(more)
    make_room(tmp_path, 4)
    assert {step_of(path) for path in whole(tmp_path)} == kept


@pytest.mark.parametrize(("more", "count"), [(-1901, 4), (0, None), (0, 0), (0, -1)])
def test_none_gives_way_for_nothing_or_where_all_are_kept(
    tmp_path: Path, disk: Callable[[int], None], more: int, count: int | None
) -> None:
    for step in (2, 9, 10, 100):
        write(tmp_path / f"global_step_{step}")
    disk(more)
    make_room(tmp_path, count)
    assert [step_of(path) for path in whole(tmp_path)] == [2, 9, 10, 100]


def test_the_only_whole_checkpoint_stays_and_so_does_what_is_not_whole(
    tmp_path: Path, disk: Callable[[int], None]
) -> None:
    folders = {write(tmp_path / "global_step_1", mark=False), write(tmp_path / "global_step_2")}
    disk(0)
    make_room(tmp_path, 1)
    assert set(tmp_path.iterdir()) == folders
    make_room(tmp_path / "gone", 1)


def test_room_is_looked_for_where_a_folder_will_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free={tmp_path: 7}[folder]))
    assert free_bytes(tmp_path / "not" / "yet") == free_bytes(tmp_path) == 7


def test_marks_survive_a_move_of_the_run(checkpoint: Path, tmp_path: Path) -> None:
    checkpoint.parent.rename(tmp_path / "elsewhere")
    assert newest_whole(tmp_path / "elsewhere") == tmp_path / "elsewhere" / "global_step_5"


def test_where_nothing_is_nothing_is_found(tmp_path: Path) -> None:
    assert newest_whole(tmp_path / "gone") is None
    keep_newest(tmp_path / "gone", 1)
    assert newest_whole(tmp_path) is None


def test_the_step_is_read_from_the_name() -> None:
    assert step_of(Path("/run/checkpoints/global_step_120")) == 120
    with pytest.raises(ValueError, match=r"must be named global_step_<N>.*Fix: "):
        step_of(Path("/run/checkpoints/step_120"))
