import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml

from verl_socio.checkpoints import mark_whole
from verl_socio.evaluate.fingerprint import Fingerprint
from verl_socio.evaluate.results import Results
from verl_socio.evaluate.rows import SampleRow, StageRow
from verl_socio.evaluate.scores import summarise
from verl_socio.metrics import MaskScore
from verl_socio.study.figures import Figures
from verl_socio.study.plan import Study
from verl_socio.study.reading import load
from verl_socio.study.records import collect
from verl_socio.study.steps import evaluation_name

LAST = {"start": 0, "other": 4, "trained": 4}
PLAN = """
cities:
  plain: {samples: 10, seed: 1, size: 64}
trainings:
  rl:
    config: embedded
    overrides: [trainer.total_training_steps=4, trainer.save_freq=2, trainer.max_actor_ckpt_to_keep=null]
    seeded: [data.seed]
evaluations:
  test: {split: test, overrides: [], along: true}
  sampled: {split: test, overrides: [sampling.temperature=1.0], seeded: [sampling.seed]}
baselines:
  true_boxes: {city: plain, split: test, points: [0, 2], evaluations: [test]}
variants:
  start: {about: no training, seeds: [0, 1], city: plain, first: true}
  other: {about: another training, seeds: [0, 1], city: plain, training: rl, train: [data.train_batch_size=4]}
  trained: {about: a training, seeds: [0, 1], city: plain, training: rl, begins_as: start, also_at: [2], first: true}
claims:
  improves:
    text: Training helps
    fall_from: test
    comparisons:
      - {of: trained, against: start, evaluation: test, at_least: 3}
      - {of: trained, against: start, evaluation: sampled, at_least: 8}
  second:
    text: The second mask is better
    also: [other]
    comparisons:
      - {of: trained, against: trained, evaluation: test, against_mask: first, at_least: 0}
curves: [trained]
"""


@pytest.fixture
def plan_values(tmp_path: Path) -> dict:
    """The plan as plain values, to be changed by a test."""
    template = tmp_path / "results.md.jinja"
    if not template.exists():
        template.write_text("{{ claims.improves.verdict }}\n")
    place = {"runs": str(tmp_path / "runs"), "results": str(tmp_path / "docs" / "results"), "template": str(template)}
    return {**place, **yaml.safe_load(PLAN)}


@pytest.fixture
def read_plan(tmp_path: Path) -> Callable[[object], Study]:
    """Writes values as a plan and reads it."""

    def read(values: object) -> Study:
        path = tmp_path / "plan.yaml"
        path.write_text(values if isinstance(values, str) else yaml.safe_dump(values, sort_keys=False))
        return load(path)

    return read


@pytest.fixture
def study(plan_values: dict, read_plan: Callable[[object], Study]) -> Study:
    return read_plan(plan_values)


@pytest.fixture
def write_checkpoint() -> Callable[[Path, int], None]:
    """Writes a whole checkpoint of a run, as small as can be."""

    def write(run: Path, step: int) -> None:
        folder = run / "checkpoints" / f"global_step_{step}"
        folder.mkdir(parents=True)
        (folder / "data.pt").write_bytes(b"x")
        mark_whole(folder)

    return write


@pytest.fixture
def write_evaluation() -> Callable[..., Path]:
    """Writes an evaluation's folder with the product's own classes, one IoU (0..1) a sample and stage."""

    def write(
        folder: Path, ious: dict[str, Sequence[float]], data: str = "d", failed: int = 0, places: Sequence[int] = ()
    ) -> Path:
        identity = {
            "data": data,
            "segmenter": {"weights": "w"},
            "code": "c",
            "versions": {"torch": "1"},
            "sampling": {"temperature": 0.0},
        }
        with Results(folder, Fingerprint(identity, {})) as results:
            count = len(next(iter(ious.values())))
            # Samples finish in any order.
            for index in reversed(range(count)):
                stages = tuple(_stage(name, values[index]) for name, values in ious.items())
                failure = "gone" if index < failed else None
                box = MaskScore(0.1, 1, 10, 0, 1, 1)
                meant = places[index] if places else 1
                row = SampleRow(
                    f"{index:03d}", "Zoo", "name", (10, 10), 10, meant, box, failure, stages, 0.1, 0.0, index
                )
                results.append(row if failure is None else _without_stages(row))
            results.write("summary.json", json.dumps(_summary(results, list(ious))))
        return folder

    return write


def _summary(results: Results, stages: list[str]) -> dict:
    return asdict(summarise(results.rows(), stages))


def _without_stages(row: SampleRow) -> SampleRow:
    return replace(row, stages=())


def _stage(name: str, iou: float) -> StageRow:
    score = MaskScore(iou, round(iou * 1000), 1000, int(iou >= 0.5), 1, 1)
    return StageRow(
        name=name, text="t", thinking="", status="ok", reason="", think_format=True, prompts=(), predicted_iou=(),
        score=score, tokens=3, cut_off=False, generate_at=0.0, generate_s=0.1, segment_at=0.1, segment_s=0.1,
    )  # fmt: skip


@pytest.fixture
def keep(study: Study, write_evaluation: Callable[..., Path]) -> Callable[..., None]:
    """Writes a run's evaluation after its last step (or another), and keeps its record."""

    def write(
        variant: str, seed: int, evaluation: str, ious: dict[str, list[float]], at: int | None = None, **more: object
    ) -> None:
        run = Figures(study, LAST).runs[variant, seed]
        place = run.folder / ("eval" if run.last_step else "model/eval")
        name = evaluation_name(study, study.evaluations[evaluation], run.last_step if at is None else at)
        write_evaluation(place / name, ious, **more)
        collect(study, [run])

    return write
