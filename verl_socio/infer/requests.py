"""What is asked: one image, a folder of them, or a list in a JSONL file."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from verl_socio.data.levels import level_of
from verl_socio.data.sample import ImageRef, Sample
from verl_socio.errors import invalid

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
_KEYS = {"image", "map", "text"}
_LINE_FIX = 'write a line such as {"image": "a.png", "text": "school"}, with "map" where there is one'


@dataclass(frozen=True)
class Request:
    """One image and what is asked about it.

    Attributes:
        name: Of the files that are written; unique among the requests.
        sample: Image, map where there is one, and the text as its question.
    """

    name: str
    sample: Sample


def gather(image: str, text: str | None, map_image: str | None) -> list[Request]:
    """Find what is asked.

    Args:
        image: An image; a folder, of which every image is asked about; or a JSONL file with an object a line: `image`,
            `text` and, where there is one, `map`, paths relative to the file.
        text: What is asked; a line of a JSONL file may say otherwise.
        map_image: The map of the image; for a folder a folder with maps of the same names.

    Returns:
        At least one request, in order of name or line.

    Raises:
        ValueError: There is no such image, a line cannot be read, or nothing is asked.
    """
    # os.path's tests, unlike pathlib's, take any text for a path that is not there.
    if os.path.isdir(image):
        asked = list(_of_folder(Path(image), text, map_image))
    elif image.endswith(".jsonl") and os.path.isfile(image):
        if map_image is not None:
            raise invalid("map", map_image, "belongs to each line of a JSONL file", 'write "map" in its lines')
        asked = list(_of_lines(Path(image), text))
    else:
        asked = [_request(image, text, map_image)]
    if not asked:
        raise invalid("image", image, f"must hold an image ({', '.join(SUFFIXES)})", "give another folder or file")
    return _named_apart(asked)


def _of_folder(folder: Path, text: str | None, map_folder: str | None) -> Iterator[Request]:
    if map_folder is not None and not os.path.isdir(map_folder):
        raise invalid("map", map_folder, "must be a folder where image is one", "give the folder of the maps")
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES:
            yield _request(str(path), text, None if map_folder is None else str(Path(map_folder) / path.name))


def _of_lines(file: Path, text: str | None) -> Iterator[Request]:
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        field = f"line {number} of {file}"
        try:
            entry = json.loads(line.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise invalid(field, line[:80], f"must be JSON in UTF-8 ({error})", _LINE_FIX) from error
        known = isinstance(entry, dict) and "image" in entry and set(entry) <= _KEYS
        if not known or not all(isinstance(value, str) for value in entry.values()):
            raise invalid(field, entry, "must be an object with text under image, text and map", _LINE_FIX)
        map_image = str(file.parent / entry["map"]) if "map" in entry else None
        yield _request(str(file.parent / entry["image"]), entry.get("text", text), map_image, f"{field}, ")


def _request(image: str, text: str | None, map_image: str | None, where: str = "") -> Request:
    if text is None or not text.strip():
        raise invalid(f"{where}text", text, "must say what is asked", _LINE_FIX if where else 'give --text "school"')
    for key, path in (("image", image), ("map", map_image)):
        if path is not None and not os.path.isfile(path):
            raise invalid(f"{where}{key}", path, "must be an existing image file", "correct the path")
    name = re.sub(r"[^A-Za-z0-9._-]", "_", Path(image).stem)[:80] or "image"
    question = text.strip()
    map_ref = None if map_image is None else ImageRef(map_image)
    return Request(name, Sample(name, question, ImageRef(image), map_ref, None, level_of(question)))


def _named_apart(asked: list[Request]) -> list[Request]:
    """Give requests of one name a number, so that none writes over another's files."""
    counts = Counter(request.name.casefold() for request in asked)
    if max(counts.values()) == 1:
        return asked
    width = len(str(len(asked)))
    return [Request(f"{number:0{width}d}_{request.name}", request.sample) for number, request in enumerate(asked, 1)]
