"""The table that a person reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from verl_socio.bootstrap import REPLICATES, SEED, Interval
from verl_socio.evaluate.intervals import Intervals
from verl_socio.evaluate.published import PUBLISHED, SOURCE
from verl_socio.evaluate.scores import Line, Summary
from verl_socio.evaluate.timing import Timing

INTERVAL_RULE = f"Behind a figure: its 95 % bootstrap interval ({REPLICATES} draws of the samples, seed {SEED})."
TIMING_RULE = "With many samples under way, most of these seconds are waiting for others. Rates: pauses do not count."
F1_RULE = "F1: connected regions of more than 10 px, matched one to one, a hit at IoU >= 0.5, over the whole set."


def table(summary: Summary, title: str, *, published: bool, intervals: Intervals | None = None) -> Table:
    """Lay an evaluation out.

    Args:
        summary: The figures.
        title: What was evaluated on what.
        published: Whether the paper's figures belong beside these: the data are SocioSeg's whole test split.
        intervals: Of the figures, to stand behind them.

    Returns:
        A table in percent, a section for each level.
    """
    caption = notes(summary, published=published)
    if intervals is not None:
        caption = f"{INTERVAL_RULE}\n{caption}"
    laid_out = Table(title=title, caption=caption, caption_justify="left", title_justify="left", pad_edge=False)
    laid_out.add_column("level")
    laid_out.add_column("mask of")
    for name in ("cIoU", "gIoU", "F1@0.5"):
        # An interval is never cut: in a narrow terminal it goes to a line of its own.
        laid_out.add_column(name, justify="right", min_width=10)
    for name in ("unparsed", "failed"):
        laid_out.add_column(name, justify="right")
    for level in dict.fromkeys(line.level for line in summary.lines):
        laid_out.add_section()
        lines = [line for line in summary.lines if line.level == level]
        for number, line in enumerate(lines):
            laid_out.add_row(
                f"{level} ({line.samples})" if number == 0 else "",
                *_cells(line, (intervals or {}).get((line.level, line.name), {})),
            )
        for row in PUBLISHED if published else ():
            if row.level == level:
                figures = (f"{value:.1f}" for value in (row.ciou, row.giou, row.f1))
                laid_out.add_row("published", row.name, *figures, "", "", style="dim")
    return laid_out


def notes(summary: Summary, *, published: bool) -> str:
    """What the figures mean."""
    share = f"{summary.center_box_share:.1%}"
    lines = [
        "In percent. cIoU: summed intersections over summed unions. gIoU: mean IoU of the images.",
        F1_RULE,
        f"Centre box: one centred box for all samples, {share} of the image, the targets' mean share.",
    ]
    if summary.failures:
        lines.append(
            f"{summary.failures} of {summary.samples} samples failed and count as intersection 0, union the target's "
            "area; results.jsonl says why (delete their lines to try again)."
        )
    if published:
        lines.append(f"published: as printed in {SOURCE}, not measured here; the paper gives no IoU threshold for F1.")
    return "\n".join(lines)


def _cells(line: Line, intervals: Mapping[str, Interval]) -> list[str]:
    figures = [figure(getattr(line, name), intervals.get(name)) for name in ("ciou", "giou", "f1")]
    if line.unparsed is None:
        return [line.name, *figures, "", ""]
    return [line.name, *figures, f"{100 * line.unparsed:.1f}", str(line.failures)]


def figure(value: float, interval: Interval | None) -> str:
    """A share in percent, its interval behind it."""
    return f"{100 * value:.1f}" if interval is None else f"{100 * value:.1f} {spread(interval)}"


def spread(interval: Interval) -> str:
    """An interval in percent, as rich prints it."""
    # A hundred without its tenths: no column is wider than ten letters.
    low, high = ("100" if 100 * share >= 99.95 else f"{100 * share:.1f}" for share in (interval.low, interval.high))
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
