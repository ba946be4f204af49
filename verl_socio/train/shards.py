"""The weights in a checkpoint as verl's FSDP engine writes them: where the newest are, and if they are all there."""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

from verl_socio.checkpoints import newest_whole
from verl_socio.errors import invalid


@dataclass(frozen=True)
class Lora:
    """The scale of a LoRA adapter.

    Attributes:
        rank: Inner dimension of the update, 1 or more.
        alpha: The update is scaled by `alpha / rank`; above 0.
    """

    rank: int
    alpha: float


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint of the actor.

    Attributes:
        actor: Folder with one weight file a rank, `fsdp_config.json` and `huggingface/`.
        world_size: Number of FSDP ranks that wrote it.
        lora: Scale of the adapter, None where all weights were trained.
    """

    actor: Path
    world_size: int
    lora: Lora | None

    def shard(self, rank: int) -> Path:
        """The weight file of one rank."""
        return self.actor / f"model_world_size_{self.world_size}_rank_{rank}.pt"

    @property
    def config(self) -> Path:
        """Folder of the model's configuration, tokenizer and processor."""
        return self.actor / "huggingface"


def open_checkpoint(actor: Path) -> Checkpoint:
    """Check that a checkpoint is whole.

    Args:
        actor: The checkpoint's `actor` folder.

    Returns:
        The checkpoint.

    Raises:
        ValueError: If the folder is no checkpoint, a rank's file is missing or cut off, the model's configuration or
            tokenizer is missing, or the adapter's scale is unknown.
    """
    fsdp = actor / "fsdp_config.json"
    if not fsdp.is_file():
        raise _not_a_checkpoint(actor)
    world_size = _read_json(fsdp).get("world_size")
    if not isinstance(world_size, int) or world_size < 1:
        raise invalid(f"{fsdp}: world_size", world_size, "must be a whole number above 0", _USE_ANOTHER)
    checkpoint = Checkpoint(actor, world_size, _read_lora(actor))
    for rank in range(world_size):
        shard = checkpoint.shard(rank)
        # torch.save writes a zip archive whose directory comes last: a file that was cut off has none.
        if not shard.is_file() or not zipfile.is_zipfile(shard):
            state = "cut off or damaged" if shard.is_file() else "missing"
            rule = f"the checkpoint of {world_size} ranks must be whole; this file of rank {rank} is {state}"
            raise invalid("checkpoint", str(shard), rule, _USE_ANOTHER)
    for name in ("config.json", "tokenizer_config.json"):
        if not (checkpoint.config / name).is_file():
            rule = f"must hold {name}: the model cannot be loaded without it"
            raise invalid("checkpoint", str(checkpoint.config), rule, f"copy {name} from the base model's folder")
    return checkpoint


def steps_below(root: Path) -> list[Path]:
    """All checkpoints below a folder, whole or not: the `global_step_<N>` folders that hold an `actor`."""
    return sorted(path.parent for path in root.rglob("global_step_*/actor") if path.is_dir())


def find_newest(root: Path) -> Checkpoint:
    """Find the newest whole checkpoint below a folder.

    Every run's newest whole checkpoint competes (see `verl_socio.checkpoints`); the one written last is taken.

    Args:
        root: Folder to search, for example `outputs`.

    Returns:
        The checkpoint.

    Raises:
        ValueError: If there is none; the message names those that are not whole.
    """
    steps = steps_below(root)
    newest = [step for step in map(newest_whole, sorted({step.parent for step in steps})) if step is not None]
    if not newest:
        found = "".join(f"\n  not whole: {step}" for step in steps)
        fix = "train first (training_scripts/run_*.sh), or give the folder of a checkpoint as local_dir"
        raise invalid("checkpoint", str(root), f"no whole checkpoint lies below this folder{found}", fix)
    return open_checkpoint(max(newest, key=lambda step: step.stat().st_mtime) / "actor")


_USE_ANOTHER = "give another checkpoint as local_dir, or train on from one that is whole"


def _read_json(path: Path) -> dict[str, object]:
    """Read a JSON object; a file that holds anything else is a user's error."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise invalid("checkpoint", str(path), f"must be JSON ({error})", _USE_ANOTHER) from error
    if not isinstance(value, dict):
        raise invalid("checkpoint", str(path), "must hold a JSON object", _USE_ANOTHER)
    return value


def _read_lora(actor: Path) -> Lora | None:
    """Read the adapter's scale. verl itself goes on with alpha 0 where it is missing, which drops the adapter."""
    path = actor / "lora_train_meta.json"
    if not path.is_file():
        return None
    meta = _read_json(path)
    rank, alpha = meta.get("r"), meta.get("lora_alpha")
    if not isinstance(rank, int) or rank < 1:
        raise invalid(f"{path}: r", rank, "must be a whole number above 0", "write the run's lora_rank there")
    if not isinstance(alpha, int | float) or not 0 < alpha < float("inf"):
        rule = "must be above 0: with 0 the trained adapter would be merged as nothing"
        raise invalid(f"{path}: lora_alpha", alpha, rule, "write the run's lora_alpha there")
    return Lora(rank, float(alpha))


def _not_a_checkpoint(folder: Path) -> ValueError:
    """Say what a folder is that was taken for a checkpoint."""
    if not folder.is_dir():
        return invalid("local_dir", str(folder), "no such folder", "give the folder of a checkpoint or of a run")
    if (folder.parent / "fsdp_config.json").is_file():
        rule = "holds the configuration of a checkpoint, its weights lie in the folder above"
        return invalid("local_dir", str(folder), rule, f"use {folder.parent}")
    if (folder / "config.json").is_file():
        rule = "is a Hugging Face model folder, not a checkpoint of sharded weights"
        return invalid("local_dir", str(folder), rule, "give a checkpoint folder: <run>/checkpoints/global_step_<N>")
    rule = "is not a checkpoint: there is no fsdp_config.json, so it was not saved to the end or is another folder"
    return invalid("local_dir", str(folder), rule, "give a checkpoint folder: <run>/checkpoints/global_step_<N>")
