"""What a set knows of the right answer beside a mask: boxes, a number of objects, how its mask is to be read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from verl_socio.errors import invalid

Box = tuple[float, float, float, float]
Point = tuple[float, float]


@dataclass(frozen=True)
class Truth:
    """What is known of an answer beside its mask. Everything may be unknown.

    Attributes:
        boxes_xyxy: The objects' boxes in the image's own pixels; None where they are not known, () where there is none.
        crowd_xyxy: Boxes of regions with more of these objects than anyone told apart (COCO's `iscrowd`): what is found
            there is neither right nor wrong. None where no such regions are known.
        points_xy: Points on each of these objects, as many for each, in the image's own pixels.
        count: How many objects there are, 0 or more.
        image_id: The image's id in its set, where several samples ask about one image.
        category_id: The id of what is asked for in its set.
        size_wh: Width and height of the image that boxes and count were made for, in pixels.
        ignore_label: The mask's value that counts on neither side (255 in LISA's data); None where all above 0 is the
            target, SocioSeg's 255 among them.
        mask_channel: The channel of a colour mask that holds the labels; None takes the largest.
        may_be_empty: Whether a mask without a target pixel is right: nothing of what is asked for is there.
    """

    boxes_xyxy: tuple[Box, ...] | None = None
    crowd_xyxy: tuple[Box, ...] | None = None
    points_xy: tuple[tuple[Point, ...], ...] | None = None
    count: int | None = None
    image_id: int | None = None
    category_id: int | None = None
    size_wh: tuple[int, int] | None = None
    ignore_label: int | None = None
    mask_channel: int | None = None
    may_be_empty: bool = False

    def to_text(self) -> str | None:
        """What is known as one line of JSON; None where nothing is."""
        # A count of 0 and a channel 0 are known, and equal to False.
        known = {name: value for name, value in asdict(self).items() if value is not None and value is not False}
        return json.dumps(known) if known else None

    @classmethod
    def from_text(cls, text: str | None) -> Truth:
        """Read what `to_text` wrote.

        Raises:
            ValueError: It is something else.
        """
        if text is None:
            return cls()
        try:
            values: Any = json.loads(text)
            return cls.from_values(values)
        except (TypeError, ValueError, RecursionError, OverflowError) as error:
            rule = f"must be what is known of an answer, as JSON ({type(error).__name__}: {error})"
            raise invalid("truth", text, rule, "write the row with Sample.to_row, or leave the column out") from error

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Truth:
        """Build it from plain values: lists for tuples, keys that are not known left out.

        Raises:
            ValueError: A value is not of its kind; the message is the rule broken.
            TypeError: There is a key too many, or no mapping at all.
        """
        known = dict(values)
        for name in ("boxes_xyxy", "crowd_xyxy"):
            if known.get(name) is not None:
                known[name] = boxes_of(known[name])
        if known.get("points_xy") is not None:
            known["points_xy"] = _points_of(known["points_xy"], len(known.get("boxes_xyxy") or ()))
        for name in ("count", "image_id", "category_id", "ignore_label", "mask_channel"):
            known[name] = None if known.get(name) is None else whole_number(name, known[name])
        if known.get("size_wh") is not None:
            width, height = known["size_wh"]
            known["size_wh"] = (whole_number("size_wh", width), whole_number("size_wh", height))
        known["may_be_empty"] = bool(known.get("may_be_empty", False))
        return cls(**known)


UNKNOWN = Truth()
"""What is known of most samples: nothing beside their masks."""


def boxes_of(values: Any) -> tuple[Box, ...]:
    """Read boxes: a list of `[x1, y1, x2, y2]`, or one of them without the list around it.

    Raises:
        ValueError: There is something else; the message is the rule broken.
    """
    if not isinstance(values, list | tuple):
        raise ValueError(f"must hold boxes [x1, y1, x2, y2], not {_short(values)}")
    listed = [values] if len(values) == 4 and all(isinstance(value, int | float) for value in values) else values
    return tuple(_box(box) for box in listed)


def _points_of(values: Any, objects: int) -> tuple[tuple[Point, ...], ...]:
    listed = isinstance(values, list | tuple) and all(isinstance(points, list | tuple) for points in values)
    if not listed or len(values) != objects or not values or {len(points) for points in values} != {len(values[0])}:
        raise ValueError(f"must hold as many points for each of its {objects} boxes, not {_short(values)}")
    return tuple(tuple(_point(point) for point in points) for points in values)


def _point(values: Any) -> Point:
    if not isinstance(values, list | tuple) or len(values) != 2 or not all(map(_is_finite, values)):
        raise ValueError(f"must hold points of two finite numbers, not {_short(values)}")
    return float(values[0]), float(values[1])


def _box(values: Any) -> Box:
    if not isinstance(values, list | tuple) or len(values) != 4 or not all(map(_is_finite, values)):
        raise ValueError(f"must hold boxes of four finite numbers, not {_short(values)}")
    left, top, right, bottom = (float(value) for value in values)
    if left > right or top > bottom:
        raise ValueError(f"must hold boxes [x1, y1, x2, y2] with x1 <= x2 and y1 <= y2, not {_short(values)}")
    return left, top, right, bottom


def _is_finite(value: Any) -> bool:
    # No image is a thousand million pixels wide; a whole number may be too large to be a float.
    return type(value) in (int, float) and -1e9 < value < 1e9


def whole_number(name: str, value: Any) -> int:
    """Read a whole number of 0 or more.

    Raises:
        ValueError: It is something else; the message is the rule broken.
    """
    number = int(value) if type(value) is float and value.is_integer() else value
    if type(number) is not int or number < 0:
        raise ValueError(f"must have a whole number of 0 or more as {name}, not {_short(value)}")
    return number


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
