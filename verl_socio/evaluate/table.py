"""The table that a person reads."""

from __future__ import annotations

from rich.table import Table

from verl_socio.evaluate.published import PUBLISHED, SOURCE
from verl_socio.evaluate.scores import Line, Summary

F1_RULE = "F1: connected regions of more than 10 px, matched one to one, a hit at IoU >= 0.5, over the whole set."


def table(summary: Summary, title: str, *, published: bool) -> Table:
    """Lay an evaluation out.

    Args:
        summary: The figures.
        title: What was evaluated on what.
        published: Whether the paper's figures belong beside these: the data are SocioSeg's whole test split.

    Returns:
        A table in percent, a section for each level.
    """
    caption = notes(summary, published=published)
    laid_out = Table(title=title, caption=caption, caption_justify="left", title_justify="left")
    laid_out.add_column("level")
    laid_out.add_column("mask of")
    for name in ("cIoU", "gIoU", "F1@0.5", "unparsed", "failed"):
        laid_out.add_column(name, justify="right")
    for level in dict.fromkeys(line.level for line in summary.lines):
        laid_out.add_section()
        lines = [line for line in summary.lines if line.level == level]
        for number, line in enumerate(lines):
            laid_out.add_row(f"{level} ({line.samples})" if number == 0 else "", *_cells(line))
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


def _cells(line: Line) -> list[str]:
    figures = [f"{100 * value:.1f}" for value in (line.ciou, line.giou, line.f1)]
    if line.unparsed is None:
        return [line.name, *figures, "", ""]
    return [line.name, *figures, f"{100 * line.unparsed:.1f}", str(line.failures)]
