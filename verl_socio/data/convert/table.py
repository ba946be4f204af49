"""Write a training table: pictures where they lie, masks beside the table, boxes and points of every object."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from verl_socio.data.convert import lisa, refcocog
from verl_socio.data.convert.scene import IGNORED, Described, Scene
from verl_socio.data.levels import level_of
from verl_socio.data.sample import ImageRef, Sample
from verl_socio.data.truth import Truth
from verl_socio.data.write import new_folder, write_parquet
from verl_socio.errors import invalid
from verl_socio.geometry import inscribed_centers, mask_boxes

AUTO = "auto"
STYLES: dict[str, tuple[Callable[[Path], bool], Callable[[Path, str, Path], Iterator[Scene]]]] = {
    "refcocog": (refcocog.recognises, refcocog.scenes),
    "lisa": (lisa.recognises, lisa.scenes),
}
_JOINED_BY = " and "
_POINTS = 2


def convert(
    source: Path, out: Path, *, split: str = "train", style: str = AUTO, images: Path | None = None, join: int = 1
) -> int:
    """Convert one split.

    What is written: `<out>/<split>.parquet`, a table that `load_samples` reads, and `<out>/masks/<id>.png` (1 on the
    target, 255 on what counts on neither side). A row's `truth` has a box for each object and the centres of its two
    largest inscribed circles; the first of them is its centre point. Pictures are not copied.

    Args:
        source: The annotations' folder.
        out: The folder to make.
        split: The split.
        style: A name of `STYLES`, or "auto" to look at what is there.
        images: The pictures' folder where they lie elsewhere; None: `<source>/images`, or beside the annotations.
        join: Up to so many objects of a picture are asked for in one question, as VisionReasoner's data do.

    Returns:
        How many rows were written.

    Raises:
        ValueError: The source is of no known style, an entry is broken, an object has no pixel, or `out` is not empty.
    """
    if join < 1:
        raise invalid("join", join, "must be 1 or more", "use 1 for a question an object")
    read = STYLES[_style(source, style)][1]
    pictures = images if images is not None else source / "images"
    with new_folder(out) as folder:
        (folder / "masks").mkdir()
        samples = [
            _sample(scene, joined, folder, out)
            for scene in read(source, split, pictures)
            for joined in _joined(scene, join)
        ]
        write_parquet(samples, folder / f"{split}.parquet")
    return len(samples)


def _style(source: Path, style: str) -> str:
    if style != AUTO:
        if style not in STYLES:
            raise invalid("style", style, f"must be {AUTO} or one of {', '.join(STYLES)}", "use one of them")
        return style
    for name, (recognises, _) in STYLES.items():
        if recognises(source):
            return name
    rule = "must hold refs*.p and instances.json (refcocog), or pictures with a JSON file each (lisa)"
    raise invalid("data", str(source), rule, "point to the folder of the annotations, or name the style")


def _joined(scene: Scene, join: int) -> Iterator[Described]:
    """Neighbours in the list of a picture's objects, up to `join` of them as one."""
    for start in range(0, len(scene.described), join):
        group = scene.described[start : start + join]
        texts = list(dict.fromkeys(described.text for described in group))
        masks = tuple(mask_hw for described in group for mask_hw in described.masks_hw)
        yield Described("+".join(described.id for described in group), _JOINED_BY.join(texts), masks)


def _sample(scene: Scene, asked: Described, folder: Path, out: Path) -> Sample:
    if not all(mask_hw.any() for mask_hw in asked.masks_hw) or not asked.masks_hw:
        raise invalid(f"object {asked.id}", asked.text, "must have a pixel", "draw it, or take the entry out")
    labels_hw = np.any(asked.masks_hw, axis=0).astype(np.uint8)
    if scene.ignored_hw is not None:
        labels_hw[scene.ignored_hw & (labels_hw == 0)] = IGNORED
    name = f"masks/{re.sub(r'[^A-Za-z0-9+._-]', '_', asked.id)[:120]}.png"
    if (folder / name).exists():
        raise invalid("id", asked.id, "must be unlike all others", "give every entry an id of its own")
    Image.fromarray(labels_hw).save(folder / name)
    boxes = [mask_boxes(mask_hw, min_area=0) for mask_hw in asked.masks_hw]
    # An object in several parts has one box around them.
    around = [(*found[:, :2].min(axis=0).tolist(), *found[:, 2:].max(axis=0).tolist()) for found in boxes]
    points = [inscribed_centers(mask_hw, _POINTS).tolist() for mask_hw in asked.masks_hw]
    truth = Truth.from_values(
        {
            "boxes_xyxy": around,
            "points_xy": points,
            "ignore_label": None if scene.ignored_hw is None else IGNORED,
        }
    )
    picture, target = ImageRef(str(scene.image.absolute())), ImageRef(str(out.absolute() / name))
    return Sample(asked.id, asked.text, picture, None, target, level_of(asked.text), truth)
