"""Supervised fine-tuning as a user starts it: killed, gone on with, merged, found by the evaluation."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from torch.utils.data import DistributedSampler

from verl_socio.city import generate
from verl_socio.engine.supervised import _reason

STEPS = 5
ROWS = 8


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 questions to train on: 24 rows, three steps an epoch."""
    folder = tmp_path_factory.mktemp("data") / "city"
    generate(folder, samples=20, seed=1)
    return folder


@pytest.fixture(scope="module")
def command(city: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    settings = {
        "run": "taught",
        "output_root": tmp_path_factory.mktemp("outputs"),
        "data.train_files": city,
        "data.train_batch_size": ROWS,
        # Higher rates learn the few rows by heart: then the loss on others rises again after the first step.
        "optim.lr": 2e-4,
        "optim.lr_warmup_steps": 0,
        "trainer.total_training_steps": STEPS,
        "trainer.save_freq": 1,
        "trainer.test_freq": 1,
    }
    words = [f"{key}={value}" for key, value in settings.items()]
    return [str(Path(sys.executable).with_name("verl-socio")), "train", "sft_embedded", *words]


def begin(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("w") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=os.environ | {"COLUMNS": "200"})


def metrics_of(run: Path) -> dict[int, dict[str, float]]:
    """Of each step, over all starts of the run."""
    found: dict[int, dict[str, float]] = {}
    for file in sorted((run / "metrics").glob("*.jsonl")):
        for line in file.read_text().splitlines():
            entry = json.loads(line)
            found.setdefault(entry["step"], {}).update(entry["data"])
    return found


@pytest.fixture(scope="module")
def trained(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The run's folder after it was killed once, and what the second start said."""
    logs = tmp_path_factory.mktemp("logs")
    run = Path(command[4].removeprefix("output_root=")) / "taught"
    process = begin(command, logs / "first")
    while not (run / "checkpoints" / "global_step_2" / "complete.json").exists():
        assert process.poll() is None, (logs / "first").read_text()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    half = run / "checkpoints" / f"global_step_{STEPS}" / "actor"
    half.mkdir(parents=True, exist_ok=True)
    (half / "model_world_size_1_rank_0.pt").write_bytes(b"half of it")
    assert begin(command, logs / "second").wait() == 0, (logs / "second").read_text()
    return run, (logs / "second").read_text()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_killed_run_goes_on_with_the_same_rows_and_learns(trained: tuple[Path, str], city: Path) -> None:
    from verl.utils import hf_processor

    from verl_socio.engine.dataset import with_split
    from verl_socio.engine.lessons import LessonDataset

    run, said = trained
    assert "from step " in said and f"Checkpoint: {run}/checkpoints/global_step_{STEPS}" in said
    metrics = metrics_of(run)
    assert sorted(metrics) == list(range(1, STEPS + 1))
    config: Any = OmegaConf.load(run / "config.yaml")
    config.data.episode = {name: config[name] for name in ("recipe", "segmenter", "frame")}
    rows = LessonDataset(with_split(str(city), "train"), None, config.data, hf_processor(config.model.path))
    sampler = DistributedSampler(rows, num_replicas=1, rank=0, shuffle=True, seed=config.data.seed)
    order = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        order += list(sampler)
    for step in range(1, STEPS + 1):
        lengths = [len(rows[index]["input_ids"]) for index in order[ROWS * (step - 1) : ROWS * step]]
        assert metrics[step]["train/global_tokens"] == sum(lengths), step
    # Of the same rows each time.
    before, after = (metrics[step]["val/loss"] for step in (1, STEPS))
    assert 0 < after < 0.9 * before


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_checkpoint_merges_and_the_merged_model_answers(
    trained: tuple[Path, str], city: Path, moved: Callable[[Path], set[str]], put_to_use: Callable[..., Any]
) -> None:
    from verl_socio.evaluate.settings import resolve
    from verl_socio.train.merge import merge

    run, _ = trained
    merged = merge(run)
    assert merged == run / "merged" / f"global_step_{STEPS}"
    assert {"language_model", "visual"} <= moved(merged), "words and images were trained"
    config = resolve([f"output_root={run.parent}"])
    assert config.model == str(merged), "newest"
    assert config.recipe == OmegaConf.load(run / "config.yaml").recipe
    assert (config.max_prompt_length, config.segmenter.weights) == (512, "embedded")
    assert all(len(row.stages) == 2 for row in put_to_use(merged, city))


def test_what_stopped_a_rank_is_told_without_its_stack() -> None:
    try:
        raise ValueError("data = 1: is too small.\nFix: raise it")
    except ValueError:
        import traceback

        report = f"\n\n-- Process 0 terminated with the following error:\n{traceback.format_exc()}\n"
    assert _reason(report) == "ValueError: data = 1: is too small.\nFix: raise it"
    killed = "process 0 terminated with signal SIGKILL"
    assert _reason(killed) == killed
