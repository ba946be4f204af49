"""What a person sees of a running training: one line a step, read from the run's metrics file."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_PERIOD_S = 0.5


class MetricsFollower:
    """Shows a bar and a line a step while the trainer, in another process, writes its metrics.

    Args:
        metrics: The file that verl's file logger writes, one JSON object a step; it need not exist yet.
        total_steps: Where the run ends; None where only the trainer knows.
        stages: The recipe's stage names.
        console: Where to write.
    """

    def __init__(self, metrics: Path, total_steps: int | None, stages: list[str], console: Console) -> None:
        self._metrics = metrics
        self._stages = stages
        self._console = console
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="progress", daemon=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, TimeRemainingColumn(), console=console)
        self._task = self._bar.add_task("starting", total=total_steps)

    def __enter__(self) -> None:
        """Begin to show."""
        self._bar.start()
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Show what came last and stop."""
        self._stop.set()
        self._thread.join()
        self._bar.stop()

    def _follow(self) -> None:
        position = 0
        while True:
            last = self._stop.is_set()
            position = self._show_from(position)
            if last:
                return
            self._stop.wait(_PERIOD_S)

    def _show_from(self, position: int) -> int:
        if not self._metrics.exists():
            return position
        with self._metrics.open(encoding="utf-8") as file:
            file.seek(position)
            while (line := file.readline()).endswith("\n"):
                position = file.tell()
                self._show(json.loads(line))
        return position

    def _show(self, entry: Mapping[str, object]) -> None:
        step, data = entry["step"], entry["data"]
        assert isinstance(step, int) and isinstance(data, dict)
        for text in summary(step, data, self._stages):
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)
        self._bar.update(self._task, description="training", completed=step)


def summary(step: int, data: Mapping[str, float], stages: list[str]) -> list[str]:
    """The lines that show one entry of the metrics file: a training step, a validation, or both."""
    lines = []
    if "train/loss" in data:
        tail = f"gradient {data['train/grad_norm']:.2f} | learning rate {data['train/lr']:.1e}"
        lines.append(f"step {step} | loss {data['train/loss']:.4f} | {tail}")
    if "val/loss" in data:
        lines.append(f"validation after step {step} | loss {data['val/loss']:.4f}")
    if f"{stages[0]}/reward" in data:
        parts = [_stage(name, data, name) for name in stages]
        agreement = min(data[f"{name}/agreement/pearson"] for name in stages if f"{name}/agreement/pearson" in data)
        tail = f"agreement {agreement:.5f} | {data['timing_s/step']:.1f} s{_left_out(data, 'episodes')}"
        lines.append(f"step {step} | {' | '.join(parts)} | {tail}")
    if f"val/{stages[0]}/reward" in data:
        parts = [_stage(name, data, f"val/{name}") for name in stages]
        lines.append(f"validation after step {step} | {' | '.join(parts)}{_left_out(data, 'val/episodes')}")
    return lines


def _left_out(data: Mapping[str, float], prefix: str) -> str:
    failures = data.get(f"{prefix}/segmenter_failures", 0)
    return f" | {failures:.0f} episodes left out" if failures else ""


def _stage(name: str, data: Mapping[str, float], prefix: str) -> str:
    if f"{prefix}/reward" not in data:  # every episode of the step ended before this stage
        return f"{name}: no rows"
    return (
        f"{name}: reward {data[f'{prefix}/reward']:.3f} gIoU {data[f'{prefix}/giou']:.3f} "
        f"cIoU {data[f'{prefix}/ciou']:.3f} unparsed {data[f'{prefix}/parse_failure']:.0%} "
        f"empty {data[f'{prefix}/nothing_found']:.0%}"
    )
