"""Which checkpoint is taken, and what is said of one that is not whole."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from verl_socio.checkpoints import mark_whole
from verl_socio.train.shards import Lora, find_newest, open_checkpoint


def test_a_whole_checkpoint_opens(tmp_path: Path, write_checkpoint: Callable[..., Path]) -> None:
    actor = write_checkpoint(tmp_path, 1, world_size=3, lora={"r": 8, "lora_alpha": 16, "task_type": "CAUSAL_LM"})
    checkpoint = open_checkpoint(actor)
    assert checkpoint.world_size == 3
    assert checkpoint.lora == Lora(rank=8, alpha=16.0)
    assert checkpoint.shard(2).is_file()
    assert open_checkpoint(write_checkpoint(tmp_path, 2)).lora is None


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda actor: (actor / "model_world_size_2_rank_1.pt").unlink(), r"rank_1.pt'.*rank 1 is missing.*Fix:"),
        (lambda actor: cut(actor / "model_world_size_2_rank_0.pt"), r"rank_0.pt'.*rank 0 is cut off.*Fix:"),
        (lambda actor: (actor / "fsdp_config.json").unlink(), r"local_dir = .*no fsdp_config.json.*Fix:"),
        (lambda actor: (actor / "fsdp_config.json").write_text('{"world'), r"fsdp_config.json'.*must be JSON.*Fix:"),
        (lambda actor: (actor / "fsdp_config.json").write_text("[2]"), r"fsdp_config.json'.*JSON object.*Fix:"),
        (lambda actor: (actor / "fsdp_config.json").write_text("{}"), r"world_size = None.*Fix:"),
        (lambda actor: (actor / "fsdp_config.json").write_text('{"world_size": 0}'), r"world_size = 0.*Fix:"),
        (lambda actor: (actor / "huggingface" / "config.json").unlink(), r"huggingface'.*must hold config.json.*Fix:"),
        (lambda actor: (actor / "lora_train_meta.json").write_text('{"r": 8}'), r"lora_alpha = None.*above 0.*Fix:"),
        (
            lambda actor: (actor / "lora_train_meta.json").write_text('{"r": 8, "lora_alpha": 0}'),
            r"lora_alpha = 0: must be above 0.*Fix:",
        ),
        (lambda actor: (actor / "lora_train_meta.json").write_text('{"lora_alpha": 8}'), r"r = None.*Fix:"),
    ],
)
def test_a_damaged_checkpoint_is_refused_with_the_reason(
    tmp_path: Path, damage: object, message: str, write_checkpoint: Callable[..., Path]
) -> None:
    actor = write_checkpoint(tmp_path, 1)
    assert callable(damage)
    damage(actor)
    with pytest.raises(ValueError, match=message):
        open_checkpoint(actor)


def test_a_wrong_folder_is_named_for_what_it_is(tmp_path: Path, write_checkpoint: Callable[..., Path]) -> None:
    actor = write_checkpoint(tmp_path, 1)
    with pytest.raises(ValueError, match=rf"huggingface'.*in the folder above.*Fix: use {actor}\."):
        open_checkpoint(actor / "huggingface")
    with pytest.raises(ValueError, match=r"no such folder.*Fix:"):
        open_checkpoint(tmp_path / "nowhere")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"is a Hugging Face model folder.*Fix:"):
        open_checkpoint(tmp_path / "model")


def test_a_step_that_is_not_whole_is_never_taken(tmp_path: Path, write_checkpoint: Callable[..., Path]) -> None:
    checkpoints = tmp_path / "run" / "checkpoints"
    for step in (2, 9, 10):
        mark_whole(write_checkpoint(checkpoints, step).parent)
    write_checkpoint(checkpoints, 11)  # was being written when the run was killed
    mark_whole(write_checkpoint(checkpoints, 12).parent)
    (checkpoints / "global_step_12" / "actor" / "model_world_size_2_rank_1.pt").unlink()
    assert find_newest(tmp_path).actor == checkpoints / "global_step_10" / "actor"


def test_the_run_saved_last_is_taken(tmp_path: Path, write_checkpoint: Callable[..., Path]) -> None:
    for age, run in enumerate(("b", "a", "c")):
        step = write_checkpoint(tmp_path / run / "checkpoints", 5 + age).parent
        mark_whole(step)
        os.utime(step, (1e9 - age, 1e9 - age))
    assert find_newest(tmp_path).actor == tmp_path / "b" / "checkpoints" / "global_step_5" / "actor"


def test_without_a_whole_checkpoint_the_message_says_what_was_found(
    tmp_path: Path, write_checkpoint: Callable[..., Path]
) -> None:
    with pytest.raises(ValueError, match=r"no whole checkpoint lies below this folder. Fix: train first"):
        find_newest(tmp_path / "outputs")
    actor = write_checkpoint(tmp_path / "outputs" / "run" / "checkpoints", 1)
    with pytest.raises(ValueError, match=rf"not whole: {actor.parent}. Fix: train first"):
        find_newest(tmp_path / "outputs")
