"""A contact sheet of a data set: satellite, map and target of some samples, for a person to look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from verl_socio import render
from verl_socio.data.readers import load_samples
from verl_socio.data.sample import Sample
from verl_socio.errors import invalid

_COLUMNS = 6


def preview(source: str, split: str | None, path: Path, samples: int = 12) -> int:
    """Write a contact sheet.

    Args:
        source: As for `load_samples`.
        split: As for `load_samples`.
        path: The picture to write, which must not exist yet; its suffix says the format.
        samples: How many samples to show at most, 1 or more; taken evenly from the split.

    Returns:
        How many samples are shown.

    Raises:
        ValueError: The source, the split or an image cannot be read, or the picture exists.
    """
    if samples < 1:
        raise invalid("samples", samples, "must be 1 or more", "ask for at least one")
    if path.exists():
        raise invalid("output file", str(path), "must not exist yet", "name another file, or remove this one")
    # Some formats can only be read.
    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
        raise invalid("output file", str(path), "must end as a picture does", "call it something.png")
    found = load_samples(source, split)
    chosen = [found[index] for index in np.linspace(0, len(found) - 1, min(samples, len(found))).round().astype(int)]
    tiles = [tile for sample in chosen for tile in sample_tiles(sample)]
    path.parent.mkdir(parents=True, exist_ok=True)
    render.panel(tiles, columns=_COLUMNS).save(path)
    return len(chosen)


def sample_tiles(sample: Sample) -> list[tuple[str, Image.Image]]:
    """Three captioned pictures of a sample: its satellite with the target outlined, its map, its satellite as it is.

    Raises:
        ValueError: An image cannot be read.
    """
    satellite = sample.satellite.open()
    outlined = satellite if sample.target is None else _outlined(satellite, sample.target_mask())
    blank = Image.new("RGB", satellite.size, "white")
    return [
        (sample.question if sample.level is None else f"{sample.question} ({sample.level})", outlined),
        (sample.id, blank if sample.map is None else sample.map.open()),
        ("satellite", satellite),
    ]


def _outlined(image: Image.Image, mask_hw: np.ndarray) -> Image.Image:
    """The image with a line around the mask, white within black, so that it shows on any ground."""
    width = max(1, round(min(image.size) / 240))
    pixels = np.array(image)
    inner_hw = mask_hw & ~ndimage.binary_erosion(mask_hw, iterations=width, border_value=0)
    outer_hw = ndimage.binary_dilation(mask_hw, iterations=width) & ~mask_hw
    pixels[inner_hw] = 255
    pixels[outer_hw] = 0
    return Image.fromarray(pixels)
