"""What a stage led to, as the reward terms see it. All coordinates are the image's own pixels."""

from dataclasses import dataclass

import numpy as np

from verl_socio.answer import Answer
from verl_socio.errors import invalid
from verl_socio.geometry import check_mask, mask_boxes


@dataclass(frozen=True, eq=False)
class Target:
    """What should have been found.

    Attributes:
        mask_hw: `(H, W)` bool.
        boxes_xyxy: `(K, 4)` float64, one half-open box a connected region.

    Raises:
        ValueError: If the mask is not two-dimensional bool or the boxes are not `(K, 4)`.
    """

    mask_hw: np.ndarray
    boxes_xyxy: np.ndarray

    def __post_init__(self) -> None:
        """Check shapes where a target is made, not in each term."""
        check_mask("target.mask_hw", self.mask_hw)
        if self.boxes_xyxy.ndim != 2 or self.boxes_xyxy.shape[1] != 4:
            raise invalid("target.boxes_xyxy.shape", self.boxes_xyxy.shape, "must be (K, 4)", "use Target.from_mask")

    @classmethod
    def from_mask(cls, mask_hw: np.ndarray, min_area: int = 10) -> "Target":
        """Make a target of a mask; regions of `min_area` pixels or fewer get no box (SocioReasoner: 10)."""
        return cls(mask_hw, mask_boxes(mask_hw, min_area))


@dataclass(frozen=True, eq=False)
class Outcome:
    """A stage's answer and what became of it.

    Attributes:
        answer: The parsed answer.
        target: What should have been found.
        mask_hw: `(H, W)` bool, union of the segmenter's masks of this stage; all False where the answer asked for
            nothing; None where the segmenter was not run, which no mask term accepts.
        previous: Answer of the stage before, None in the first stage.
    """

    answer: Answer
    target: Target
    mask_hw: np.ndarray | None = None
    previous: Answer | None = None

    @property
    def nothing_there(self) -> bool:
        """Whether the answer says, rightly, that there is nothing to find."""
        return self.answer.status == "empty" and not self.target.mask_hw.any()
