"""The folder of a run: its settings, and that nothing in it is mixed up with another run's."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from verl_socio.errors import invalid

SETTINGS = "config.yaml"
# What may change when a run goes on: how long, how often, what is logged, where it lies, on how much hardware it runs.
_FREE = (
    "trainer.",
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


def claim(config: DictConfig) -> Path:
    """Make the run's folder and keep the settings in it.

    Returns:
        The folder.

    Raises:
        ValueError: The folder holds a run that other settings made, or something else.
    """
    folder = Path(config.run_dir)
    settings = folder / SETTINGS
    if settings.exists():
        changed = differences(OmegaConf.to_container(OmegaConf.load(settings)), OmegaConf.to_container(config))
        if changed:
            key, before, now = changed[0]
            rule = f"holds a run with other settings ({len(changed)} differ; {key} was {before!r} and is now {now!r})"
            raise invalid("run", config.run, rule, "choose another name with run=NAME")
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise invalid("run_dir", str(folder), "must be empty or hold a run", "choose another name with run=NAME")
    folder.mkdir(parents=True, exist_ok=True)
    # Into place in one step: a run that is stopped meanwhile can still be gone on with.
    draft = folder.with_name(f".{folder.name}.{SETTINGS}")
    draft.write_text(OmegaConf.to_yaml(config), encoding="utf-8")
    draft.replace(settings)
    return folder


def differences(before: object, now: object) -> list[tuple[str, object, object]]:
    """The settings that differ and may not, as (key, before, now); both as plain nested mappings."""
    old, new = _flat(before), _flat(now)
    keys = [key for key in sorted(old.keys() | new.keys()) if key in _KEPT or not key.startswith(_FREE)]
    return [(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)]


def _flat(value: object, prefix: str = "") -> dict[str, object]:
    if isinstance(value, dict):
        return {key: leaf for name, part in value.items() for key, leaf in _flat(part, f"{prefix}{name}.").items()}
    return {prefix.rstrip("."): value}
