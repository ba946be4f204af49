"""Terms that compare the answer's boxes with the target's."""

import math

import numpy as np

from verl_socio.answer import Status
from verl_socio.geometry import best_pairs, box_iou
from verl_socio.rewards.form import boxes_of
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
    highest = 1.0 if l1_px is None else 2.0
    answered = boxes_of(outcome.answer.prompts)[:max_items]
    wanted = outcome.target.boxes_xyxy[:max_items]
    if len(answered) == 0 and len(wanted) == 0:
        return highest if outcome.answer.status is Status.EMPTY else 0.0
    if len(answered) == 0 or len(wanted) == 0:
        return 0.0
    gain = (box_iou(answered, wanted) > iou_threshold).astype(np.float64)
    if l1_px is not None:
        gain += np.abs(answered[:, None] - wanted[None]).mean(axis=-1) < l1_px
    return float(gain[best_pairs(gain)].sum() / max(len(answered), len(wanted)))


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
