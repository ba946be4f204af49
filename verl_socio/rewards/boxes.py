"""Terms that compare the answer's boxes with the target's."""

import math

import numpy as np

from verl_socio.answer import Status
from verl_socio.geometry import best_pairs, box_iou
from verl_socio.rewards.form import boxes_of, points_inside
from verl_socio.rewards.outcome import Outcome
from verl_socio.rewards.registry import term


@term("box_accuracy", 0.0, 2.0)
def box_accuracy(
    outcome: Outcome, iou_threshold: float = 0.5, l1_px: float | None = 10.0, max_items: int = 120
) -> float:
    """How many of the target's boxes were found, and how exactly.

    Source: SocioReasoner R1 and VisionReasoner (code): a Hungarian matching over [IoU > threshold] + [mean absolute
    coordinate difference < l1_px], summed over the pairs and divided by the larger number of boxes. The SocioReasoner
    paper has the first part alone (`l1_px=None`). Both sides are in the image's own pixels.

    Args:
        outcome: What the stage led to.
        iou_threshold: A pair above this IoU earns 1.
        l1_px: A pair whose four coordinates differ by less than this on average, in pixels, earns 1 more; None: off.
        max_items: Boxes looked at on each side; the rest is left out.

    Returns:
        0..2, or 0..1 without the second part. The highest value where a well-formed empty list meets no target, 0 where
        only one side is empty or the answer is unparseable.
    """
    prompts, wanted = outcome.answer.prompts[:max_items], outcome.target.boxes_xyxy[:max_items]
    gain = _box_gain(boxes_of(prompts), wanted, iou_threshold, l1_px)
    return _matched(gain, outcome.answer.status, highest=1.0 if l1_px is None else 2.0)


@term("object_accuracy", 0.0, 3.0)
def object_accuracy(
    outcome: Outcome,
    iou_threshold: float = 0.5,
    l1_px: float = 10.0,
    point_px: float = 30.0,
    max_items: int = 120,
) -> float:
    """How many of the target's objects were found, and how exactly, by box and point.

    Source: VisionReasoner (code): `box_accuracy`, and one more for a pair whose points are nearer than `point_px` with
    the answered point inside its own box. An object's point is the centre of its largest inscribed circle.

    Args:
        outcome: What the stage led to.
        iou_threshold: A pair above this IoU earns 1.
        l1_px: A pair whose four coordinates differ by less than this on average, in pixels, earns 1 more.
        point_px: A pair whose points are nearer than this, in pixels, earns 1 more. Of several points the first counts.
        max_items: Objects looked at on each side; the rest is left out.

    Returns:
        0..3. The highest value where a well-formed empty list meets no target, 0 where only one side is empty or the
        answer is unparseable.
    """
    prompts, wanted = outcome.answer.prompts[:max_items], outcome.target.boxes_xyxy[:max_items]
    gain = _box_gain(boxes_of(prompts), wanted, iou_threshold, l1_px)
    for row, prompt in enumerate(prompts):
        if prompt.positive_xy and points_inside(prompt, count=1):
            distance = np.linalg.norm(outcome.target.points_xy[:max_items] - prompt.positive_xy[0], axis=-1)
            gain[row] += distance < point_px
    return _matched(gain, outcome.answer.status, highest=3.0)


@term("single_box_iou", 0.0, 1.0)
def single_box_iou(outcome: Outcome, threshold: float = 0.5) -> float:
    """Whether the answer's first box overlaps the box around the whole target.

    Source: Seg-Zero (code): IoU > 0.5.

    Returns:
        1 or 0; without a target 1 for a well-formed empty answer.
    """
    wanted = outcome.target.box_xyxy
    if wanted is None or not outcome.answer.prompts:
        return float(outcome.nothing_there)
    return float(box_iou(boxes_of(outcome.answer.prompts[:1]), wanted)[0, 0] > threshold)


@term("single_box_l1", 0.0, 1.0)
def single_box_l1(outcome: Outcome, l1_px: float = 10.0) -> float:
    """Whether the coordinates of the answer's first box are near those of the box around the whole target.

    Source: Seg-Zero (code): mean absolute difference of the four coordinates < 10 px.

    Args:
        outcome: What the stage led to.
        l1_px: The bound, in pixels of the image.

    Returns:
        1 or 0; without a target 1 for a well-formed empty answer.
    """
    wanted = outcome.target.box_xyxy
    if wanted is None or not outcome.answer.prompts:
        return float(outcome.nothing_there)
    return float(np.abs(boxes_of(outcome.answer.prompts[:1])[0] - wanted).mean() < l1_px)


def _box_gain(answered: np.ndarray, wanted: np.ndarray, iou_threshold: float, l1_px: float | None) -> np.ndarray:
    """`(N, K)` float64: what each pair of boxes earns."""
    gain: np.ndarray = (box_iou(answered, wanted) > iou_threshold).astype(np.float64)
    if l1_px is not None:
        gain += np.abs(answered[:, None] - wanted[None]).mean(axis=-1) < l1_px
    return gain


def _matched(gain_nk: np.ndarray, status: Status, highest: float) -> float:
    """The gain of the best pairs over the larger number of objects."""
    if 0 in gain_nk.shape:
        return highest if gain_nk.shape == (0, 0) and status is Status.EMPTY else 0.0
    return float(gain_nk[best_pairs(gain_nk)].sum() / max(gain_nk.shape))


@term("box_count", 0.0, 1.0)
def box_count(outcome: Outcome) -> float:
    """How close the number of items comes to the number of regions.

    Source: SocioReasoner R1 (code): exp(-2 |K - J| / J) for K usable items and J regions.

    Returns:
        0..1. Without a region: 1 for a well-formed empty list, else 0. 0 for an unparseable answer.
    """
    if outcome.answer.status is Status.UNPARSEABLE:
        return 0.0
    answered, wanted = len(outcome.answer.prompts), len(outcome.target.boxes_xyxy)
    if wanted == 0:
        return float(answered == 0)
    return math.exp(-2.0 * abs(answered - wanted) / wanted)
