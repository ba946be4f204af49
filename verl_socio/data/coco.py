"""A COCO file of annotations (`instances.json`): masks by the annotation's id, decoded where they are used; boxes."""

from __future__ import annotations

import functools
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from verl_socio.data.truth import Box, boxes_of, whole_number
from verl_socio.errors import invalid

COCO = "coco:"

# A polygon's corner may lie off the image, but drawing one costs memory by its length.
_FAR = 4


def mask_uri(file: Path, annotation: int) -> str:
    """The reference of one annotation's mask."""
    return f"{COCO}{file}#{annotation}"


@functools.lru_cache(maxsize=4)
def open_instances(file: str) -> dict[str, dict[int, dict[str, Any]]]:
    """Read a COCO file of annotations once a process.

    Args:
        file: Absolute path.

    Returns:
        Its images and annotations, each by id.

    Raises:
        ValueError: There is no such file, it is no COCO file, or two entries have one id.
    """
    try:
        content = json.loads(Path(file).read_bytes())
        return {part: _by_id(file, part, content[part]) for part in ("images", "annotations")}
    except OSError as error:
        raise _broken(file, f"must be a readable file ({error.strerror})", "put the set's file there") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError, AttributeError) as error:
        rule = f"must hold COCO's lists images and annotations ({type(error).__name__}: {error})"
        raise _broken(file, rule, "copy the set's file again") from error


def _by_id(file: str, part: str, entries: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for entry in entries:
        if entry["id"] in found:
            rule = f"must give each of its {part} an id of its own, but two have {entry['id']!r}"
            raise _broken(file, rule, "remove one of the two")
        found[entry["id"]] = entry
    return found


@functools.lru_cache(maxsize=2)
def boxes_by_pair(file: str) -> dict[tuple[int, int], tuple[tuple[Box, ...], tuple[Box, ...]]]:
    """The boxes of a file of annotations.

    Args:
        file: Absolute path.

    Returns:
        By image and category: the objects' boxes (x1, y1, x2, y2) in pixels, and those of crowds.

    Raises:
        ValueError: As for `open_instances`, or an annotation has no box, image or category.
    """
    found: dict[tuple[int, int], tuple[list[Box], list[Box]]] = {}
    for name, entry in open_instances(file)["annotations"].items():
        try:
            left, top, width, height = entry["bbox"]
            [box] = boxes_of([[left, top, left + width, top + height]])
            pair = tuple(whole_number(key, entry[key]) for key in ("image_id", "category_id"))
            is_crowd = whole_number("iscrowd", entry["iscrowd"])
            found.setdefault((pair[0], pair[1]), ([], []))[is_crowd].append(box)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            rule = f"must have bbox (x, y, width, height), image_id, category_id and iscrowd ({_told(error)})"
            raise _broken(f"{file} annotation {name}", rule, "copy the set's file again") from error
    return {pair: (tuple(objects), tuple(crowds)) for pair, (objects, crowds) in found.items()}


def mask_source(uri: str) -> io.BytesIO:
    """The mask of an annotation as a PNG of 0 and 1.

    Raises:
        ValueError: The reference is malformed, the annotation is not there, or its mask cannot be drawn.
    """
    file, _, name = uri.removeprefix(COCO).rpartition("#")
    if not file or not name.isdecimal():
        raise invalid("image", uri, "must read coco:FILE#ANNOTATION", "load the samples again")
    instances = open_instances(file)
    annotation = instances["annotations"].get(int(name))
    image = None if annotation is None else instances["images"].get(annotation.get("image_id", -1))
    if annotation is None or image is None:
        raise invalid("image", uri, "must be an annotation with its image in the file", "load the samples again")
    try:
        mask_hw = decode(annotation.get("segmentation"), (image["width"], image["height"]))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        rule = f"must have polygons or RLE of its image's size ({type(error).__name__}: {error})"
        raise invalid("image", uri, rule, "copy the set's file again, or leave the sample out") from error
    return png_of(mask_hw)


def png_of(mask_hw: np.ndarray) -> io.BytesIO:
    """A mask as a PNG file: bool (H, W) as 0 and 1, which no set ignores; uint8 as it is."""
    written = io.BytesIO()
    # Read back once and thrown away: size does not matter.
    Image.fromarray(mask_hw.astype(np.uint8)).save(written, format="PNG", compress_level=1)
    written.seek(0)
    return written


def decode(segmentation: Any, size_wh: tuple[int, int]) -> np.ndarray:
    """Draw a COCO segmentation: polygons, an RLE (its counts as text or as a list), or a list of RLE.

    Args:
        segmentation: The annotation's `segmentation`.
        size_wh: Width and height of its image in pixels.

    Returns:
        bool (H, W): the union of the parts.

    Raises:
        ValueError: It is malformed, or of another size.
        TypeError: Likewise.
    """
    from pycocotools import mask as library

    width, height = size_wh
    limit = Image.MAX_IMAGE_PIXELS
    if not (isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0):
        raise ValueError(f"the image must have a width and a height above 0, not {size_wh}")
    if limit is not None and width * height > limit:
        raise ValueError(f"{width}x{height} px is above the limit of {limit} px")
    parts = [segmentation] if isinstance(segmentation, dict) else segmentation
    if not isinstance(parts, list) or not parts:
        raise ValueError("there is no segmentation")
    encoded = [_run_lengths(part, width, height) for part in parts]
    return np.asarray(library.decode(encoded).any(axis=-1))


def _run_lengths(part: Any, width: int, height: int) -> Any:
    from pycocotools import mask as library

    if isinstance(part, list):
        far = _FAR * max(width, height)
        if len(part) < 6 or len(part) % 2 or not all(_is_within(value, far) for value in part):
            raise ValueError("a polygon must have three or more corners x, y near the image")
        return library.frPyObjects([part], height, width)[0]
    if part["size"] != [height, width]:
        raise ValueError(f"an RLE of size {part['size']} lies on an image of {[height, width]}")
    counts = part["counts"]
    if isinstance(counts, list):
        if not all(type(count) is int and count >= 0 for count in counts) or sum(counts) != height * width:
            raise ValueError("an RLE's counts must add up to its size")
        return library.frPyObjects(part, height, width)
    if not isinstance(counts, str):
        raise ValueError("an RLE's counts must be text or a list")
    if sum(_counts_of(counts)) != height * width:
        raise ValueError("an RLE's counts must add up to its size")
    return {"size": [height, width], "counts": counts.encode("ascii")}


def _counts_of(text: str) -> list[int]:
    """Read the run lengths of COCO's compressed text; its own decoder trusts them with memory that is not its own.

    Six bits a letter from "0" on: five of the number, lowest first, and one that says that more follow; from the fourth
    number on, the difference to the last but one is written.
    """
    counts: list[int] = []
    at = 0
    while at < len(text):
        value = shift = 0
        more = True
        while more:
            if at == len(text) or shift > 35:
                raise ValueError("an RLE's counts must be whole")
            bits = ord(text[at]) - 48
            if not 0 <= bits < 64:
                raise ValueError("an RLE's counts must be of the letters 0 to o")
            value |= (bits & 31) << shift
            shift += 5
            more = bool(bits & 32)
            at += 1
            if not more and bits & 16:
                value -= 1 << shift
        if len(counts) > 2:
            value += counts[-2]
        if value < 0:
            raise ValueError("an RLE's counts must be 0 or more")
        counts.append(value)
    return counts


def _is_within(value: Any, far: int) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) <= far


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _broken(file: str, rule: str, fix: str) -> ValueError:
    return invalid("annotations", file, rule, fix)
