"""Several evaluations of one start in one table: by split, and by what an ablation changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from verl_socio.evaluate.intervals import Intervals
from verl_socio.evaluate.protocols import PROTOCOLS, Protocol
from verl_socio.evaluate.scores import ALL, Summary
from verl_socio.evaluate.table import INTERVAL_RULE, figure, spread
from verl_socio.evaluate.timing import Timing
from verl_socio.report.compare import compare


@dataclass(frozen=True)
class Shown:
    """One evaluation, with its figures.

    Attributes:
        split: Its split.
        way: The ablation's name, or "".
        folder: Its folder.
        summary: Its figures.
        intervals: Of them.
        timings: How long things took.
    """

    split: str
    way: str
    folder: Path
    summary: Summary
    intervals: Intervals
    timings: list[Timing]


def overview(shown: Sequence[Shown], title: str) -> Table:
    """Lay several evaluations out, one a line, each by its last stage.

    Args:
        shown: The evaluations, split by split; where there are ablations, each is compared with its split's first.
        title: What was evaluated, as rich reads it.
    """
    protocol = PROTOCOLS[shown[0].summary.protocol]
    # The paired comparison is of masks.
    ways = any(each.way for each in shown)
    against = ways and protocol.needs_masks
    caption = f"{protocol.rules[0]} By the last stage. {INTERVAL_RULE}"
    if against:
        caption += " Against the first: the paired difference in gIoU, marked * if its interval leaves out 0."
    laid_out = Table(title=title, caption=caption, title_justify="left", caption_justify="left", pad_edge=False)
    laid_out.add_column("way" if ways else "split")
    titles = [column.title for column in protocol.columns]
    for name in titles:
        laid_out.add_column(name, justify="right", min_width=10)
    if against:
        # Wide enough for a signed interval; the rate, which stands in each report, would not fit beside it.
        laid_out.add_column("against the first", justify="right", min_width=12)
    for name in ("failed", *([] if against else ["samples/s"])):
        laid_out.add_column(name, justify="right")
    for split in dict.fromkeys(each.split for each in shown):
        of_split = [each for each in shown if each.split == split]
        if ways:
            laid_out.add_section()
            laid_out.add_row(f"[bold]{escape(split)} ({of_split[0].summary.samples})[/bold]")
        for each in of_split:
            difference = [_against(of_split[0], each)] if against else []
            rest = _rest(each)[: 1 if against else 2]
            laid_out.add_row(escape(each.way or split), *_figures(each, protocol), *difference, *rest)
    return laid_out


def _figures(shown: Shown, protocol: Protocol) -> list[str]:
    [*_, last] = [line for line in shown.summary.lines if line.level == ALL]
    found = shown.intervals[last.level, last.name]
    return [figure(last.figures[column.key], column, found.get(column.key)) for column in protocol.columns]


def _rest(shown: Shown) -> list[str]:
    rate = shown.timings[-1].per_second if shown.timings else None
    return [str(shown.summary.failures), "" if rate is None else f"{rate:.3g}"]


def _against(first: Shown, each: Shown) -> str:
    if each is first:
        return ""
    [giou] = [
        found
        for found in compare(first.folder, each.folder).differences
        if (found.level, found.figure) == (ALL, "giou")
    ]
    star = "*" if giou.is_clear else ""
    return f"{100 * (giou.b - giou.a):+.1f}{star} {spread(giou.interval)}"
