"""The answer that a training set brings along: a box and points for each object, in the image's own pixels.

Three ways of writing it are read: VisionReasoner's, a JSON list of `{"bbox_2d": [x1, y1, x2, y2], "point_2d": [x, y]}`;
this project's, the same with `"points": [[x, y], ...]`; and Seg-Zero's, one object as
`<box>(x1,y1),(x2,y2)</box><points>(x,y),(x,y)</points>`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import numpy as np

from verl_socio.data.truth import Truth
from verl_socio.errors import invalid

_NUMBER = r"\s*(-?\d+(?:\.\d+)?)\s*"
_PAIR = rf"\({_NUMBER},{_NUMBER}\)"
_TAGGED = re.compile(rf"\s*<box>{_PAIR},{_PAIR}</box>\s*<points>{_PAIR},{_PAIR}</points>\s*")
_MAX_CHARS = 2**20
_FAR = 1e9
_FIX = 'write [{"bbox_2d": [x1, y1, x2, y2], "point_2d": [x, y]}] in pixels of the image'


def parse_solution(text: str) -> Truth:
    """Read a solution.

    Args:
        text: A cell of the column `solution`.

    Returns:
        Boxes, each with an area, and points of the objects in their order; an empty list has none.

    Raises:
        ValueError: It is written in none of the three ways, or a number is missing or not finite.
    """
    tagged = _TAGGED.fullmatch(text[:_MAX_CHARS])
    if tagged is not None:
        numbers = [float(number) for number in tagged.groups()]
        return _solution(text, [numbers[:4]], [[numbers[4:6], numbers[6:]]])
    try:
        items = json.loads(text[:_MAX_CHARS])
    except (ValueError, RecursionError) as error:
        raise invalid("solution", text, f"must be JSON ({error})", _FIX) from error
    items = [items] if isinstance(items, dict) else items
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise invalid("solution", text, "must be a list of objects", _FIX)
    return _solution(text, [item.get("bbox_2d", item.get("bbox")) for item in items], [_points(item) for item in items])


def describe_solution(boxes_xyxy: np.ndarray, points_xy: np.ndarray) -> str:
    """Write a solution as `parse_solution` reads it.

    Args:
        boxes_xyxy: `(K, 4)`.
        points_xy: `(K, P, 2)`.

    Returns:
        JSON text.
    """
    objects = zip(boxes_xyxy.tolist(), points_xy.tolist(), strict=True)
    return json.dumps([{"bbox_2d": box, "points": points} for box, points in objects])


def _points(item: dict[str, object]) -> object:
    if "point_2d" in item:
        return [item["point_2d"]]
    if "points_1" in item:
        return [item["points_1"], item.get("points_2")]
    return item.get("points") or None


def _solution(text: str, boxes: Sequence[object], points: Sequence[object]) -> Truth:
    if not boxes:
        return Truth(boxes_xyxy=())
    boxes_xyxy = _array(text, boxes, "a box x1 < x2, y1 < y2")
    if boxes_xyxy.shape != (len(boxes), 4) or not (boxes_xyxy[:, :2] < boxes_xyxy[:, 2:]).all():
        raise invalid("solution", text, "must have a box x1 < x2, y1 < y2 for every object", _FIX)
    found = Truth.from_values({"boxes_xyxy": boxes_xyxy.tolist()})
    if all(of_object is None for of_object in points):
        return found
    points_xy = _array(text, points, "as many points x, y")
    if points_xy.ndim != 3 or points_xy.shape[::2] != (len(boxes), 2):
        raise invalid("solution", text, "must have as many points x, y for every object", _FIX)
    return Truth.from_values({"boxes_xyxy": boxes_xyxy.tolist(), "points_xy": points_xy.tolist()})


def _array(text: str, values: Sequence[object], what: str) -> np.ndarray:
    try:
        array = np.array(values, dtype=np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise invalid("solution", text, f"must have {what} for every object", _FIX) from error
    if not (np.abs(array) < _FAR).all():
        raise invalid("solution", text, f"must hold finite numbers below {_FAR:g}", _FIX)
    return array
