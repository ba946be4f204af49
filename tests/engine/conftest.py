"""Starts real trainings, as a user would, in a process of their own, and puts what they made to use."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from verl_socio.answer import Status, parse
from verl_socio.data import load_samples
from verl_socio.evaluate.launch import launch as evaluate
from verl_socio.evaluate.rows import SampleRow, read_rows
from verl_socio.infer.launch import Options, infer
from verl_socio.recipes import Recipe

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

    Entropy is part of the loss, so that every update moves the policy and the check of log-probs sees whether vLLM got
    the new weights: by chance all answers of a group can earn the same. At ten times the learning rate the policy falls
    to pieces at once, and gives weight to the placeholders of images, which verl lets vLLM never draw: then the two
    disagree with the same weights.
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
            "actor_rollout_ref.actor.optim.lr": 1e-4,
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


@pytest.fixture(scope="session")
def moved() -> Callable[[Path], set[str]]:
    """Loads a merged model and names its parts that are no longer those of the shipped one."""

    def differing(merged: Path) -> set[str]:
        import torch
        from transformers import AutoModelForImageTextToText

        from verl_socio.embedded.qwen2_5_vl import shipped

        before, after = (
            AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.bfloat16).state_dict()
            for folder in (shipped(), merged)
        )
        return {name.split(".")[1] for name in after if not torch.equal(before[name], after[name])}

    return differing


@pytest.fixture(scope="session")
def put_to_use() -> Callable[[Path, Path], list[SampleRow]]:
    """Evaluates a merged model on four samples of a city through vLLM, and asks it about one of its images.

    What has to hold of any recipe is checked here: every sample has its answers, read by the recipe's own grammar.
    """

    def use(merged: Path, data: Path) -> list[SampleRow]:
        run = merged.parents[1]
        recipe = Recipe.from_config(OmegaConf.to_container(OmegaConf.load(run / "config.yaml").recipe))
        samples = load_samples(str(data), "test")
        # What the verbs set for vLLM is not for the trainings of later tests.
        with patch.dict(os.environ):
            evaluate(
                [f"model={merged}", f"data={data}", f"output_root={run.parent}", "max_samples=4", "name=used"],
                dry_run=False,
            )
            found = _asked(merged, samples[0].satellite.uri, samples[0].map.uri, samples[0].question)
        rows = list(read_rows(run / "eval" / "used" / "results.jsonl"))
        assert {row.id for row in rows} == {sample.id for sample in samples[:4]}
        for row in rows:
            assert row.failure is None
            for stage, answered in zip(recipe.stages, row.stages, strict=True):
                answer = parse(answered.text, stage.grammar)
                assert (answered.name, answered.status) == (stage.name, answer.status)
                assert len(answered.prompts) == len(answer.prompts)
        assert any(row.stages[-1].status == Status.OK for row in rows), [row.stages[-1].text for row in rows]
        assert len(found["thinking"]) == len(recipe.stages)
        return rows

    return use


def _asked(merged: Path, image: str, map_image: str, text: str) -> dict[str, object]:
    """What the inference keeps of its answer about an image."""
    run, size_wh = merged.parents[1], Image.open(image).size
    overrides = (f"output_root={run.parent}",)
    out = infer(Options(image, text, map_image, model=str(merged), task="segmentation", out=run / "asked",
                        overrides=overrides))  # fmt: skip
    found: dict[str, object] = json.loads((out / "sat_boxes.json").read_text(encoding="utf-8"))
    assert (out / "sat_picture.png").is_file()
    assert (out / "sat_mask.png").is_file() is (found["status"] != Status.UNPARSEABLE)
    if found["status"] != Status.UNPARSEABLE:
        mask = np.asarray(Image.open(out / "sat_mask.png"))
        assert mask.shape == size_wh[::-1]
        assert found["objects"] or not mask.any()
    return found
