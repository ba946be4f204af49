"""What a run has changed: its first validation beside its last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from verl_socio.train.metrics import entries

_SCORES = {"ciou": "cIoU", "giou": "gIoU", "f1": "F1"}


def validations(metrics: Path, stages: Sequence[str]) -> list[tuple[int, Mapping[str, float]]]:
    """The validations of a run, over all its starts.

    Args:
        metrics: Folder of the run's metrics: a file a start, named by its time, one JSON object a step.
        stages: The recipe's stage names.

    Returns:
        (step, metrics) in the order in which they were made; the last one of each step.

    Raises:
        ValueError: A file holds something else.
    """
    found: dict[int, Mapping[str, float]] = {}
    for file in sorted(metrics.glob("*.jsonl")):
        for entry in entries(file):
            if f"val/{stages[0]}/giou" in entry["data"]:
                found[entry["step"]] = entry["data"]
    return sorted(found.items())


def gain_table(metrics: Path, stages: Sequence[str]) -> Table | None:
    """Scores of every stage before and after the run; None where there were no two validations.

    Args:
        metrics: As for `validations`.
        stages: The recipe's stage names.
    """
    found = validations(metrics, stages)
    if len(found) < 2:
        return None
    (first, before), (last, after) = found[0], found[-1]
    table = Table(title=f"Validation after step {first} -> after step {last}", title_justify="left")
    table.add_column("stage")
    for name in _SCORES.values():
        table.add_column(name, justify="right")
    table.add_column("standard error of gIoU", justify="right")
    for stage in stages:
        scores = [_change(before, after, f"val/{stage}/{key}") for key in _SCORES]
        table.add_row(stage, *scores, _change(before, after, f"val/{stage}/giou_error"))
    return table


def _change(before: Mapping[str, float], after: Mapping[str, float], key: str) -> str:
    # A validation whose episodes all ended before a stage has no scores for it.
    return " -> ".join(f"{each[key]:.3f}" if key in each else "none" for each in (before, after))
