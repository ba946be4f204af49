"""A small checkpoint as verl's FSDP engine lays it out."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def write_checkpoint() -> Callable[..., Path]:
    """Writes `<checkpoints>/global_step_<step>/actor`, not marked as whole, and gives that folder."""
    import torch

    def write(checkpoints: Path, step: int, world_size: int = 2, lora: dict[str, object] | None = None) -> Path:
        actor = checkpoints / f"global_step_{step}" / "actor"
        (actor / "huggingface").mkdir(parents=True)
        for rank in range(world_size):
            torch.save({"weight": torch.zeros(1000)}, actor / f"model_world_size_{world_size}_rank_{rank}.pt")
        (actor / "fsdp_config.json").write_text(json.dumps({"FSDP_version": 2, "world_size": world_size}))
        for name in ("config.json", "tokenizer_config.json"):
            (actor / "huggingface" / name).write_text("{}")
        if lora is not None:
            (actor / "lora_train_meta.json").write_text(json.dumps(lora))
        return actor

    return write
