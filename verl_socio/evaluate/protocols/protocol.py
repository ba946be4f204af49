"""The parts of a protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol as Interface

from verl_socio.evaluate.rows import SampleRow, StageRow

MASK, BOXES, COUNT = "mask", "boxes", "count"


class Tally(Interface):
    """Adds samples up to figures, one tally for each stage."""

    def add(self, row: SampleRow, stage: StageRow) -> None:
        """Add what a sample's stage came to."""

    def add_failed(self, row: SampleRow) -> None:
        """Add a sample for which there is no result."""

    def compute(self) -> Mapping[str, float | None]:
        """The figures by name; None where nothing of the set tells."""


@dataclass(frozen=True)
class Column:
    """A figure as the table shows it.

    Attributes:
        key: The figure's name.
        title: The column's head.
        is_share: Whether the figure is a share, 0..1, shown in percent; else it is shown as it is.
    """

    key: str
    title: str
    is_share: bool = True

    def shown(self, value: float) -> str:
        """A value of it as a person reads it."""
        return f"{100 * value:.1f}" if self.is_share else f"{value:.2f}"


@dataclass(frozen=True)
class Protocol:
    """How a set is evaluated.

    Attributes:
        name: What `protocol=` takes.
        needs: What each sample must have: "mask", "boxes" or "count".
        columns: The figures shown, in this order.
        tallies: What adds them up.
        rules: What the figures mean, a line each.
        baseline: Whether the centre box stands beside the stages.
    """

    name: str
    needs: str
    columns: tuple[Column, ...]
    tallies: tuple[Callable[[], Tally], ...]
    rules: tuple[str, ...]
    baseline: bool = False

    @property
    def needs_masks(self) -> bool:
        """Whether the last stage's answer goes to the segmenter."""
        return self.needs == MASK

    def figures(self, tallies: tuple[Tally, ...]) -> dict[str, float | None]:
        """The figures, by key, from tallies made by `tallies`: those of the columns, and of masks what all have."""
        computed: dict[str, float | None] = {}
        for tally in tallies:
            computed.update(tally.compute())
        shown = {column.key for column in self.columns} | {"ciou", "giou", "f1"}
        return {key: value for key, value in computed.items() if key in shown}
