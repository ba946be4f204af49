"""What the model shall write, and what it shall look at while it writes.

The heads of one layer are told where to look before each number, by cross-entropy on their attention: what to write
does not say where that is shown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Look:
    """Where to look while some characters are written: at a pixel of both images.

    Attributes:
        start: First character.
        stop: The character after the last.
        xy: The pixel.
    """

    start: int
    stop: int
    xy: tuple[int, int]


@dataclass(frozen=True)
class Copy:
    """Where some characters are copied from.

    Attributes:
        start: First character.
        stop: The character after the last.
        source: Where the first one stands in the prompt.
    """

    start: int
    stop: int
    source: int


@dataclass(frozen=True)
class Said:
    """What the model shall write, and where it shall look meanwhile."""

    text: str
    looks: tuple[Look | Copy, ...] = ()

    def __add__(self, other: Said) -> Said:
        """The one, then the other."""
        shift = len(self.text)
        moved = (replace(look, start=look.start + shift, stop=look.stop + shift) for look in other.looks)
        return Said(self.text + other.text, (*self.looks, *moved))
