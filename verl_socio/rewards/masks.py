"""Terms that compare the segmenter's mask with the target's."""

from verl_socio import metrics
from verl_socio.answer import Status
from verl_socio.errors import invalid
from verl_socio.rewards.outcome import Outcome
from verl_socio.rewards.registry import term


@term("mask_iou", 0.0, 1.0)
def mask_iou(outcome: Outcome) -> float:
    """Overlap of the stage's mask with the target, pixels to be ignored left out on both sides.

    Source: SocioReasoner R2; Think2Seg-RS, and its rule for images without a target.

    Returns:
        0..1. Where the target is empty, 1 if and only if the answer is a well-formed empty one: an unparseable answer
        does not say that nothing is there, and neither does one whose objects gave an empty mask.

    Raises:
        ValueError: If there is no mask (a segmenter that failed is not a score of 0), or its shape differs.
    """
    if outcome.mask_hw is None:
        raise invalid("reward.mask_iou", None, "needs the segmenter's mask", "leave a failed episode out of the batch")
    overlap = metrics.mask_iou(outcome.mask_hw, outcome.target.mask_hw, outcome.target.ignored_hw)
    if not outcome.target.mask_hw.any():
        return float(outcome.answer.status is Status.EMPTY)
    return 0.0 if outcome.answer.status is Status.UNPARSEABLE else overlap
