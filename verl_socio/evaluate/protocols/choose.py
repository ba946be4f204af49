"""The protocols, and which one a set is measured by."""

from __future__ import annotations

from collections.abc import Sequence

from verl_socio.data import Sample
from verl_socio.errors import invalid
from verl_socio.evaluate.protocols.protocol import BOXES, COUNT, MASK, Column, Protocol
from verl_socio.evaluate.protocols.tallies import (
    THRESHOLDS,
    BoxTally,
    CountTally,
    DetectionTally,
    MaskTally,
    NoTargetTally,
)

AUTO = "auto"

F1_RULE = "F1: connected regions of more than 10 px, matched one to one, a hit at IoU >= 0.5, over the whole set."
_PERCENT = "In percent."
_IOU_RULE = "cIoU: summed intersections over summed unions. gIoU: mean IoU of the images; two empty masks agree."
_IOU = (Column("ciou", "cIoU"), Column("giou", "gIoU"))
_NOT_ANSWERED = "An answer that could not be read never says that nothing is there."

_ALL = (
    Protocol(
        name="levels",
        needs=MASK,
        columns=(*_IOU, Column("f1", "F1@0.5")),
        tallies=(MaskTally,),
        rules=(_PERCENT, _IOU_RULE, F1_RULE),
        baseline=True,
    ),
    Protocol(
        name="no_target",
        needs=MASK,
        columns=(*_IOU, Column("no_target", "no target")),
        tallies=(MaskTally, NoTargetTally),
        rules=(
            _PERCENT,
            _IOU_RULE,
            "no target: of the images without a target, those answered so (no mask).",
            _NOT_ANSWERED,
        ),
    ),
    Protocol(
        name="precision",
        needs=MASK,
        columns=(*_IOU, *(Column(f"p{round(100 * level)}", f"P@{level}") for level in THRESHOLDS)),
        tallies=(MaskTally,),
        rules=(_PERCENT, _IOU_RULE, "P@t: images with an IoU of t or more."),
    ),
    Protocol(
        name="boxes",
        needs=MASK,
        columns=(*_IOU, Column("box_accuracy", "box acc")),
        tallies=(MaskTally, BoxTally),
        rules=(
            _PERCENT,
            _IOU_RULE,
            "box acc: of the samples with a known box, those with a predicted box of IoU > 0.5.",
            _NOT_ANSWERED,
        ),
    ),
    Protocol(
        name="detection",
        needs=BOXES,
        columns=(Column("ap", "AP"), Column("ap50", "AP50"), Column("ap75", "AP75")),
        tallies=(DetectionTally,),
        rules=(
            _PERCENT,
            "AP: COCO's, by pycocotools. A box's score is its share of the image's area.",
            "Crowd: a region that counts on neither side, where the data tell of one (annotations=).",
        ),
    ),
    Protocol(
        name="counting",
        needs=COUNT,
        columns=(
            Column("accuracy", "accuracy"), Column("mae", "MAE", is_share=False), Column("rmse", "RMSE", is_share=False)
        ),
        tallies=(CountTally,),
        rules=("accuracy: exact counts, in percent. MAE, RMSE: in objects. The count is the number of items answered.",
               "An answer that could not be read is wrong and counts nothing."),
    ),
)  # fmt: skip

PROTOCOLS = {protocol.name: protocol for protocol in _ALL}

# Which protocol the authors of a format's sets use; all other formats are SocioSeg's.
_OF_FORMAT = {
    "earthreason": "no_target",
    "rrsisd": "precision",
    "refsegrs": "precision",
    "risbench": "precision",
    "referring": "boxes",
    "detection": "detection",
    "counting": "counting",
}


def protocol_of(name: str, data_format: str) -> Protocol:
    """Choose a protocol.

    Args:
        name: A name of `PROTOCOLS`, or "auto" for that of the set's authors.
        data_format: The set's format, as `verl_socio.data.format_of` names it.

    Raises:
        ValueError: There is no such protocol.
    """
    if name == AUTO:
        return PROTOCOLS[_OF_FORMAT.get(data_format, "levels")]
    if name not in PROTOCOLS:
        raise invalid("protocol", name, f"must be {AUTO} or one of {', '.join(PROTOCOLS)}", "use one of them")
    return PROTOCOLS[name]


def check_samples(protocol: Protocol, samples: Sequence[Sample]) -> None:
    """Check that the samples have what the protocol measures by.

    Raises:
        ValueError: One has not; it is named. Or there is nothing to detect in any of them.
    """
    for sample in samples:
        truth = sample.truth
        is_there = {
            MASK: sample.target is not None,
            BOXES: None not in (truth.boxes_xyxy, truth.image_id, truth.category_id),
            COUNT: truth.count is not None,
        }
        if not is_there[protocol.needs]:
            rule = f"needs the {protocol.needs} of every sample, but {sample.id} has none"
            raise invalid("protocol", protocol.name, rule, "use protocol=auto, or data that have it")
    # Average precision is a share of the objects: without any there is no figure, which the whole run would tell last.
    if protocol.needs == BOXES and not any(sample.truth.boxes_xyxy for sample in samples):
        rule = f"needs an object in one of the {len(samples)} samples, but none has a box"
        raise invalid("protocol", protocol.name, rule, "check data and split")
