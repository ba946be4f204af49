"""COCO val 2017 as a table: a row asks for all objects of one category in one image.

The table as it was released does not tell which of its boxes are crowds. COCO's own file does, and so may a column of
one's own, `iscrowd`: 0 or 1 for each box.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from verl_socio.data import coco
from verl_socio.data.sets.asked import Table, number_of, size_of
from verl_socio.data.truth import Truth, boxes_of

_BOXES, _CATEGORY, _CROWD = "bbox", "cat_id", "iscrowd"


def _truth(row: Mapping[str, Any]) -> Truth:
    image_id, category_id = number_of("image_id", row["image_id"]), number_of(_CATEGORY, row[_CATEGORY])
    if image_id is None or category_id is None:
        raise ValueError("must have whole numbers as image_id and cat_id")
    boxes, crowds = boxes_of(row[_BOXES]), None
    if row.get(_CROWD) is not None:
        flags = row[_CROWD] if isinstance(row[_CROWD], list | tuple) else [row[_CROWD]]
        if len(flags) != len(boxes) or any(flag not in (0, 1) for flag in flags):
            raise ValueError(f"must have an iscrowd of 0 or 1 for each of its {len(boxes)} boxes, not {flags!r}"[:200])
        crowds = tuple(box for box, flag in zip(boxes, flags, strict=True) if flag)
        boxes = tuple(box for box, flag in zip(boxes, flags, strict=True) if not flag)
    size_wh = size_of(row)
    return Truth(boxes_xyxy=boxes, crowd_xyxy=crowds, image_id=image_id, category_id=category_id, size_wh=size_wh)


def _told_by(annotations: str) -> Callable[[Truth], Truth]:
    """What COCO's own file says of a row's image and category."""
    file = str(Path(annotations).expanduser().absolute())
    images, known = coco.open_instances(file)["images"], coco.boxes_by_pair(file)

    def says(truth: Truth) -> Truth:
        assert truth.image_id is not None and truth.category_id is not None, "read from the row"
        image = images.get(truth.image_id)
        if image is None:
            raise ValueError(f"must be about an image of {file}, which has none with the id {truth.image_id}")
        size_wh = (image.get("width"), image.get("height"))
        if size_wh != truth.size_wh:
            raise ValueError(f"must have its image's width and height in {file}, {size_wh}, not {truth.size_wh}")
        boxes, crowds = known.get((truth.image_id, truth.category_id), ((), ()))
        if truth.boxes_xyxy and not boxes and not crowds:
            pair = f"image {truth.image_id} and category {truth.category_id}"
            raise ValueError(f"has boxes of {pair}, for which {file} has none: its cat_id must be COCO's own")
        return replace(truth, boxes_xyxy=boxes, crowd_xyxy=crowds)

    return says


FORMAT = Table(
    needed=(_BOXES, _CATEGORY),
    optional=(_CROWD,),
    known=("Ricky06662/coco_val",),
    truth=_truth,
    alone=("image_id", _CATEGORY),
    told_by=_told_by,
).format()
