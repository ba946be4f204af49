"""RRSIS-D: phrases about satellite images, in the layout of the REFER sets (RMSIN, arXiv 2312.12470).

`rrsisd/refs(unc).p` (a pickled list: what is asked of which annotation, and in which split), `rrsisd/instances.json`
(COCO's annotations, masks as polygons or RLE) and `images/rrsisd/JPEGImages/<file>`.
"""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from verl_socio.data import coco, tables
from verl_socio.data.formats import Choice, Format, folder_of
from verl_socio.data.plain_pickle import load_plain
from verl_socio.data.problem import Problem
from verl_socio.data.sample import ImageRef, Sample

REFS, INSTANCES, IMAGES = "rrsisd/refs(unc).p", "rrsisd/instances.json", "images/rrsisd/JPEGImages"
_LAYOUT = f"{REFS}, {INSTANCES} and {IMAGES}/*"
_FIX = "copy the set's file again, or leave the entry out"


def _recognises(source: str) -> bool:
    folder = Path(source)
    return (folder / REFS).is_file() or (folder / INSTANCES).is_file()


def _splits(source: str) -> list[str]:
    return sorted({str(ref["split"]) for ref in _refs(_whole(source)) if isinstance(ref, dict) and ref.get("split")})


def _entries(source: str, split: str, choice: Choice) -> Iterator[Sample | Problem]:
    folder = _whole(source)
    instances = coco.open_instances(str(folder / INSTANCES))
    times: Counter[str] = Counter()
    for number, ref in enumerate(_refs(folder)):
        place = f"{folder / REFS} entry {number}"
        if not isinstance(ref, dict) or type(ref.get("ref_id")) is not int or not isinstance(ref.get("split"), str):
            yield Problem("", place, "must be a mapping with a whole number ref_id and a text split", _FIX)
        elif ref["split"] == split:
            times[ref["ref_id"]] += 1
            if times[ref["ref_id"]] > 1:
                yield Problem(str(ref["ref_id"]), place, "must have a ref_id of its own", _FIX)
            else:
                yield from _asked(folder, instances, ref, place)


def _asked(folder: Path, instances: dict[str, Any], ref: dict[str, Any], place: str) -> Iterator[Sample | Problem]:
    """A sample for each sentence of an entry; the set has one each."""
    name, annotation = str(ref["ref_id"]), ref.get("ann_id", -1)
    found = instances["annotations"].get(annotation) if type(annotation) is int else None
    image = None if found is None else instances["images"].get(found.get("image_id"))
    file_name = None if image is None else image.get("file_name")
    if not isinstance(file_name, str) or Path(file_name).name != file_name:
        rule = f"must have an annotation of {INSTANCES} with an image's file name, but {annotation!r} has none"
        yield Problem(name, place, rule, _FIX)
        return
    picture = folder / IMAGES / file_name
    if not os.path.isfile(picture):
        yield Problem(name, str(picture), "must exist", "add the image, or leave the entry out")
        return
    sentences = _sentences(ref)
    if not sentences:
        yield Problem(name, place, "must have sentences with text", _FIX)
    target = ImageRef(coco.mask_uri(folder / INSTANCES, annotation))
    for number, sentence in enumerate(sentences, start=1):
        sample_id = name if number == 1 else f"{name}-{number}"
        yield Sample(sample_id, sentence, ImageRef(str(picture)), None, target, None)


def _sentences(ref: dict[str, Any]) -> list[str]:
    listed = ref.get("sentences")
    mappings = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    texts = [entry.get("sent") or entry.get("raw") for entry in mappings]
    return [text.strip() for text in texts if isinstance(text, str) and text.strip()]


def _whole(source: str) -> Path:
    return folder_of(str(tables.downloaded(source)), [REFS, INSTANCES, IMAGES], _LAYOUT)


def _refs(folder: Path) -> list[Any]:
    file = folder / REFS
    return _read_refs(str(file), file.stat().st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _read_refs(file: str, changed: int) -> list[Any]:
    return load_plain(Path(file))


FORMAT = Format(_recognises, _splits, _entries)
