"""Starts verl's supervised trainer: one process for each rank of this machine, without Ray."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from torch.multiprocessing.spawn import ProcessException, start_processes

from verl_socio.engine.groups import check_groups
from verl_socio.guard import Guard


def train(config: DictConfig, logs: Path) -> None:
    """Train; the processes end with this one.

    Args:
        config: The settings, checked.
        logs: A folder for the logs: `rank_<N>.log`, and the traceback of what stopped the run in `driver.log`.

    Raises:
        RuntimeError: What stopped the run.
        ValueError: verl does not take the settings; nothing was started.
    """
    check_groups(config, ("engine", "optim", "checkpoint"), "sft_trainer_engine.yaml")
    logs.mkdir(parents=True)
    ranks = config.trainer.n_gpus_per_node
    arguments = (ranks, _free_port(), OmegaConf.to_yaml(config), str(logs))
    with Guard():
        try:
            start_processes(_run_rank, arguments, nprocs=ranks, start_method="spawn")
        except ProcessException as error:
            (logs / "driver.log").write_text(str(error), encoding="utf-8")
            raise RuntimeError(_reason(str(error))) from error


def _run_rank(rank: int, ranks: int, port: int, settings: str, logs: str) -> None:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
    os.environ.update({name: str(value) for name, value in place.items()})
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    with Path(logs, f"rank_{rank}.log").open("w", encoding="utf-8") as log:
        for stream in (sys.stdout, sys.stderr):  # of this process and of every library in it
            os.dup2(log.fileno(), stream.fileno())
    from verl_socio.engine.supervised_trainer import fit

    config = OmegaConf.create(settings)
    assert isinstance(config, DictConfig)
    fit(config)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _reason(report: str) -> str:
    """What a person needs of a traceback: the error's own lines, which follow the last line of the stack."""
    lines = report.strip().splitlines()
    stack = [number for number, line in enumerate(lines) if line.startswith("  ")]
    return "\n".join(lines[stack[-1] + 1 :] if stack else lines)
