"""A picture with objects that somebody described: what every style of annotation is read into."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

IGNORED = 255


@dataclass(frozen=True, eq=False)
class Described:
    """One object, or several that one text means together.

    Attributes:
        id: Unique among those of its scene's set.
        text: What describes it.
        masks_hw: bool (H, W), one an object.
    """

    id: str
    text: str
    masks_hw: tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture and what is described in it.

    Attributes:
        image: The picture's file.
        described: At least one.
        ignored_hw: bool (H, W), pixels that count on neither side; None where there are none.
    """

    image: Path
    described: tuple[Described, ...]
    ignored_hw: np.ndarray | None = None
