"""A picture a sample: what was given, what each stage saw and found, what should have been found."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageDraw

from verl_socio.answer import Answer
from verl_socio.episode import Episode
from verl_socio.evaluate.rows import SampleRow
from verl_socio.recipes import Recipe
from verl_socio.render import draw_feedback, panel

SMALL = "small"
_COLUMNS = 4
_POINT_RGB = {1: (0, 255, 0), 0: (255, 255, 0)}
# A point's radius in parts of the image's shorter side.
_POINT = 1 / 100
_RIM_RGB = (255, 225, 0)
# A rim's thickness, likewise.
_RIM = 1 / 250


class Pictures:
    """Draws a picture of some of the samples, spread evenly over the set, and a small strip of each for the report.

    Args:
        folder: Where they go, the strips into `small/`; made when the first is drawn.
        samples: Size of the set.
        wanted: How many pictures.
        strip_px: Longer side of a strip's tiles in pixels; 0 for no strips.
    """

    def __init__(self, folder: Path, samples: int, wanted: int, strip_px: int = 0) -> None:
        self._folder = folder
        self._chosen = {number * samples // wanted for number in range(wanted)} if wanted else set()
        self._strip_px = strip_px

    def draw(self, index: int, episode: Episode, target_hw: np.ndarray | None, row: SampleRow, recipe: Recipe) -> None:
        """Draw a sample's strip, and its picture if it is one of the chosen.

        Args:
            index: The sample's place in the set.
            episode: What happened.
            target_hw: `(H, W)` bool, or None in sets that have no masks.
            row: Its scores.
            recipe: The method.
        """
        self.keep(index, self._drawn(index, episode, target_hw, row, recipe))

    def keep(self, index: int, files: Mapping[str, bytes]) -> None:
        """Write what was drawn of a sample.

        Args:
            index: The sample's place in the set.
            files: JPEG files by their names below the folder.
        """
        for name, content in files.items():
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def _drawn(
        self, index: int, episode: Episode, target_hw: np.ndarray | None, row: SampleRow, recipe: Recipe
    ) -> dict[str, bytes]:
        name = file_name(index, row.id)
        files: dict[str, bytes] = {}
        if index in self._chosen:
            written = io.BytesIO()
            picture(episode, target_hw, row, recipe).save(written, "JPEG", quality=90, subsampling=0)
            files[name] = written.getvalue()
        if self._strip_px:
            written = io.BytesIO()
            save_strip(_tiles(episode, target_hw, row, recipe), self._strip_px, written)
            files[f"{SMALL}/{name}"] = written.getvalue()
        return files


def file_name(index: int, sample_id: str) -> str:
    """A picture's file name: its number makes it unique, whatever the id holds."""
    return f"{index:05d}_{re.sub(r'[^A-Za-z0-9._-]', '_', sample_id)[:80]}.jpg"


def picture(episode: Episode, target_hw: np.ndarray | None, row: SampleRow, recipe: Recipe) -> Image.Image:
    """Set an episode's images side by side: inputs, each stage's feedback and mask, the target.

    Args:
        episode: What happened.
        target_hw: `(H, W)` bool, or None in sets that have no masks.
        row: Its scores.
        recipe: The method.

    Returns:
        An RGB image.
    """
    asked = f"{row.id}: {row.question}"
    inputs = len(episode.scene.images)
    tiles = _tiles(episode, target_hw, row, recipe)
    return panel([(f"{name} | {asked}", image) for name, image in tiles[:inputs]] + tiles[inputs:], _COLUMNS)


def save_strip(tiles: Sequence[tuple[str, Image.Image]], longest: int, file: Path | BinaryIO) -> None:
    """Save images of one size side by side in one small file; its JPEG comment names them, as a JSON list.

    Args:
        tiles: (name, image) pairs, at least one.
        longest: The longer side of a tile in pixels; images are not enlarged.
        file: Where to write it.
    """
    width, height = tiles[0][1].size
    scale = min(1.0, longest / max(width, height))
    size_wh = (max(1, round(scale * width)), max(1, round(scale * height)))
    sheet = Image.new("RGB", (size_wh[0] * len(tiles), size_wh[1]))
    for number, (_, image) in enumerate(tiles):
        sheet.paste(image.resize(size_wh, Image.Resampling.BICUBIC, reducing_gap=2.0), (number * size_wh[0], 0))
    # No names of samples or models in it: stages and images only, which fit into the 64 kB of a comment.
    sheet.save(file, "JPEG", quality=80, comment=json.dumps([name for name, _ in tiles]).encode())


def _tiles(
    episode: Episode, target_hw: np.ndarray | None, row: SampleRow, recipe: Recipe
) -> list[tuple[str, Image.Image]]:
    """The images of an episode with their names: inputs, each stage's feedback and mask, the target."""
    satellite = episode.scene.images["satellite"]
    tiles = sorted(episode.scene.images.items())
    for stage, result, kept in zip(recipe.stages, episode.stages, row.stages, strict=True):
        if stage.feedback:
            tiles += [(f"shown to {stage.name}", image) for image in result.turn.images]
        boxes = [prompt.box_xyxy for prompt in result.answer.prompts if prompt.box_xyxy is not None]
        drawn = draw_feedback(satellite, np.asarray(boxes).reshape(-1, 4), result.mask_hw, recipe.feedback)
        drawn = _outlined(drawn, result.mask_hw)
        draw_points(drawn, result.answer)
        found = f"{len(kept.prompts)} named" if kept.score is None else f"IoU {kept.score.iou:.2f}"
        state = kept.status if kept.status != "ok" else found
        tiles.append((f"{stage.name}: {state}", drawn))
    told = "target" if row.truth.count is None else f"target: {row.truth.count}"
    boxes_xyxy = np.asarray(row.truth.boxes_xyxy or (), dtype=np.float64).reshape(-1, 4)
    nothing_hw = np.zeros((satellite.height, satellite.width), dtype=bool)
    drawn_hw = nothing_hw if target_hw is None else target_hw
    target = draw_feedback(satellite, boxes_xyxy, drawn_hw, recipe.feedback)
    return [*tiles, (told, _outlined(target, drawn_hw))]


def _outlined(image: Image.Image, mask_hw: np.ndarray) -> Image.Image:
    """The image with a mask's rim in yellow: a red mask on a red roof is hard to see. `mask_hw` is `(H, W)` bool."""
    inner_hw = mask_hw.copy()
    for _ in range(max(1, round(_RIM * min(image.size)))):
        padded = np.pad(inner_hw, 1)
        inner_hw &= padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    pixels = np.array(image)
    pixels[mask_hw & ~inner_hw] = _RIM_RGB
    return Image.fromarray(pixels)


def draw_points(image: Image.Image, answer: Answer) -> None:
    """Draw an answer's points into the image: green on the object, yellow off it."""
    draw = ImageDraw.Draw(image)
    radius = max(2.0, _POINT * min(image.size))
    for prompt in answer.prompts:
        for (x, y), label in zip(prompt.points_xy, prompt.labels, strict=True):
            if 0 <= x < image.width and 0 <= y < image.height:
                corners = (x - radius, y - radius, x + radius, y + radius)
                draw.ellipse(corners, fill=_POINT_RGB[label], outline=(0, 0, 0))
