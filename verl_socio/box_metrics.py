"""How good boxes are: the share of samples with a good one, and COCO's average precision."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from verl_socio.errors import invalid
from verl_socio.geometry import box_iou


def box_found(predicted_xyxy: np.ndarray, target_xyxy: np.ndarray, iou_threshold: float = 0.5) -> bool:
    """Tell whether a predicted box finds a target's: their IoU is above the threshold.

    The rule of VisionReasoner's evaluation (arXiv 2505.12081), without its second chance: it counts the box around all
    predicted boxes as well.

    Args:
        predicted_xyxy: `(N, 4)` boxes, any unit.
        target_xyxy: `(M, 4)` boxes, the same unit.
        iou_threshold: The IoU to exceed, 0..1.

    Returns:
        Whether any of the predicted boxes finds any of the target's; without a target, whether none is predicted.
    """
    predicted, target = (np.asarray(boxes, dtype=np.float64).reshape(-1, 4) for boxes in (predicted_xyxy, target_xyxy))
    if len(target) == 0:
        return len(predicted) == 0
    return bool((box_iou(predicted, target) > iou_threshold).any())


@dataclass(frozen=True, eq=False)
class Detections:
    """What is to be found in an image of one category, and what was.

    Attributes:
        image_id: The image; several entries may be about one.
        category_id: The category.
        size_wh: Width and height of the image in pixels.
        target_xyxy: `(M, 4)` boxes in pixels.
        predicted_xyxy: `(N, 4)` boxes in pixels.
        crowd_xyxy: `(K, 4)` boxes in pixels of regions where what is found counts on neither side.
    """

    image_id: int
    category_id: int
    size_wh: tuple[int, int]
    target_xyxy: np.ndarray
    predicted_xyxy: np.ndarray
    crowd_xyxy: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))


def average_precision(found: Sequence[Detections]) -> dict[str, float]:
    """Return COCO's average precision, by pycocotools.

    A language model gives no confidences. As in VisionReasoner's evaluation a box's score is its share of the image's
    area. A box that finds no target and lies in a crowd by at least the threshold's share of its own area is neither
    right nor wrong, and so is a crowd in which nothing is found. Images and categories that are not in `found` do not
    count.

    Args:
        found: At least one image and category, each pair once.

    Returns:
        `ap` (mean over IoU 0.5..0.95), `ap50` and `ap75`, 0..1.

    Raises:
        ValueError: There is nothing to find in any image, or a pair of image and category is there twice.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    if not any(len(entry.target_xyxy) for entry in found):
        raise invalid("average precision", len(found), "needs an image with something to find", "check data and split")
    pairs = {(entry.image_id, entry.category_id) for entry in found}
    if len(pairs) < len(found):
        rule = f"must hold each pair of image and category once, but has {len(pairs)} pairs"
        raise invalid("average precision", f"{len(found)} entries", rule, "join what is of one pair")
    images = {entry.image_id: entry.size_wh for entry in found}
    targets = COCO()
    predictions = [row for entry in found for row in _predictions(entry)]
    # The library prints its progress.
    with contextlib.redirect_stdout(io.StringIO()):
        targets.dataset = {
            "info": {},
            "images": [{"id": key, "width": size[0], "height": size[1]} for key, size in images.items()],
            "categories": [{"id": key} for key in sorted({entry.category_id for entry in found})],
            "annotations": [
                # 0 is no id: the library takes a match with it for none.
                {**row, "id": number}
                for number, row in enumerate((row for entry in found for row in _targets(entry)), start=1)
            ],
        }
        targets.createIndex()
        if not predictions:
            return {"ap": 0.0, "ap50": 0.0, "ap75": 0.0}
        evaluation = COCOeval(targets, targets.loadRes(predictions), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(evaluation.stats[place]) for place, name in enumerate(("ap", "ap50", "ap75"))}


def _targets(entry: Detections) -> list[dict[str, object]]:
    return [
        {**_row(entry, box), "iscrowd": crowd}
        for crowd, boxes_xyxy in enumerate((entry.target_xyxy, entry.crowd_xyxy))
        for box in np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    ]


def _predictions(entry: Detections) -> list[dict[str, object]]:
    width, height = entry.size_wh
    boxes = np.asarray(entry.predicted_xyxy, dtype=np.float64).reshape(-1, 4)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    scores = (area / (width * height)).tolist()
    return [{**_row(entry, box), "score": score} for box, score in zip(boxes, scores, strict=True)]


def _row(entry: Detections, box_xyxy: np.ndarray) -> dict[str, object]:
    left, top, right, bottom = box_xyxy.tolist()
    box_xywh = [left, top, right - left, bottom - top]
    area = (right - left) * (bottom - top)
    return {"image_id": entry.image_id, "category_id": entry.category_id, "bbox": box_xywh, "area": area}
