"""Starts real trainings, as a user would, in a process of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

FIGURE = Path(__file__).parents[1] / "fixtures" / "socioseg_figure"


@dataclass(frozen=True)
class Run:
    """A training that ended."""

    folder: Path
    code: int
    output: str

    @property
    def steps(self) -> dict[int, dict[str, float]]:
        """The metrics of each step, over all starts of the run."""
        files = sorted((self.folder / "metrics").glob("*.jsonl"))
        entries = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        return {entry["step"]: entry["data"] for entry in entries}


@pytest.fixture(scope="session")
def train(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """Train on the four real samples for two steps: 4 questions x 4 rollouts, two stages.

    The learning rate is high, so that the check of log-probs sees whether vLLM got the new weights. Entropy is part of
    the loss, so that every update moves the policy: by chance all answers of a group can earn the same.
    """
    root = tmp_path_factory.mktemp("runs")

    def start(name: str, *overrides: str, program: Path | None = None) -> Run:
        settings = {
            "run": name,
            "output_root": root,
            "data.train_files": FIGURE,
            "data.train_split": "test",
            "data.val_split": "test",
            "data.train_batch_size": 4,
            "data.max_response_length": 48,
            "actor_rollout_ref.rollout.n": 4,
            "trainer.total_training_steps": 2,
            "trainer.val_before_train": "false",
            "trainer.test_freq": 0,
            "trainer.min_agreement": 0.9999,
            "actor_rollout_ref.actor.entropy_coeff": 0.01,
            "actor_rollout_ref.actor.optim.lr": 1e-3,
            "actor_rollout_ref.actor.optim.lr_warmup_steps": 0,
        }
        settings |= dict(override.split("=", 1) for override in overrides)
        arguments = [f"{key}={value}" for key, value in settings.items()]
        command = (
            [str(Path(sys.executable).with_name("verl-socio"))] if program is None else [sys.executable, str(program)]
        )
        done = subprocess.run(
            [*command, "train", "embedded", *arguments],
            env=os.environ | {"COLUMNS": "200"},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        return Run(root / name, done.returncode, done.stdout)

    return start
