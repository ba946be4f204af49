"""COCO val 2017 as a table: a row asks for all objects of one category in one image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from verl_socio.data.sets.asked import Table, number_of, size_of
from verl_socio.data.truth import Truth, boxes_of

_BOXES, _CATEGORY = "bbox", "cat_id"


def _truth(row: Mapping[str, Any]) -> Truth:
    image_id, category_id = number_of("image_id", row["image_id"]), number_of(_CATEGORY, row[_CATEGORY])
    if image_id is None or category_id is None:
        raise ValueError("must have whole numbers as image_id and cat_id")
    boxes = boxes_of(row[_BOXES])
    return Truth(boxes_xyxy=boxes, image_id=image_id, category_id=category_id, size_wh=size_of(row))


FORMAT = Table((_BOXES, _CATEGORY), (), ("Ricky06662/coco_val",), _truth, alone=("image_id", _CATEGORY)).format()
