"""The verb `train`: settle the settings, check them, start the engine, keep the logs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from verl_socio.checkpoints import newest_whole, step_of
from verl_socio.train.gain import gain_table
from verl_socio.train.memory_check import check_memory, report
from verl_socio.train.prepare import prepare
from verl_socio.train.progress import MetricsFollower
from verl_socio.train.run_folder import claim
from verl_socio.train.settings import is_supervised, model_key, resolve, shown
from verl_socio.train.starts import STARTS, note_start

# Bound to the terminal as it is now: verl's own output goes to a log while it trains.
console = Console(file=sys.stdout)


def launch(name: str, overrides: Sequence[str], *, dry_run: bool) -> None:
    """Train, or go on with a run that was stopped.

    Args:
        name: A configuration of `configs/`.
        overrides: `key=value` on top of it.
        dry_run: Print the settings, and on a GPU what memory they take, and stop: nothing is made or started.

    Raises:
        ValueError: A setting, the model or the data break a rule, or no GPU holds the run; nothing was started.
    """
    config = resolve(name, overrides)
    if dry_run:
        console.print(shown(config) + report(config), markup=False, highlight=False, soft_wrap=True)
        return
    check_memory(config, name, overrides)
    from verl_socio.train.checks import check  # transformers and torch, which a dry run need not wait for

    prepare(config)
    check(config)
    with claim(config) as folder:
        _go_on(config, folder)


def _go_on(config: DictConfig, folder: Path) -> None:
    newest = newest_whole(Path(config.trainer.default_local_dir))
    _announce(config, folder, newest)
    total = config.trainer.total_training_steps
    if newest is not None and total is not None and step_of(newest) >= total:
        # A run that is not named would be another one with another number of steps.
        more = f"run={config.run} trainer.total_training_steps=N"
        console.print(
            f"The run is complete at step {step_of(newest)}: nothing to do. "
            f"For more steps add {more} to the same command, for another run run=NAME.",
            soft_wrap=True,
        )
        return
    _start(config, folder, 0 if newest is None else step_of(newest))
    done = newest_whole(Path(config.trainer.default_local_dir))
    if (table := gain_table(folder / "metrics", _stages(config))) is not None:
        console.print(table)
    if done is not None:
        console.print(f"Checkpoint: {done}\nNext: python3 training_scripts/model_merger.py", soft_wrap=True)


def _announce(config: DictConfig, folder: Path, newest: Path | None) -> None:
    resumed = "from the start" if newest is None else f"from step {step_of(newest)}"
    size = config.data.train_batch_size
    step = (
        f"{size} rows" if is_supervised(config) else f"{size} questions x {config.actor_rollout_ref.rollout.n} rollouts"
    )
    console.print(
        f"Run {config.run} {resumed}: {OmegaConf.select(config, model_key(config))} on {config.data.train_files} "
        f"({step} a step, recipe {config.recipe.name}, {config.trainer.device})\nEverything it writes: {folder}",
        soft_wrap=True,
    )


def _stages(config: DictConfig) -> list[str]:
    """Names of the recipe's stages; one that an override made null is left out of the recipe."""
    return [str(name) for name, stage in config.recipe.stages.items() if stage is not None]


def _start(config: DictConfig, folder: Path, from_step: int) -> None:
    started = time.strftime("%Y%m%d-%H%M%S")
    if changed := note_start(config, folder, started, from_step):
        console.print(f"Other than at the start before: {', '.join(changed)} ({folder / STARTS})", soft_wrap=True)
    os.environ.setdefault("VERL_LOGGING_LEVEL", "WARN")
    # verl, torch and Ray: seconds of imports
    from verl_socio.engine.dataset import with_split

    if is_supervised(config):
        from verl_socio.engine.supervised import train
    else:
        from verl_socio.engine.run import train

    # verl's file logger empties the file it is given: every start gets its own.
    metrics = folder / "metrics" / f"{started}.jsonl"
    metrics.parent.mkdir(exist_ok=True)
    os.environ["VERL_FILE_LOGGER_PATH"] = str(metrics)
    os.environ["TENSORBOARD_DIR"] = str(folder / "tensorboard")
    for files, split in (("train_files", "train_split"), ("val_files", "val_split")):
        sources = config.data[files] if OmegaConf.is_list(config.data[files]) else [config.data[files]]
        config.data[files] = [with_split(source, config.data[split]) for source in sources]
    logs = folder / "logs" / started
    try:
        with MetricsFollower(metrics, config.trainer.total_training_steps, _stages(config), console):
            train(config, logs)
    finally:
        console.print(f"Logs of all processes: {logs}", soft_wrap=True)
