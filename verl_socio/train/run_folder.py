"""The folder of a run: its settings, and that nothing in it is mixed up with another run's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from verl_socio.checkpoints import newest_whole
from verl_socio.errors import invalid
from verl_socio.file_lock import hold
from verl_socio.nested import differences
from verl_socio.train.shards import open_checkpoint

SETTINGS = "config.yaml"
_LOCK = ".lock"
# What may change when a run goes on: how long, how often, what is logged, where it lies, on what hardware it runs.
_FREE = (
    "trainer.",
    "hardware",
    "output_root",
    "run_dir",
    "ray_kwargs.",
    "transfer_queue.",
    "segmenter.",
    "data.dataloader_num_workers",
    "data.num_workers",
    "reward.num_workers",
    "actor_rollout_ref.rollout.",
)
# By the end of its name, wherever it stands: what decides how much memory is taken and nothing else.
_MEMORY = (
    "max_token_len_per_gpu",
    "micro_batch_size_per_gpu",
    "use_dynamic_bsz",
    "gradient_checkpointing",
    "entropy_checkpointing",
    "entropy_from_logits_with_chunking",
    "_offload",
    "offload_policy",
    "reshard_after_forward",
)
# And what among these decides what is learnt.
_KEPT = (
    "segmenter.weights",
    "segmenter.config",
    "segmenter.multimask",
    "actor_rollout_ref.rollout.n",
    "actor_rollout_ref.rollout.temperature",
    "actor_rollout_ref.rollout.top_p",
    "actor_rollout_ref.rollout.top_k",
)
_ANOTHER = "choose another name with run=NAME"


@contextmanager
def claim(config: DictConfig) -> Iterator[Path]:
    """Hold the run's folder, made where it is missing, and keep the settings in it.

    Yields:
        The folder. No other process gets it until the context ends.

    Raises:
        ValueError: Another process holds the folder; it holds what other settings have taught, or something else; its
            checkpoints would be written over, or were written by another number of ranks.
    """
    folder = Path(config.run_dir)
    settings = folder / SETTINGS
    if folder.exists() and not settings.exists() and not _is_empty(folder):
        raise invalid("run_dir", str(folder), "must be empty or hold a run", _ANOTHER)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("w") as lock:
        hold(lock, invalid("run", config.run, "is being trained by another process", f"wait for it, or {_ANOTHER}"))
        if settings.exists() and _has_learnt(folder, config.trainer):
            _check_settings(config, settings)
        _check_checkpoints(config.trainer)
        # Into place in one step: a run that is stopped meanwhile can still be gone on with.
        draft = folder.with_name(f".{folder.name}.{SETTINGS}")
        draft.write_text(OmegaConf.to_yaml(config), encoding="utf-8")
        draft.replace(settings)
        yield folder


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and all(path.name == _LOCK for path in folder.iterdir())


def _has_learnt(folder: Path, trainer: DictConfig) -> bool:
    """Whether anything rests on the settings: a start that was refused or failed early leaves nothing but logs."""
    return any(folder.glob("metrics/*.jsonl")) or any(Path(trainer.default_local_dir).glob("global_step_*"))


def _check_settings(config: DictConfig, settings: Path) -> None:
    changed = binding_differences(OmegaConf.to_container(OmegaConf.load(settings)), OmegaConf.to_container(config))
    if changed:
        key, before, now = changed[0]
        rule = f"holds a run with other settings ({len(changed)} differ; {key} was {before!r} and is now {now!r})"
        raise invalid("run", config.run, rule, _ANOTHER)


def _check_checkpoints(trainer: DictConfig) -> None:
    newest = newest_whole(Path(trainer.default_local_dir))
    if newest is None:
        return
    for key, value in (("resume_mode", "auto"), ("resume_from_path", None)):
        if trainer[key] != value:
            fix = f"leave it out to go on from {newest.name}, or {_ANOTHER}"
            raise invalid(f"trainer.{key}", trainer[key], "would write over the checkpoints that this run has", fix)
    written_by, ranks = open_checkpoint(newest / "actor").world_size, trainer.n_gpus_per_node * trainer.nnodes
    if written_by != ranks:
        # Each rank loads the part that it wrote.
        rule = f"gives {ranks} ranks, but {newest} was written by {written_by}, which alone can go on from it"
        fix = f"use {written_by} again, or merge it and train that model with run=NAME"
        raise invalid("trainer.n_gpus_per_node", trainer.n_gpus_per_node, rule, fix)


def binding_differences(before: object, now: object) -> list[tuple[str, object, object]]:
    """The settings that differ and may not, as (key, before, now); both as plain nested mappings."""
    return [each for each in differences(before, now) if each[0] in _KEPT or not _is_free(each[0])]


def _is_free(key: str) -> bool:
    return key.startswith(_FREE) or key.endswith(_MEMORY)
