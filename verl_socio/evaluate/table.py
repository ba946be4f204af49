"""The tables that a person reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from verl_socio.bootstrap import REPLICATES, SEED, Interval
from verl_socio.evaluate.intervals import Intervals
from verl_socio.evaluate.protocols import PROTOCOLS, Column
from verl_socio.evaluate.published import Paper
from verl_socio.evaluate.scores import ALL, Line, LineWithoutMasks, Summary
from verl_socio.evaluate.timing import Timing

INTERVAL_RULE = f"Behind a figure: its 95 % bootstrap interval ({REPLICATES} draws of the samples, seed {SEED})."
# From this share on, unreadable answers are no slips: they are told of.
_MOST = 0.5
_SHARE = Column("share", "share")
TIMING_RULE = "With many samples under way, most of these seconds are waiting for others. Rates: pauses do not count."


def table(summary: Summary, title: str, published: tuple[Paper, ...] = (), intervals: Intervals | None = None) -> Table:
    """Lay an evaluation out.

    Args:
        summary: The figures.
        title: What was evaluated on what.
        published: The papers whose figures belong beside these: they are of the same whole split.
        intervals: Of the figures, to stand behind them.

    Returns:
        A table, shares in percent, a section for each level.
    """
    columns = PROTOCOLS[summary.protocol].columns
    caption = notes(summary, published)
    if intervals is not None:
        caption = f"{INTERVAL_RULE}\n{caption}"
    laid_out = Table(title=title, caption=caption, caption_justify="left", title_justify="left", pad_edge=False)
    laid_out.add_column("level")
    laid_out.add_column("answer of")
    for column in columns:
        # An interval is never cut: in a narrow terminal it goes to a line of its own.
        laid_out.add_column(column.title, justify="right", min_width=10)
    for name in ("unparsed", "failed"):
        laid_out.add_column(name, justify="right")
    for level in dict.fromkeys(line.level for line in summary.lines):
        laid_out.add_section()
        lines = [line for line in summary.lines if line.level == level]
        for number, line in enumerate(lines):
            found = (intervals or {}).get((line.level, line.name), {})
            laid_out.add_row(f"{level} ({line.samples})" if number == 0 else "", *_cells(line, columns, found))
        for row in (row for paper in published for row in paper.rows if row.level == level):
            figures = (figure(row.figures.get(column.key), column) for column in columns)
            laid_out.add_row("published", row.name, *figures, "", "", style="dim")
    return laid_out


def notes(summary: Summary, published: tuple[Paper, ...] = ()) -> str:
    """What the figures mean."""
    lines = list(PROTOCOLS[summary.protocol].rules)
    if summary.center_box_share is not None:
        share = f"{summary.center_box_share:.1%}"
        lines.append(f"Centre box: one centred box for all samples, {share} of the image, the targets' mean share.")
    if summary.without_target:
        lines.append(f"{summary.without_target} of {summary.samples} samples have no target.")
    if summary.failures:
        lines.append(
            f"{summary.failures} of {summary.samples} samples failed and count as intersection 0, union the target's "
            "area, nothing found; results.jsonl says why (retry_failed=true tries them again)."
        )
    lines += [
        f"{line.unparsed:.0%} of the answers of {line.name} could not be read: so answers a model that was taught "
        "other prompts. If it was, name its recipe: recipe=NAME."
        for line in summary.lines
        if line.level == ALL and line.unparsed is not None and line.unparsed > _MOST
    ]
    lines += [f"published: as printed in {paper.source}, not measured here{paper.note}." for paper in published]
    return "\n".join(lines)


def _cells(line: Line | LineWithoutMasks, columns: tuple[Column, ...], intervals: Mapping[str, Interval]) -> list[str]:
    figures = [figure(line.figures[column.key], column, intervals.get(column.key)) for column in columns]
    if line.unparsed is None:
        return [line.name, *figures, "", str(line.failures) if line.failures else ""]
    return [line.name, *figures, f"{100 * line.unparsed:.1f}", str(line.failures)]


def figure(value: float | None, column: Column, interval: Interval | None = None) -> str:
    """A figure as its column shows it, its interval behind it; nothing where there is none."""
    if value is None:
        return ""
    return column.shown(value) if interval is None else f"{column.shown(value)} {spread(interval, column)}"


def spread(interval: Interval, column: Column = _SHARE) -> str:
    """An interval as rich prints it, in percent where the column is."""
    # A hundred without its tenths: no column is wider than ten letters.
    low, high = (column.shown(edge).replace("100.0", "100") for edge in (interval.low, interval.high))
    return f"[dim]{low}..{high}[/dim]"


def timing_table(timings: Sequence[Timing]) -> Table:
    """Lay out how long an evaluation took."""
    laid_out = Table(title="Times", title_justify="left", caption=TIMING_RULE, caption_justify="left")
    laid_out.add_column("what")
    for name in ("samples", "p50 s", "p95 s", "samples/s", "tokens/s"):
        laid_out.add_column(name, justify="right")
    for each in timings:
        rates = ("" if rate is None else f"{rate:.3g}" for rate in (each.per_second, each.tokens_per_second))
        laid_out.add_row(each.name, str(each.samples), f"{each.p50:.2f}", f"{each.p95:.2f}", *rates)
    return laid_out
