"""What became of a sample, in one word: the first of these that holds, by its last stage."""

from __future__ import annotations

from verl_socio.answer import Status
from verl_socio.evaluate.rows import SampleRow

FAILED = "failed"
CUT_OFF = "cut off"
UNPARSED = "unparsed"
NOTHING = "nothing named"
GOOD = "good"
ELSEWHERE = "elsewhere"
TOO_MUCH = "too much"
TOO_LITTLE = "too little"

# Best first, with what each means.
KINDS = {
    GOOD: "IoU of 0.5 or more",
    TOO_MUCH: "IoU below 0.5, the mask larger than the target",
    TOO_LITTLE: "IoU below 0.5, the mask no larger than the target",
    ELSEWHERE: "no pixel of the target was found",
    NOTHING: "a well-formed answer that names nothing, or a mask without a pixel",
    CUT_OFF: "the answer ended at the limit of its length and could not be read",
    UNPARSED: "the answer could not be read",
    FAILED: "there is no result: the model or the segmenter failed",
}
_GOOD_IOU = 0.5


def kind_of(row: SampleRow) -> str:
    """The sample's kind: a key of `KINDS`."""
    if row.failure is not None:
        return FAILED
    last = row.stages[-1]
    if last.status == Status.UNPARSEABLE:
        return CUT_OFF if last.cut_off else UNPARSED
    score = last.mask_score
    assert row.target_area is not None, row.id
    if score.iou >= _GOOD_IOU:
        return GOOD
    # The union is the mask and the rest of the target.
    area = score.union - row.target_area + score.intersection
    if area == 0:
        return NOTHING
    if score.intersection == 0 and row.target_area:
        return ELSEWHERE
    return TOO_MUCH if area > row.target_area else TOO_LITTLE
