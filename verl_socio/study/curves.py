"""The curves of a study as pictures."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from verl_socio.study.figures import Figures
from verl_socio.study.plan import Study
from verl_socio.study.records import Result, read_metrics

FOLDER = "curves"
_PART = re.compile(r"(\w+)/reward/(\w+)")
_GIOU = re.compile(r"val/(\w+)/giou")
_UNPARSED = re.compile(r"(\w+)/parse_failure")
_LENGTH = re.compile(r"response_length/mean")
_LOSS = re.compile(r"(train|val)/loss")

# Step -> the value of each seed that has it.
Points = Mapping[int, Sequence[float]]


@dataclass(frozen=True)
class Picture:
    """One picture on the page.

    Attributes:
        title: What it shows.
        file: Its name.
        panels: Title of each panel -> label of each line -> its points.
        x: What lies along the lower side.
        y: What lies along the left side.
    """

    title: str
    file: str
    panels: Mapping[str, Mapping[str, Points]]
    x: str
    y: str


def pictures(figures: Figures) -> list[Picture]:
    """Every picture for which there is something to draw."""
    study = figures.study
    metrics = {name: _of_variant(figures, name) for name in study.curves}

    def lines(pattern: re.Pattern[str], label: Callable[[str, re.Match[str]], str]) -> dict[str, Points]:
        return {
            label(name, match): points
            for name, by_key in metrics.items()
            for key, points in by_key.items()
            if (match := pattern.fullmatch(key))
        }

    def by_stage(name: str, match: re.Match[str]) -> str:
        return f"{name}, {match[1]}"

    made = [
        Picture(f"Parts of the reward: {name}", f"reward_parts_{name}.png", _parts(by_key), "step", "mean of the term")
        for name, by_key in metrics.items()
    ]
    made += [
        Picture("gIoU on val, by stage", "val_giou.png", {"": lines(_GIOU, by_stage)}, "step", "gIoU"),
        Picture(
            "Length of an answer, both stages", "answer_length.png",
            {"": lines(_LENGTH, lambda name, _: name)}, "step", "tokens",
        ),
        Picture(
            "Answers that could not be parsed", "parse_failures.png", {"": lines(_UNPARSED, by_stage)}, "step", "share"
        ),
        Picture("Loss of supervised fine-tuning", "loss.png", {"": lines(_LOSS, by_stage)}, "step", "nats a token"),
        Picture("The test sets, along the training", "out_of_distribution.png", _along(figures), "step", "gIoU"),
    ]  # fmt: skip
    return [each for each in made if any(each.panels.values())]


def draw(picture: Picture, folder: Path) -> Path:
    """Draw a picture: a line is the mean over seeds, the band reaches from the lowest seed to the highest.

    The legend says over how many. What has the same label has the same colour in every panel.

    Args:
        picture: What to draw.
        folder: Where to.

    Returns:
        The PNG file.
    """
    panels = {title: lines for title, lines in picture.panels.items() if lines}
    labels = dict.fromkeys(label for lines in panels.values() for label in lines)
    colors = {label: f"C{number}" for number, label in enumerate(labels)}
    figure = Figure(figsize=(5.0 * len(panels), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axis, (title, lines) in zip(axes, panels.items(), strict=True):
        for label, points in lines.items():
            _line(axis, label, points, colors[label])
        axis.set_title(title)
        axis.set_xlabel(picture.x)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    axes[0].set_ylabel(picture.y)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / picture.file
    # Without a date or a version in it the same records give the same bytes.
    figure.savefig(path, dpi=100, metadata={"Software": None})
    return path


def _line(axis: Axes, label: str, points: Points, color: str) -> None:
    steps = sorted(points)
    means = [float(np.mean(points[step])) for step in steps]
    seeds = max(len(points[step]) for step in steps)
    label = f"{label} ({seeds} seed{'s' if seeds > 1 else ''})"
    axis.plot(steps, means, label=label, color=color, marker="." if len(steps) < 10 else None)
    low, high = [min(points[step]) for step in steps], [max(points[step]) for step in steps]
    axis.fill_between(steps, low, high, color=color, alpha=0.15, linewidth=0)


def _of_variant(figures: Figures, name: str) -> dict[str, dict[int, list[float]]]:
    """Key of a metric -> step -> value of each seed that came as far as any: a line keeps its seeds on the way."""
    runs = [run for (variant, _), run in figures.runs.items() if variant == name]
    trainings = [entries for run in runs if (entries := read_metrics(figures.study, run))]
    end = max((entries[-1][0] for entries in trainings), default=0)
    found: dict[str, dict[int, list[float]]] = {}
    for entries in trainings:
        if entries[-1][0] == end:
            for step, data in entries:
                for key, value in data.items():
                    found.setdefault(key, {}).setdefault(step, []).append(value)
    return found


def _parts(by_key: Mapping[str, Points]) -> dict[str, dict[str, Points]]:
    panels: dict[str, dict[str, Points]] = {}
    for key, points in by_key.items():
        if match := _PART.fullmatch(key):
            panels.setdefault(match[1], {})[match[2]] = points
    return panels


def _along(figures: Figures) -> dict[str, dict[str, Points]]:
    """Each evaluation that is made along the way, and each variant from the start over its checkpoints."""
    study = figures.study
    return {
        name: {
            variant: points for variant in study.curves if (points := _path(figures, study, variant, name))
        }
        for name, evaluation in study.evaluations.items()
        if evaluation.along
    }  # fmt: skip


def _path(figures: Figures, study: Study, variant: str, evaluation: str) -> dict[int, list[float]]:
    """Step -> gIoU of each seed that has every step of the line, its start among them."""
    found: dict[int, dict[int, float]] = {}

    def add(step: int, seed: int, result: Result | None) -> None:
        if result is not None:
            found.setdefault(step, {})[seed] = result.line("last").giou

    planned = study.variants[variant]
    for run in (figures.runs[variant, seed] for seed in planned.seeds):
        for step in (*planned.also_at, run.last_step):
            add(step, run.seed, figures.result(variant, run.seed, evaluation, step))
    begun = planned.begins_as
    if found and begun is not None:
        for seed in set(planned.seeds).intersection(study.variants[begun].seeds):
            add(0, seed, figures.result(begun, seed, evaluation))
    whole = [seed for seed in planned.seeds if found and all(seed in by_seed for by_seed in found.values())]
    return {step: [by_seed[seed] for seed in whole] for step, by_seed in found.items()} if whole else {}
