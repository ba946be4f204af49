"""Evaluations' folders, written as the evaluator writes them, with random scores."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from verl_socio.evaluate.fingerprint import Fingerprint
from verl_socio.evaluate.pictures import SMALL, file_name, save_strip
from verl_socio.evaluate.results import Results
from verl_socio.evaluate.rows import SampleRow, StageRow
from verl_socio.metrics import MaskScore

STAGES = ("localise", "refine")
LEVELS = ("name", "class", "function")
CLASSES = ("Express Delivery", "Zoo", "School")


def a_stage(name: str, inside: int, seed: int, **changes: object) -> StageRow:
    score = MaskScore(inside / 100, inside, 100, int(inside >= 50), 1, 1)
    text = f"<think>I look at place {seed}.</think><answer>[]</answer>"
    stage = StageRow(
        name=name, text=text, thinking=f"I look at place {seed}.", status="ok", reason="", think_format=True,
        prompts=({"box_xyxy": [1.0, 2.0, 9.0, 8.0], "points_xy": [[4.0, 5.0]], "labels": [1]},), predicted_iou=(0.9,),
        score=score, tokens=12, cut_off=False, generate_at=0.1, generate_s=0.4, segment_at=0.6, segment_s=0.2,
    )  # fmt: skip
    return dataclasses.replace(stage, **changes)


def a_row(index: int, rng: np.random.Generator, stages: tuple[str, ...] = STAGES) -> SampleRow:
    level = LEVELS[index % 3]
    question = f"Place {index}" if level == "name" else CLASSES[index % len(CLASSES)]
    first = int(rng.integers(0, 101))
    scores = [first, int(np.clip(first + rng.integers(-30, 40), 0, 100))][: len(stages)]
    return SampleRow(
        id=f"sample_{index}", question=question, level=level, size_wh=(40, 30), target_area=100, target_instances=1,
        center_box=MaskScore(0.1, 10, 100, 0, 1, 1), failure=None,
        stages=tuple(a_stage(name, inside, index) for name, inside in zip(stages, scores, strict=True)),
        seconds=1.0 + index % 7, started=1.7e9 + index, index=index,
    )  # fmt: skip


@pytest.fixture(scope="session")
def write_evaluation() -> Callable[..., Path]:
    """Writes an evaluation of `count` samples, the rows changed by `change`, and gives its folder.

    Without a `size` its fingerprint is one from before fingerprints held the set's.
    """

    def write(
        folder: Path,
        count: int = 24,
        *,
        seed: int = 0,
        stages: tuple[str, ...] = STAGES,
        data: str = "d1",
        change: Callable[[SampleRow], SampleRow] = lambda row: row,
        strips: bool = True,
        finished: bool = True,
        size: int | None = None,
        **identity: object,
    ) -> Path:
        rng = np.random.default_rng(seed)
        notes = {"started": "2026-11-20", "command": ["verl-socio"], **({} if size is None else {"samples": size})}
        mark = Fingerprint({"data": data, **identity}, notes)
        with Results(folder, mark) as results:
            config = {
                "model": "models/tiny", "data": "city", "split": "test", "max_samples": None, "protocol": "levels",
                "published": "auto",
                "recipe": {"name": "socioreasoner", "stages": {name: {"images": ["map"]} for name in stages}},
            }  # fmt: skip
            results.write("config.yaml", OmegaConf.to_yaml(OmegaConf.create(config)))
            if finished:
                results.write("summary.json", "{}")
            for index in range(count):
                row = change(a_row(index, rng, stages))
                results.append(row)
                if strips and row.failure is None:
                    path = folder / "pictures" / SMALL / file_name(index, row.id)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    colours = ("tan", "olive", "teal", "gold", "navy", "crimson")
                    names = ("map", "satellite", "localise: IoU", "shown to refine", "refine: IoU", "target")
                    save_strip(
                        [(name, Image.new("RGB", (40, 30), c)) for name, c in zip(names, colours, strict=True)],
                        40,
                        path,
                    )
        return folder

    return write
