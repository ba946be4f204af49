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
STYLES: dict[str, tuple[Callable[[Path], bool], Callable[[Path, str, Path, str | None], Iterator[Scene]]]] = {
    "refcocog": (refcocog.recognises, refcocog.scenes),
    "lisa": (lisa.recognises, lisa.scenes),
}
_JOINED_BY = " and "
_POINTS = 2


def convert(
    source: Path,
    out: Path,
    *,
    split: str = "train",
    style: str = AUTO,
    images: Path | None = None,
    refs: str | None = None,
    join: int = 1,
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
        refs: The name of the refs file where a RefCOCOg-style folder holds several; None: the only one.
        join: Up to so many texts of a picture become one question, as in VisionReasoner's data. Texts that mean the
            same object are never joined, so a LISA-style set always has a question a text.

    Returns:
        How many rows were written.

    Raises:
        ValueError: The source is of no known style, an entry is broken, a picture or the choice of a refs file is
            missing, an object has no pixel, or `out` is not empty.
    """
    if join < 1:
        raise invalid("join", join, "must be 1 or more", "use 1 for a question a text")
    read = STYLES[_style(source, style)][1]
    pictures = images if images is not None else source / "images"
    with new_folder(out) as folder:
        (folder / "masks").mkdir()
        samples = [
            _sample(scene, joined, folder, out)
            for scene in read(source, split, pictures, refs)
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
    """Neighbours in the list of a picture's texts, up to `join` of them as one."""
    group: list[Described] = []
    for described in scene.described:
        # An object asked for twice would be two boxes of the truth, which no right answer meets.
        if len(group) == join or any(_share_an_object(described, other) for other in group):
            yield _as_one(group)
            group = []
        group.append(described)
    yield _as_one(group)


def _share_an_object(first: Described, second: Described) -> bool:
    return any(np.array_equal(one_hw, other_hw) for one_hw in first.masks_hw for other_hw in second.masks_hw)


def _as_one(group: list[Described]) -> Described:
    texts = list(dict.fromkeys(described.text for described in group))
    masks = tuple(mask_hw for described in group for mask_hw in described.masks_hw)
    return Described("+".join(described.id for described in group), _JOINED_BY.join(texts), masks)


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
