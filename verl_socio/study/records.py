"""The small records of a study that stay: copied from the runs' folders, and read again for the page.

    <results>/<variant>/seed_<n>/config.yaml                    the training's resolved settings
    <results>/<variant>/seed_<n>/starts.jsonl                   which code, weights and packages trained, a line a start
    <results>/<variant>/seed_<n>/metrics.jsonl                  what the curves need of its metrics, a line a step
    <results>/<variant>/seed_<n>/<evaluation>-step_<N>.json     an evaluation's figures, and each sample's IoU
    <results>/baselines/<baseline>.json

Nothing here is ever removed: a record stays when its run's folder is gone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from verl_socio.errors import invalid
from verl_socio.evaluate.rows import SampleRow
from verl_socio.evaluate.scores import ALL, CENTER_BOX, Line
from verl_socio.study.plan import Study
from verl_socio.study.steps import Run, baseline_record, evaluation_record, find_evaluation, is_trained, record_folder
from verl_socio.train.metrics import entries
from verl_socio.train.run_folder import SETTINGS
from verl_socio.train.settings import ROOT
from verl_socio.train.starts import STARTS, read_starts
from verl_socio.whole_file import write_whole

METRICS = "metrics.jsonl"
# Of the hundred and more numbers of a step, those that a person looks at: by stage, and for both stages together.
_KEPT = re.compile(
    r"(val/)?\w+/(reward(/\w+)?|giou|ciou|f1|parse_failure|nothing_found|boxes|points|reward_std|zero_variance_groups)"
    r"|\w+/agreement/pearson|response_length/mean|timing_s/step|(train|val)/\w*loss"
)
_DIGITS = 6
# IoU of a sample is kept in thousandths: for the error of a difference more would be lost room.
_PARTS = 1000
_FIX = "take the file from version control again, or delete it and run `study page` where the runs are"


@dataclass(frozen=True)
class Result:
    """An evaluation's record.

    Attributes:
        lines: Figures over all samples, one a stage, in order.
        center_box: Those of the baseline.
        failures: Samples without a result.
        rests_on: Hashes of the samples and of the segmenter; two results can be compared where they are the same.
        code: Hash of the code that evaluated.
        ious: IoU of each sample by stage, 0..1, in order of the samples' ids; (samples,) float.
        places: Connected regions of each sample's target of more than 10 pixels, in the same order; (samples,) int.
    """

    lines: tuple[Line, ...]
    center_box: Line
    failures: int
    rests_on: tuple[str, str]
    code: str
    ious: Mapping[str, np.ndarray]
    places: np.ndarray

    def line(self, mask: str) -> Line:
        """The figures of the "first" or the "last" stage."""
        return self.lines[0 if mask == "first" else -1]

    def giou_of_one_place(self, mask: str) -> float | None:
        """The gIoU over the questions that mean one place, 0..1; None where none does."""
        of_one = self.ious[self.line(mask).name][self.places == 1]
        return float(of_one.mean()) if len(of_one) else None


def collect(study: Study, runs: Iterable[Run]) -> None:
    """Copy the records of what the runs have left so far; a run that left nothing is passed over.

    A training that is not at its end, or has lost metrics, replaces nothing of one whose record is whole.

    Raises:
        ValueError: A file of a run cannot be read.
    """
    for run in runs:
        _collect_training(study, run)
        for name, evaluation in study.evaluations.items():
            for at in (run.last_step, *run.variant.also_at):
                if (folder := find_evaluation(study, run, evaluation, at)) is not None:
                    _write(evaluation_record(study, run, name, at), _record(folder))
    for name in study.baselines:
        source = study.runs / "baselines" / f"{name}.json"
        if source.is_file():
            _write(baseline_record(study, name), source.read_text(encoding="utf-8"))


def _collect_training(study: Study, run: Run) -> None:
    target = record_folder(study, run)
    steps = _thinned(sorted((run.folder / "metrics").glob("*.jsonl")))
    recorded = max((step for step, _ in read_metrics(study, run)), default=0)
    at_its_end = is_trained(run) and max(steps, default=0) >= run.last_step
    if recorded >= run.last_step and not at_its_end:
        return
    for name in (SETTINGS, STARTS):
        if (source := run.folder / name).is_file():
            _write(target / name, without_root(source.read_text(encoding="utf-8")))
    if steps:
        lines = (json.dumps({"step": step, "data": steps[step]}) + "\n" for step in sorted(steps))
        _write(target / METRICS, "".join(lines))


def read_result(study: Study, run: Run, evaluation: str, at: int) -> Result | None:
    """Read an evaluation's record; None where there is none yet.

    Raises:
        ValueError: The file is no such record.
    """
    path = evaluation_record(study, run, evaluation, at)
    values = _read(path)
    if values is None:
        return None
    try:
        lines = [Line(**line) for line in values["lines"]]
        ious = {name: np.array(parts, dtype=float) / _PARTS for name, parts in values["iou"].items()}
        center_box, *stages = lines
        rests_on = (str(values["data"]), str(values["segmenter"]))
        places = np.array(values["places"], dtype=int)
        result = Result(tuple(stages), center_box, int(values["failures"]), rests_on, str(values["code"]), ious, places)
        sound = stages and center_box.name == CENTER_BOX and list(ious) == [line.name for line in stages]
        if not sound or any(each.shape != (center_box.samples,) for each in (places, *ious.values())):
            raise ValueError("figures and samples do not fit")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _unreadable(path, error) from error
    return result


def read_baseline(study: Study, name: str) -> tuple[Line, ...]:
    """Read a baseline's lines; none where it was not measured yet.

    Raises:
        ValueError: The file is no such record.
    """
    path = baseline_record(study, name)
    values = _read(path)
    try:
        return () if values is None else tuple(Line(**line) for line in values["lines"])
    except (KeyError, TypeError) as error:
        raise _unreadable(path, error) from error


def read_metrics(study: Study, run: Run) -> list[tuple[int, dict[str, float]]]:
    """Read a training's thinned metrics, in order of the steps; none where there is no training yet.

    Raises:
        ValueError: The file holds something else.
    """
    path = record_folder(study, run) / METRICS
    return [(entry["step"], entry["data"]) for entry in entries(path)] if path.is_file() else []


def training_codes(study: Study, run: Run) -> set[str]:
    """The states of the code that made a training: hashes, none where its record does not tell.

    Raises:
        ValueError: The record cannot be read.
    """
    return {start["identity"]["code"] for start in read_starts(record_folder(study, run) / STARTS)}


def without_root(text: str) -> str:
    """Settings without the place of this clone, which is nobody else's business."""
    return text.replace(f"{ROOT}/", "")


def _thinned(files: Iterable[Path]) -> dict[int, dict[str, float]]:
    """What is kept of a training's metrics, by step.

    Each start writes a file of its own, and does the steps since the last checkpoint again: the later one counts.
    """
    steps: dict[int, dict[str, float]] = {}
    for path in files:
        of_start: dict[int, dict[str, float]] = {}
        for entry in entries(path):
            kept = {key: _rounded(value) for key, value in entry["data"].items() if _KEPT.fullmatch(key)}
            of_start.setdefault(entry["step"], {}).update(kept)
        steps |= of_start
    return steps


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _record(folder: Path) -> str:
    """An evaluation's record from its folder."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    identity = json.loads((folder / "fingerprint.json").read_text(encoding="utf-8"))["identity"]
    with (folder / "results.jsonl").open(encoding="utf-8") as file:
        rows = sorted((SampleRow.from_line(line) for line in file), key=lambda row: row.id)
    kept = [field.name for field in fields(Line)]
    lines = [{name: line[name] for name in kept} for line in summary["lines"] if line["level"] == ALL]
    stages = [line["name"] for line in lines if line["name"] != CENTER_BOX]
    record = {
        "samples": summary["samples"],
        "failures": summary["failures"],
        "lines": lines,
        "data": identity["data"],
        "segmenter": identity["segmenter"]["weights"],
        "code": identity["code"],
        "versions": identity["versions"],
        "sampling": identity["sampling"],
        "iou": {name: [_parts(row, name) for row in rows] for name in stages},
        "places": [row.target_instances for row in rows],
    }
    # A figure a line, but a list of samples in one.
    parts = (f'"{key}": {json.dumps(value)}' for key, value in record.items())
    return "{\n " + ",\n ".join(parts) + "\n}\n"


def _parts(row: SampleRow, stage: str) -> int:
    """A sample's IoU in thousandths; one that failed counts as 0, as it does in gIoU."""
    return next((round(_PARTS * each.mask_score.iou) for each in row.stages if each.name == stage), 0)


def write_lines(path: Path, lines: Iterable[Line]) -> None:
    """Write a baseline's record."""
    _write(path, json.dumps({"lines": [asdict(line) for line in lines]}, indent=1) + "\n")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)


def _read(path: Path) -> Mapping[str, Any] | None:
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise TypeError("it is no JSON object")
    except (ValueError, TypeError, RecursionError) as error:
        raise _unreadable(path, error) from error
    return values


def _unreadable(path: Path, error: Exception) -> ValueError:
    return invalid("record", str(path), f"cannot be read ({type(error).__name__}: {error})", _FIX)
