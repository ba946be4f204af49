"""LISA-style annotations (ReasonSeg, arXiv 2308.00692): `<name>.json` with polygons and texts beside `<name>.jpg`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from verl_socio.data.convert.scene import IGNORED, Described, Scene
from verl_socio.data.sample import ImageRef
from verl_socio.errors import invalid
from verl_socio.geometry import mask_instances

_PICTURES = (".jpg", ".jpeg", ".png")
_FIX = "copy the file again, or take it out"
_MAX_BYTES = 1 << 24


def recognises(source: Path) -> bool:
    """Whether the folder, or a split of it, holds a picture with a JSON file of the same name."""
    folders = [source, *(child for child in sorted(source.iterdir()) if child.is_dir())] if source.is_dir() else []
    return any(picture is not None for folder in folders for picture in _annotated(folder).values())


def scenes(source: Path, split: str, images: Path, refs: str | None) -> Iterator[Scene]:
    """Go through a split in order of file name.

    Args:
        source: A folder `<split>/`, or one split itself.
        split: The split's folder.
        images: Unused: the pictures lie beside their annotations.
        refs: Must be None: there are no refs files.

    Yields:
        Pictures; each text of a file means all its targets together, an object a connected region.

    Raises:
        ValueError: A file cannot be read or has no picture beside it, there is none, or a refs file was named.
    """
    if refs is not None:
        raise invalid("refs", refs, "must be left out for LISA-style annotations", "leave out --refs")
    folder = source / split if (source / split).is_dir() else source
    annotated = _annotated(folder)
    if not annotated:
        rule = "must hold pictures with a JSON file of the same name each"
        raise invalid("data", str(folder), rule, "point to the folder that holds the splits")
    alone = [file.name for file, picture in annotated.items() if picture is None]
    if alone:
        rule = f"must each have a picture of the same name beside them ({', '.join(_PICTURES)})"
        raise invalid(f"JSON files of {folder}", alone, rule, "put the pictures there, or take the files out")
    for file, picture in annotated.items():
        assert picture is not None, "looked for above"
        yield _scene(file, picture)


def _scene(file: Path, picture: Path) -> Scene:
    content = _read(file)
    labels_hw = _drawn(file, content.get("shapes"), ImageRef(str(picture)).size_wh)
    texts = content.get("text")
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise invalid(str(file), texts, 'must have text, or a list of it, under "text"', _FIX)
    objects = tuple(mask_instances(labels_hw == 1))
    ids = [file.stem if number == 0 else f"{file.stem}-{number + 1}" for number in range(len(texts))]
    described = tuple(Described(name, text.strip(), objects) for name, text in zip(ids, texts, strict=True))
    ignored_hw = labels_hw == IGNORED
    return Scene(picture, described, ignored_hw if ignored_hw.any() else None)


def _drawn(file: Path, shapes: Any, size_wh: tuple[int, int]) -> np.ndarray:
    """uint8 (H, W): 1 on the target, 255 on what is to be ignored; larger shapes first, so that smaller ones stay."""
    if not isinstance(shapes, list):
        raise invalid(str(file), shapes, 'must have a list under "shapes"', _FIX)
    polygons = []
    for shape in shapes:
        label = shape.get("label") if isinstance(shape, dict) else None
        if not isinstance(label, str):
            raise invalid(str(file), shape, "must have shapes with a label", _FIX)
        points = shape.get("points")
        if not isinstance(points, list) or len(points) < 3:
            raise invalid(f"shape {label} of {file}", points, "must have a list of three or more points", _FIX)
        corners = [_corner(file, point) for point in points]
        value = IGNORED if "ignore" in label.lower() else int("target" in label.lower())
        polygons.append((_area(corners), corners, value))
    image = Image.new("L", size_wh)
    draw = ImageDraw.Draw(image)
    for _, corners, value in sorted(polygons, key=lambda polygon: -polygon[0]):
        draw.polygon(corners, fill=value)
    return np.asarray(image)


def _corner(file: Path, point: Any) -> tuple[float, float]:
    usable = isinstance(point, list) and len(point) == 2 and all(type(value) in (int, float) for value in point)
    if not usable or not all(abs(value) < 1e6 for value in point):
        raise invalid(str(file), point, "must have points of two finite numbers", _FIX)
    return float(point[0]), float(point[1])


def _area(corners: list[tuple[float, float]]) -> float:
    after = [*corners[1:], corners[0]]
    return abs(sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in zip(corners, after, strict=True))) / 2


def _annotated(folder: Path) -> dict[Path, Path | None]:
    """The folder's JSON files in order of name, each with the picture beside it: of several the first suffix's."""
    files = [path for path in sorted(folder.glob("*")) if path.is_file()]
    pictures = {path.stem: path for suffix in reversed(_PICTURES) for path in files if path.suffix.lower() == suffix}
    return {path: pictures.get(path.stem) for path in files if path.suffix.lower() == ".json"}


def _read(file: Path) -> dict[str, Any]:
    content = file.read_bytes()
    if len(content) > _MAX_BYTES:
        raise invalid(str(file), len(content), f"must be at most {_MAX_BYTES} bytes", _FIX)
    try:
        # Some files of ReasonSeg are not in UTF-8.
        read = json.loads(content.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise invalid(str(file), content[:80], f"must be JSON ({error})", _FIX) from error
    if not isinstance(read, dict):
        raise invalid(str(file), content[:80], "must be a JSON object", _FIX)
    return read
