"""RefCOCO, RefCOCO+, RefCOCOg and ReasonSeg as tables with masks; the first three have a box as well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from verl_socio.data.sets.asked import MASK, Table, size_of
from verl_socio.data.truth import Truth, boxes_of

# LISA's label for pixels that count on neither side; a mask of truth values cannot hold it.
IGNORED = 255

_NAMES = (
    "refcoco_val", "refcoco_testA", "refcocoplus_val", "refcocoplus_testA", "refcocog_val", "refcocog_test",
    "ReasonSeg_val", "ReasonSeg_test",
)  # fmt: skip


def _truth(row: Mapping[str, Any]) -> Truth:
    boxes = None if row.get("bbox") is None else boxes_of(row["bbox"])
    return Truth(boxes_xyxy=boxes, size_wh=size_of(row), ignore_label=IGNORED, may_be_empty=True)


FORMAT = Table((MASK,), ("bbox",), tuple(f"Ricky06662/{name}" for name in _NAMES), _truth).format()
