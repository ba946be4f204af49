"""RefCOCOg-style annotations: `refs*.p` or `refs*.json` (who describes what) beside `instances.json` (COCO's masks)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from verl_socio.data import coco
from verl_socio.data.convert.scene import Described, Scene
from verl_socio.data.plain_pickle import load_plain
from verl_socio.errors import invalid

INSTANCES = "instances.json"
_FIX = "copy the set's file again, or take the entry out"


def recognises(source: Path) -> bool:
    """Whether the folder holds both files."""
    return (source / INSTANCES).is_file() and bool(_refs_files(source))


def scenes(source: Path, split: str, images: Path, refs: str | None) -> Iterator[Scene]:
    """Go through a split, a picture at a time, in order of the pictures' ids.

    Args:
        source: The folder with both files.
        split: As the refs name it: train, val, test.
        images: The folder with the pictures.
        refs: The name of the refs file; None: the only one.

    Yields:
        Pictures; of an object's sentences the first one describes it.

    Raises:
        ValueError: A file or picture is missing, `refs` is no refs file or is None where there are several, an entry is
            broken, or the split is empty.
    """
    file = _refs_file(source, refs)
    instances = coco.open_instances(str((source / INSTANCES).absolute()))
    of_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
    names: set[str] = set()
    for number, ref in enumerate(_read(file)):
        if not isinstance(ref, dict) or not isinstance(ref.get("split"), str):
            raise invalid(f"{file} entry {number}", ref, "must be a mapping with a split", _FIX)
        names.add(ref["split"])
        if ref["split"] == split:
            of_image[_annotation(instances, ref, file, number)["image_id"]].append(ref)
    if not of_image:
        raise invalid("split", split, f"must be one of {', '.join(sorted(names)) or 'none'}", "name one of them")
    for image_id, described_by in sorted(of_image.items()):
        entry = instances["images"].get(image_id, {})
        name = entry.get("file_name")
        if not isinstance(name, str) or not (images / Path(name).name).is_file():
            rule = f"must be a picture in {images}"
            raise invalid(f"image {image_id}", name, rule, "name the folder of the pictures with --images")
        size_wh: tuple[Any, Any] = (entry.get("width"), entry.get("height"))
        if not all(type(length) is int and length > 0 for length in size_wh):
            raise invalid(f"image {image_id} of {INSTANCES}", size_wh, "must have width and height in pixels", _FIX)
        described = tuple(_described(instances, ref, size_wh, file) for ref in described_by)
        yield Scene(images / Path(name).name, described)


def _described(instances: dict[str, Any], ref: dict[str, Any], size_wh: tuple[int, int], file: Path) -> Described:
    name = str(ref.get("ref_id"))
    listed = ref.get("sentences")
    entries = listed if isinstance(listed, list) else []
    texts = [entry.get("sent") or entry.get("raw") for entry in entries if isinstance(entry, dict)]
    text = next((text.strip() for text in texts if isinstance(text, str) and text.strip()), None)
    if text is None:
        raise invalid(f"ref {name} of {file}", listed, "must have a sentence", _FIX)
    try:
        mask_hw = coco.decode(instances["annotations"][ref["ann_id"]].get("segmentation"), size_wh)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        rule = f"must have polygons or RLE of its picture's size ({type(error).__name__}: {error})"
        raise invalid(f"annotation {ref['ann_id']}", None, rule, _FIX) from error
    return Described(name, text, (mask_hw,))


def _annotation(instances: dict[str, Any], ref: dict[str, Any], file: Path, number: int) -> dict[str, Any]:
    annotation = ref.get("ann_id")
    found = instances["annotations"].get(annotation) if type(annotation) is int else None
    if found is None or type(found.get("image_id")) is not int:
        raise invalid(f"{file} entry {number}", annotation, f"must name an annotation of {INSTANCES}", _FIX)
    return dict(found)


def _refs_files(source: Path) -> list[Path]:
    return sorted([*source.glob("refs*.p"), *source.glob("refs*.json")])


def _refs_file(source: Path, name: str | None) -> Path:
    """The named file, or the only one: RefCOCOg comes with two, each with splits of its own."""
    files = _refs_files(source)
    chosen = files if name is None else [file for file in files if file.name == name]
    if len(chosen) != 1:
        rule = f"must be one of the refs files in {source}: {', '.join(file.name for file in files) or 'none'}"
        raise invalid("refs", name, rule, "name one of them with --refs")
    return chosen[0]


def _read(file: Path) -> list[Any]:
    if file.suffix == ".p":
        return load_plain(file)
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise invalid("data", str(file), f"must be JSON ({error})", _FIX) from error
    if not isinstance(content, list):
        raise invalid("data", str(file), "must be a list of refs", _FIX)
    return content
