"""How the trainer writes and finds checkpoints, without an engine behind it."""

import shutil
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf
from verl.trainer.ppo.v1 import PPOTrainerSync

from verl_socio.checkpoints import is_whole, mark_whole

Usage = namedtuple("Usage", "total used free")


def trainer_of(folder: Path, step: int = 0, keep: int | None = None) -> Any:
    """A trainer that has nothing but its settings and a step."""
    from verl_socio.engine.trainer import EpisodeTrainer

    trainer = object.__new__(EpisodeTrainer)
    trainer.config = OmegaConf.create(
        {
            "trainer": {
                "default_local_dir": str(folder),
                "resume_mode": "auto",
                "resume_from_path": None,
                "max_actor_ckpt_to_keep": keep,
            }
        }
    )
    trainer.global_steps = step
    return trainer


def write(folder: Path, step: int, *, whole: bool) -> Path:
    checkpoint = folder / f"global_step_{step}"
    (checkpoint / "actor").mkdir(parents=True)
    (checkpoint / "actor" / "model.pt").write_bytes(b"x" * 1000)
    if whole:
        mark_whole(checkpoint)
    return checkpoint


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """What verl is told to resume from; reading the files is verl's part and is tested in tests/end_to_end."""
    told: list[tuple[str, str | None]] = []

    def note(trainer: Any) -> None:
        told.append((trainer.config.trainer.resume_mode, trainer.config.trainer.resume_from_path))

    monkeypatch.setattr(PPOTrainerSync, "_load_checkpoint", note)
    return told


def test_the_newest_whole_checkpoint_is_resumed(tmp_path: Path, loaded: list[Any]) -> None:
    whole = write(tmp_path, 2, whole=True)
    write(tmp_path, 3, whole=False)
    # verl's own marker points at the one that was being written.
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("3")
    trainer_of(tmp_path)._load_checkpoint()
    assert loaded == [("resume_path", str(whole))]


def test_without_a_whole_checkpoint_a_run_begins_anew(tmp_path: Path, loaded: list[Any]) -> None:
    write(tmp_path, 1, whole=False)
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("")
    trainer_of(tmp_path)._load_checkpoint()
    assert loaded[0][0] == "disable"


def test_a_checkpoint_is_marked_after_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PPOTrainerSync, "_save_checkpoint", lambda trainer: write(tmp_path, 5, whole=False))
    trainer_of(tmp_path, step=5)._save_checkpoint()
    assert is_whole(tmp_path / "global_step_5")


def supervised_of(folder: Path, rank: int, keep: int | None = None) -> Any:
    """What writes the checkpoints of supervised fine-tuning, as one rank, with an engine that writes one file."""
    from verl_socio.engine.supervised_trainer import WholeCheckpoints

    checkpoints = object.__new__(WholeCheckpoints)
    checkpoints.default_local_dir, checkpoints.rank, checkpoints.max_ckpt_to_keep = str(folder), rank, keep
    checkpoints.lora_train_meta = None
    checkpoints.train_dataloader = SimpleNamespace(state_dict=dict)
    return checkpoints


def test_a_checkpoint_that_is_written_again_is_not_whole_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = write(tmp_path, 5, whole=True)
    meanwhile = []
    monkeypatch.setattr(PPOTrainerSync, "_save_checkpoint", lambda trainer: meanwhile.append(is_whole(checkpoint)))
    trainer_of(tmp_path, step=5)._save_checkpoint()
    assert meanwhile == [False] and is_whole(checkpoint)
    monkeypatch.setattr("torch.distributed.barrier", lambda: None)
    for rank in (1, 0):
        supervised = supervised_of(tmp_path, rank)
        supervised.engine = SimpleNamespace(save_checkpoint=lambda *_, **__: meanwhile.append(is_whole(checkpoint)))
        supervised.save_checkpoint(5)
        assert is_whole(checkpoint) is (rank == 0), "marked by one rank, for all"
    assert meanwhile == [False] * 3


def test_checkpoints_of_earlier_starts_count_among_those_that_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2, 3):
        write(tmp_path, step, whole=True)
    monkeypatch.setattr(PPOTrainerSync, "_save_checkpoint", lambda trainer: write(tmp_path, 4, whole=False))
    trainer_of(tmp_path, step=4, keep=3)._save_checkpoint()
    assert {path.name for path in tmp_path.iterdir()} == {f"global_step_{step}" for step in (2, 3, 4)}
    monkeypatch.setattr("torch.distributed.barrier", lambda: None)
    supervised = supervised_of(tmp_path, rank=0, keep=2)
    supervised.engine = SimpleNamespace(save_checkpoint=lambda *_, **__: write(tmp_path, 5, whole=False))
    supervised.save_checkpoint(5)
    assert {path.name for path in tmp_path.iterdir()} == {"global_step_4", "global_step_5"}


def test_where_the_disk_is_full_the_oldest_gives_way_before_the_next_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (20, 40):
        write(tmp_path, step, whole=True)

    def usage(_: Path) -> Usage:
        used = 1000 * len(list(tmp_path.iterdir()))
        return Usage(2500, used, 2500 - used)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    monkeypatch.setattr(PPOTrainerSync, "_save_checkpoint", lambda trainer: write(tmp_path, 60, whole=False))
    trainer_of(tmp_path, step=60, keep=3)._save_checkpoint()
    assert {path.name for path in tmp_path.iterdir()} == {"global_step_40", "global_step_60"}


def test_a_full_disk_is_an_error_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = write(tmp_path, 4, whole=True)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10_000, 9_500, 500))
    begun = []
    monkeypatch.setattr(PPOTrainerSync, "_save_checkpoint", lambda trainer: begun.append(trainer))
    with pytest.raises(OSError, match=r"earlier ones are untouched.*from step 4"):
        trainer_of(tmp_path, step=5)._save_checkpoint()
    assert not begun and is_whole(kept)
