"""How good masks are: the rules for empty masks, ignored pixels and failed samples, written once.

Rewards, evaluation and tables all use these, so that what is trained and what is reported cannot differ. All values are
shares, 0..1; tables multiply by 100.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from verl_socio.errors import invalid
from verl_socio.geometry import best_pairs, check_mask, label_instances


def mask_iou(prediction_hw: np.ndarray, target_hw: np.ndarray, ignore_hw: np.ndarray | None = None) -> float:
    """Return the overlap of two masks.

    Args:
        prediction_hw: `(H, W)` bool.
        target_hw: `(H, W)` bool.
        ignore_hw: `(H, W)` bool, pixels that count on neither side (label 255 in LISA's data), or None.

    Returns:
        Intersection over union, 0..1. Two empty masks agree: 1.

    Raises:
        ValueError: If the masks differ in shape or are not bool.

    Example:
        >>> mask_iou(np.array([[True, True, False]]), np.array([[False, True, True]]))
        0.3333333333333333
    """
    target_hw = _without(target_hw, ignore_hw, "target_hw")
    return _iou(*_areas(_without(prediction_hw, ignore_hw, "prediction_hw"), target_hw))


def _areas(prediction_hw: np.ndarray, target_hw: np.ndarray) -> tuple[int, int]:
    """Pixels in both masks and in either of them."""
    check_mask("prediction_hw", prediction_hw)
    check_mask("target_hw", target_hw)
    if prediction_hw.shape != target_hw.shape:
        rule = f"must have the target's shape {target_hw.shape}"
        raise invalid("prediction_hw.shape", prediction_hw.shape, rule, "predict at the image's own size")
    intersection = int(np.count_nonzero(prediction_hw & target_hw))
    return intersection, int(np.count_nonzero(prediction_hw | target_hw))


def _iou(intersection: int, union: int) -> float:
    return 1.0 if union == 0 else intersection / union


def matched_instances(
    prediction_hw: np.ndarray, target_hw: np.ndarray, min_area: int = 10, iou_threshold: float = 0.5
) -> tuple[int, int, int]:
    """Match the connected regions of two masks one to one.

    The matching makes the summed IoU of the pairs largest (Hungarian); a pair at `iou_threshold` or above is a hit. The
    SocioSeg paper gives no threshold; this is the common one.

    Args:
        prediction_hw: `(H, W)` bool.
        target_hw: `(H, W)` bool.
        min_area: Regions of this many pixels or fewer count on neither side.
        iou_threshold: Lowest IoU of a hit, above 0 and at most 1.

    Returns:
        Hits, regions of the prediction, regions of the target.
    """
    predicted_hw, n_predicted = label_instances(prediction_hw, min_area)
    targeted_hw, n_targeted = label_instances(target_hw, min_area)
    if n_predicted == 0 or n_targeted == 0:
        return 0, n_predicted, n_targeted
    predicted_area, targeted_area = np.bincount(predicted_hw.ravel()), np.bincount(targeted_hw.ravel())
    both = (predicted_hw > 0) & (targeted_hw > 0)
    pairs, intersection = np.unique(predicted_hw[both] * (n_targeted + 1) + targeted_hw[both], return_counts=True)
    rows, columns = np.divmod(pairs, n_targeted + 1)
    iou = intersection / (predicted_area[rows] + targeted_area[columns] - intersection)
    return _hits(rows, columns, iou, iou_threshold), n_predicted, n_targeted


def _hits(rows: np.ndarray, columns: np.ndarray, iou: np.ndarray, iou_threshold: float) -> int:
    """Count the hits of the best matching, given the overlapping pairs alone.

    Regions that share no chain of overlaps cannot compete, so each such group is matched by itself: one matrix of a
    speckled prediction and target would take hours.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if len(rows) == 0:
        return 0
    offset = rows.max() + 1
    n_nodes = offset + columns.max() + 1
    edges = coo_array((np.ones(len(rows)), (rows, offset + columns)), shape=(n_nodes, n_nodes))
    group = connected_components(edges, directed=False)[1][rows]
    order = np.argsort(group, kind="stable")
    hits = 0
    for members in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        if len(members) == 1:
            hits += int(iou[members[0]] >= iou_threshold)
            continue
        _, at_row = np.unique(rows[members], return_inverse=True)
        _, at_column = np.unique(columns[members], return_inverse=True)
        block = np.zeros((at_row.max() + 1, at_column.max() + 1))
        block[at_row, at_column] = iou[members]
        hits += int(np.count_nonzero(block[best_pairs(block)] >= iou_threshold))
    return hits


@dataclass(frozen=True)
class MaskScore:
    """How a mask and the target overlap.

    Attributes:
        iou: Intersection over union, 0..1; two empty masks agree, 1.
        intersection: Pixels in both.
        union: Pixels in either.
        hits: Instances of the prediction matched one to one with instances of the target, at IoU >= 0.5.
        predicted: Instances of the prediction: connected regions of more than 10 pixels.
        targeted: Instances of the target.
    """

    iou: float
    intersection: int
    union: int
    hits: int
    predicted: int
    targeted: int

    @property
    def is_silent(self) -> bool:
        """Whether an answer could not be read where there is no target: the rule of `measure`."""
        return self.union == 0 and self.iou == 0.0


def measure(
    prediction_hw: np.ndarray, target_hw: np.ndarray, ignore_hw: np.ndarray | None = None, *, answered: bool = True
) -> MaskScore:
    """Compare two masks.

    Args:
        prediction_hw: `(H, W)` bool.
        target_hw: `(H, W)` bool.
        ignore_hw: `(H, W)` bool, pixels that count on neither side (label 255 in LISA's data), or None.
        answered: Whether an answer could be read. Where none could, an empty mask does not say that nothing is there:
            its IoU is 0 even where the target is empty, as in the reward `mask_iou`.

    Returns:
        Their overlap, in pixels and in instances.

    Raises:
        ValueError: The masks differ in shape or are not bool.
    """
    target_hw = _without(target_hw, ignore_hw, "target_hw")
    prediction_hw = _without(prediction_hw, ignore_hw, "prediction_hw")
    score = _measure(prediction_hw, target_hw, min_area=10, iou_threshold=0.5)
    return score if answered or score.union else replace(score, iou=0.0)


def _measure(prediction_hw: np.ndarray, target_hw: np.ndarray, min_area: int, iou_threshold: float) -> MaskScore:
    intersection, union = _areas(prediction_hw, target_hw)
    hits, predicted, targeted = matched_instances(prediction_hw, target_hw, min_area, iou_threshold)
    return MaskScore(_iou(intersection, union), intersection, union, hits, predicted, targeted)


class SegmentationScore:
    """The running score of a set of images: cIoU, gIoU and instance F1.

    cIoU is the sum of intersections over the sum of unions, gIoU the mean of the images' IoU (both as in LISA, arXiv
    2308.00692), F1 is that of instances matched one to one at IoU >= `iou_threshold`, over the whole set. A sample that
    failed counts against all three: nothing of its target was found, and its IoU is 0 even where the target is empty.

    Args:
        min_area: Regions of this many pixels or fewer are no instances.
        iou_threshold: Lowest IoU of a matched instance, above 0 and at most 1.

    Raises:
        ValueError: If the threshold is out of range.

    Example:
        >>> score = SegmentationScore()
        >>> score.update(np.ones((8, 8), bool), np.ones((8, 8), bool))
        1.0
        >>> score.compute()
        {'ciou': 1.0, 'giou': 1.0, 'f1': 1.0, 'n': 1}
    """

    def __init__(self, min_area: int = 10, iou_threshold: float = 0.5) -> None:
        if not 0.0 < iou_threshold <= 1.0:
            raise invalid("score.iou_threshold", iou_threshold, "must be above 0 and at most 1", "use 0.5")
        self.min_area = min_area
        self.iou_threshold = iou_threshold
        self.failures = 0
        self._unanswered = 0
        self._ious: list[float] = []
        self._intersection = 0
        self._union = 0
        self._hits = 0
        self._instances = 0

    def update(self, prediction_hw: np.ndarray, target_hw: np.ndarray, ignore_hw: np.ndarray | None = None) -> float:
        """Add an image.

        Args:
            prediction_hw: `(H, W)` bool.
            target_hw: `(H, W)` bool.
            ignore_hw: `(H, W)` bool, pixels that count on neither side (label 255 in LISA's data), or None.

        Returns:
            The image's IoU, 0..1.

        Raises:
            ValueError: If the masks differ in shape or are not bool.
        """
        target_hw = _without(target_hw, ignore_hw, "target_hw")
        prediction_hw = _without(prediction_hw, ignore_hw, "prediction_hw")
        score = _measure(prediction_hw, target_hw, self.min_area, self.iou_threshold)
        self.add(score)
        return score.iou

    def add(self, score: MaskScore) -> None:
        """Add an image that was measured before, with the same settings."""
        self._intersection += score.intersection
        self._union += score.union
        self._hits += score.hits
        self._instances += score.predicted + score.targeted
        self._unanswered += score.is_silent
        self._ious.append(score.iou)

    def add_failure(self, target_hw: np.ndarray, ignore_hw: np.ndarray | None = None) -> None:
        """Add an image for which there is no prediction: intersection 0, union the target's area, IoU 0."""
        target_hw = _without(target_hw, ignore_hw, "target_hw")
        self.add_failed(int(np.count_nonzero(target_hw)), label_instances(target_hw, self.min_area)[1])

    def add_failed(self, target_area: int, target_instances: int) -> None:
        """Add an image for which there is no prediction, given its target's area in pixels and its instances."""
        self.failures += 1
        self._union += target_area
        self._instances += target_instances
        self._ious.append(0.0)

    def merge(self, other: "SegmentationScore") -> None:
        """Add the images of another score, which must have been made with the same settings."""
        if (other.min_area, other.iou_threshold) != (self.min_area, self.iou_threshold):
            found = (other.min_area, other.iou_threshold)
            rule = f"min_area and iou_threshold must be {(self.min_area, self.iou_threshold)}"
            raise invalid("score", found, rule, "score both parts with the same settings")
        self.failures += other.failures
        self._unanswered += other._unanswered
        self._ious += other._ious
        self._intersection += other._intersection
        self._union += other._union
        self._hits += other._hits
        self._instances += other._instances

    def compute(self) -> dict[str, float]:
        """Return `ciou`, `giou` and `f1`, 0..1, and the number of images `n`.

        Where no image has anything to find or anything predicted, cIoU and F1 are 1, or 0 if a sample failed or was
        not answered.

        Raises:
            ValueError: If no image was added.
        """
        n = len(self._ious)
        if n == 0:
            raise invalid("score.n", 0, "there is no image to score", "check the data path and the split")
        if_nothing = 0.0 if self.failures or self._unanswered else 1.0
        return {
            "ciou": self._intersection / self._union if self._union else if_nothing,
            "giou": math.fsum(self._ious) / n,
            "f1": 2 * self._hits / self._instances if self._instances else if_nothing,
            "n": n,
        }

    def precision(self, thresholds: Iterable[float]) -> list[float]:
        """Return, for each threshold, the share of images of that IoU or more, 0..1; failed ones are below all.

        The rule of LAVT's evaluation (arXiv 2112.02244), which RRSIS-D, RefSegRS and RISBench took over. SegEarth-R1
        asks for more than the threshold, which tells only images that lie on it apart.

        Raises:
            ValueError: If no image was added.
        """
        if not self._ious:
            raise invalid("score.n", 0, "there is no image to score", "check the data path and the split")
        return [sum(iou >= threshold for iou in self._ious) / len(self._ious) for threshold in thresholds]


class NoTargetScore:
    """How often a set's images without a target were answered so: no mask, and an answer that could be read.

    Images with a target are not looked at. A failed sample is wrong.

    Attributes:
        samples: Images without a target.
    """

    def __init__(self) -> None:
        self.samples = 0
        self._right = 0

    def add(self, target_area: int, score: MaskScore | None) -> None:
        """Add an image: its target's pixels, and its score from `measure`, or None if the sample failed."""
        if target_area:
            return
        self.samples += 1
        # Without a target the union is the prediction: an IoU of 1 is two empty masks.
        self._right += score is not None and score.iou == 1.0

    def compute(self) -> float | None:
        """Return the share answered rightly, 0..1; None where every image has a target."""
        return self._right / self.samples if self.samples else None


def _without(mask_hw: np.ndarray, ignore_hw: np.ndarray | None, field: str) -> np.ndarray:
    """The mask with the ignored pixels cleared."""
    check_mask(field, mask_hw)
    if ignore_hw is None:
        return mask_hw
    check_mask("ignore_hw", ignore_hw)
    if ignore_hw.shape != mask_hw.shape:
        rule = f"must have the shape of {field}, {mask_hw.shape}"
        raise invalid("ignore_hw.shape", ignore_hw.shape, rule, "read it from the target's label")
    cleared: np.ndarray = mask_hw & ~ignore_hw
    return cleared
