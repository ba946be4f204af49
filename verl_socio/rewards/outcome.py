"""What a stage led to, as the reward terms see it. All coordinates are the image's own pixels."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from verl_socio.answer import Answer
from verl_socio.errors import invalid
from verl_socio.geometry import check_mask, filled_boxes, inscribed_centers, mask_boxes, mask_instances


@dataclass(frozen=True, eq=False)
class Target:
    """What should have been found.

    Attributes:
        mask_hw: `(H, W)` bool.
        boxes_xyxy: `(K, 4)` float64, one half-open box an object: a connected region, unless the data set says more.
        given_points_xy: `(K, P, 2)` float64 points of each object where the data set brings them; else None, and the
            properties below find them in the mask.
        ignored_hw: `(H, W)` bool, pixels that count on neither side; None where there are none.
        min_area: Regions of this many pixels or fewer have no box.

    Raises:
        ValueError: If the mask is not two-dimensional bool, or boxes or points are of another shape.
    """

    mask_hw: np.ndarray
    boxes_xyxy: np.ndarray
    given_points_xy: np.ndarray | None = None
    ignored_hw: np.ndarray | None = None
    min_area: int = 10

    def __post_init__(self) -> None:
        """Check shapes where a target is made, not in each term."""
        check_mask("target.mask_hw", self.mask_hw)
        if self.boxes_xyxy.ndim != 2 or self.boxes_xyxy.shape[1] != 4:
            raise invalid("target.boxes_xyxy.shape", self.boxes_xyxy.shape, "must be (K, 4)", "use Target.from_mask")
        given = self.given_points_xy
        if given is not None and (given.ndim != 3 or given.shape[::2] != (len(self.boxes_xyxy), 2) or not given.size):
            rule = f"must be ({len(self.boxes_xyxy)}, P, 2) with P of 1 or more"
            raise invalid("target.given_points_xy.shape", given.shape, rule, "give every object as many points")

    @classmethod
    def from_mask(cls, mask_hw: np.ndarray, ignored_hw: np.ndarray | None = None, min_area: int = 10) -> "Target":
        """Make a target of a mask; regions of `min_area` pixels or fewer get no box (SocioReasoner: 10)."""
        return cls(mask_hw, mask_boxes(mask_hw, min_area), ignored_hw=ignored_hw, min_area=min_area)

    @cached_property
    def box_xyxy(self) -> np.ndarray | None:
        """`(4,)` float64 box around all objects; None where there is none."""
        if not len(self.boxes_xyxy):
            return None
        around: np.ndarray = np.concatenate([self.boxes_xyxy[:, :2].min(axis=0), self.boxes_xyxy[:, 2:].max(axis=0)])
        return around

    @cached_property
    def points_xy(self) -> np.ndarray:
        """`(K, 2)` float64, a point on each object: the one given, or the centre of its largest inscribed circle.

        Of a box that holds nothing of the mask, its middle.
        """
        if self.given_points_xy is not None:
            return self.given_points_xy[:, 0]
        middles_xy = (self.boxes_xyxy[:, :2] + self.boxes_xyxy[:, 2:]) / 2
        objects = zip(self.regions(), middles_xy, strict=True)
        points = [inscribed_centers(region_hw, 1)[0] if region_hw.any() else middle for region_hw, middle in objects]
        return np.array(points).reshape(-1, 2)

    def regions(self) -> list[np.ndarray]:
        """What each object is of the mask, in the boxes' order: `(H, W)` bool each.

        Its connected region; of a box that the data set brings, what lies in it, which may be nothing.
        """
        if np.array_equal(self.boxes_xyxy, mask_boxes(self.mask_hw, self.min_area)):
            return mask_instances(self.mask_hw, self.min_area)
        size_wh = self.mask_hw.shape[::-1]
        return [self.mask_hw & filled_boxes(box_xyxy[None], size_wh) for box_xyxy in self.boxes_xyxy]

    @cached_property
    def two_points_xy(self) -> np.ndarray:
        """`(2, 2)` float64, two points on the whole target; `(0, 2)` where there is nothing to find.

        The ones given where there is one object, or the centres of the mask's two largest inscribed circles (Seg-Zero):
        the points of one object of several would not fit the box around all.
        """
        if self.given_points_xy is not None and len(self.given_points_xy) == 1:
            given: np.ndarray = self.given_points_xy[0]
            return given[:2] if len(given) > 1 else given.repeat(2, axis=0)
        return inscribed_centers(self.mask_hw, 2)


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
