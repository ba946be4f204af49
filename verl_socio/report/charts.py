"""The report's charts, each as an SVG for the page and as a PNG file."""

from __future__ import annotations

import html
import io
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from verl_socio.bootstrap import Interval
from verl_socio.evaluate.scores import CENTER_BOX
from verl_socio.report.figures import UNCHANGED, Figures, change_of
from verl_socio.report.load import Evaluated

_GREY, _LIGHT, _DARK = "#c3c9d3", "#a9cbf0", "#3f7fcb"
_HELPED, _HURT, _SAME = "#2a9d6f", "#d1495b", "#8d99ae"
_INK, _FAINT = "#3a4354", "#e6e9ef"
_CLASSES_SHOWN = 20
_STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    # Letters stay letters: the page's font, and text that can be searched and copied.
    "svg.fonttype": "none",
    "text.parse_math": False,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _FAINT,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": _FAINT,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


def charts(evaluated: Evaluated, figures: Figures, folder: Path) -> dict[str, str]:
    """Draw the charts of an evaluation.

    Args:
        evaluated: The evaluation.
        figures: Its figures.
        folder: Where `<chart>.png` goes; it is made.

    Returns:
        Chart to SVG element, in the order of the page. A chart that has nothing to show is left out. A point of the
        scatter is a link to `#s=<the sample's place in the set>`.
    """
    folder.mkdir()
    drawn: dict[str, str] = {}
    with _style():
        for name, figure, told in _figures(evaluated, figures):
            drawn[name] = _save(name, figure, told, folder)
    return drawn


def _figures(evaluated: Evaluated, figures: Figures) -> Iterator[tuple[str, Figure, str]]:
    """Each chart's name, the chart, and what it shows in words."""
    yield "levels", _levels(figures), "gIoU and cIoU of each stage by level, as in the table of figures"
    yield "iou", _histogram(evaluated), "How many samples reach which IoU"
    kinds = ", ".join(f"{name} {count}" for name, count in figures.kinds.items())
    yield "kinds", _kinds(figures), f"What became of the samples: {kinds}"
    if figures.classes:
        yield "classes", _classes(figures), "gIoU by class and function"
    if figures.refinement is not None and any(row.failure is None for row in evaluated.rows):
        changes = ", ".join(f"{name} {count}" for name, count in asdict(figures.refinement).items())
        yield "refinement", _scatter(evaluated), f"What the last stage did to each mask: {changes}"


@contextmanager
def _style() -> Iterator[None]:
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # Scripts that Matplotlib's own font lacks show as boxes in the PNG; the page has the browser's fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def _save(name: str, figure: Figure, told: str, folder: Path) -> str:
    """Write the PNG, give the SVG: one picture to who does not see it, its links for the mouse alone.

    Thousands of points would be as many stops of the tab key; all samples are in the gallery.
    """
    figure.savefig(folder / f"{name}.png", dpi=160)
    text = io.StringIO()
    # Ids are unique on the page, and the same evaluation gives the same page.
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") + len("<svg") :].replace("<a xlink:href", '<a tabindex="-1" xlink:href')
    return f'<svg role="img" aria-label="{html.escape(told)}"{svg}'


def plain(text: str, most: int) -> str:
    """Any text as a short label: no control characters, no halves of characters, no line breaks."""
    kept = "".join(" " if unicodedata.category(each)[0] in "CZ" else each for each in text[: 4 * most])
    words = " ".join(kept.split())
    return words if len(words) <= most else f"{words[: most - 1]}…"


def _axes(width: float, height: float, title: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height))
    axes = figure.add_subplot()
    # Over the labels too, not only over the axes: a long title has room.
    figure.suptitle(title, x=0.02, ha="left", fontsize=11, fontweight="bold")
    return figure, axes


def _colours(stages: int) -> list[str]:
    return [_LIGHT] * (stages - 1) + [_DARK]


def _bars(axes: Any, places: np.ndarray, thick: float, values: Sequence[float], spreads: Sequence[Interval]) -> Any:
    """Lengths that hold an interval's whiskers, in percent."""
    percent = 100 * np.array(values)
    off = np.array([[value - each.low, each.high - value] for value, each in zip(values, spreads, strict=True)])
    whiskers = {"fmt": "none", "ecolor": _INK, "elinewidth": 1.1, "capsize": 2.5}
    axes.errorbar(percent, places, xerr=100 * np.maximum(off, 0).T, **whiskers, zorder=3)
    return axes.barh(places, percent, height=thick)


def _levels(figures: Figures) -> Figure:
    lines = figures.summary.lines
    levels, names = (list(dict.fromkeys(getattr(line, key) for line in lines)) for key in ("level", "name"))
    figure = Figure(figsize=(6.0, 1.2 + 0.22 * len(levels) * (len(names) + 1)))
    stages = len(names) - (CENTER_BOX in names)
    colours = [_GREY] * (len(names) - stages) + _colours(stages)
    sizes = {line.level: line.samples for line in lines}
    for axes, (key, title) in zip(
        figure.subplots(1, 2, sharey=True), (("giou", "gIoU"), ("ciou", "cIoU")), strict=True
    ):
        for number, (name, colour) in enumerate(zip(names, colours, strict=True)):
            chosen = [line for line in lines if line.name == name]
            places = np.arange(len(chosen)) * (len(names) + 1.0) + number
            spreads = [figures.intervals[line.level, name][key] for line in chosen]
            for bar in _bars(
                axes, places, 0.86, [value for line in chosen if (value := line.figures[key]) is not None], spreads
            ):
                bar.set_color(colour)
            axes.plot([], [], "s", color=colour, markersize=8, label=plain(name, 30))
        middle = np.arange(len(levels)) * (len(names) + 1.0) + (len(names) - 1) / 2
        axes.set_yticks(middle, [f"{plain(level, 20)} ({sizes[level]})" for level in levels])
        axes.set_title(f"{title}, %", pad=8)
        axes.set_xlim(0, 100)
        axes.set_xticks(range(0, 81, 20))
        axes.grid(axis="y", visible=False)
    axes.invert_yaxis()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=len(names))
    return figure


def _histogram(evaluated: Evaluated) -> Figure:
    figure, axes = _axes(6.0, 3.6, "How many samples reach which IoU")
    edges = np.linspace(0, 1, 21)
    for number, (name, colour) in enumerate(zip(evaluated.stages, _colours(len(evaluated.stages)), strict=True)):
        ious = [0.0 if row.failure is not None else row.stages[number].mask_score.iou for row in evaluated.rows]
        last = number == len(evaluated.stages) - 1
        look = {"histtype": "stepfilled", "alpha": 0.75} if last else {"histtype": "step", "linewidth": 2}
        axes.hist(ious, bins=edges, color=colour, label=plain(name, 30), **look)
    axes.set_xlim(0, 1)
    axes.set_xlabel("IoU")
    axes.set_ylabel("samples")
    axes.legend()
    return figure


def _scatter(evaluated: Evaluated) -> Figure:
    figure, axes = _axes(6.0, 4.8, "What the last stage did to each mask")
    rows = [row for row in evaluated.rows if row.failure is None]
    changes = np.array([change_of(row) for row in rows], dtype=np.float64)
    first, last = (np.array([row.stages[at].mask_score.iou for row in rows]) for at in (0, -1))
    groups = (
        ("helped", _HELPED, changes > UNCHANGED),
        ("hurt", _HURT, changes < -UNCHANGED),
        ("unchanged", _SAME, np.abs(changes) <= UNCHANGED),
    )
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1, zorder=1)
    for name, colour, chosen in groups:
        label = f"{name}: {np.count_nonzero(chosen)}"
        points = axes.scatter(first[chosen], last[chosen], s=22, color=colour, alpha=0.65, linewidths=0, label=label)
        points.set_urls([f"#s={rows[at].index}" for at in np.flatnonzero(chosen)])
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel(f"IoU after {plain(evaluated.stages[0], 30)}")
    axes.set_ylabel(f"IoU after {plain(evaluated.stages[-1], 30)}")
    axes.legend(loc="upper left", handletextpad=0.2)
    return figure


def _kinds(figures: Figures) -> Figure:
    figure, axes = _axes(6.0, 1.1 + 0.34 * len(figures.kinds), "What became of the samples")
    names = list(figures.kinds)
    colours = [_HELPED if name == "good" else _HURT if name == "failed" else _LIGHT for name in names]
    bars = axes.barh(names, list(figures.kinds.values()), color=colours, height=0.72)
    axes.bar_label(bars, padding=4)
    axes.set_xlabel("samples")
    axes.margins(x=0.12)
    axes.grid(axis="y", visible=False)
    axes.invert_yaxis()
    return figure


def _classes(figures: Figures) -> Figure:
    shown = figures.classes[:_CLASSES_SHOWN]
    left_out = len(figures.classes) - len(shown)
    title = f"gIoU by class and function, %{f' (the {len(shown)} most frequent)' if left_out else ''}"
    figure, axes = _axes(6.0, 1.1 + 0.24 * len(shown), title)
    shown = sorted(shown, key=lambda each: -each.giou)
    places = np.arange(len(shown), dtype=np.float64)
    bars = _bars(axes, places, 0.74, [each.giou for each in shown], [each.interval for each in shown])
    for bar, each in zip(bars, shown, strict=True):
        bar.set_color(_DARK if each.level == "class" else _LIGHT)
    axes.set_yticks(places, [f"{plain(each.name, 40)} ({each.samples})" for each in shown])
    for level, colour in (("class", _DARK), ("function", _LIGHT)):
        axes.plot([], [], "s", color=colour, markersize=8, label=level)
    axes.legend(loc="lower right")
    axes.set_xlim(0, 100)
    axes.grid(axis="y", visible=False)
    axes.invert_yaxis()
    return figure
