"""A picture a sample: what was given, what each stage saw and found, what should have been found."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from verl_socio.answer import Answer
from verl_socio.episode import Episode
from verl_socio.evaluate.rows import SampleRow
from verl_socio.recipes import Recipe
from verl_socio.render import draw_feedback, panel

_COLUMNS = 4
_POINT_RGB = {1: (0, 255, 0), 0: (255, 255, 0)}
# A point's radius in parts of the image's shorter side.
_POINT = 1 / 100


class Pictures:
    """Draws a picture of some of the samples, spread evenly over the set.

    Args:
        folder: Where they go; made when the first is drawn.
        samples: Size of the set.
        wanted: How many pictures.
    """

    def __init__(self, folder: Path, samples: int, wanted: int) -> None:
        self._folder = folder
        self._chosen = {number * samples // wanted for number in range(wanted)} if wanted else set()

    def draw(self, index: int, episode: Episode, target_hw: np.ndarray, row: SampleRow, recipe: Recipe) -> None:
        """Draw a sample if it is one of the chosen.

        Args:
            index: The sample's place in the set.
            episode: What happened.
            target_hw: `(H, W)` bool.
            row: Its scores.
            recipe: The method.
        """
        if index not in self._chosen:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / file_name(index, row.id)
        picture(episode, target_hw, row, recipe).save(path, quality=90, subsampling=0)


def file_name(index: int, sample_id: str) -> str:
    """A picture's file name: its number makes it unique, whatever the id holds."""
    return f"{index:05d}_{re.sub(r'[^A-Za-z0-9._-]', '_', sample_id)[:80]}.jpg"


def picture(episode: Episode, target_hw: np.ndarray, row: SampleRow, recipe: Recipe) -> Image.Image:
    """Set an episode's images side by side: inputs, each stage's feedback and mask, the target.

    Args:
        episode: What happened.
        target_hw: `(H, W)` bool.
        row: Its scores.
        recipe: The method.

    Returns:
        An RGB image.
    """
    satellite = episode.scene.images["satellite"]
    question = f"{row.id}: {row.question}"
    tiles = [(f"{name} | {question}", image) for name, image in sorted(episode.scene.images.items())]
    for stage, result, kept in zip(recipe.stages, episode.stages, row.stages, strict=True):
        if stage.feedback:
            tiles += [(f"shown to {stage.name}", image) for image in result.turn.images]
        boxes = [prompt.box_xyxy for prompt in result.answer.prompts if prompt.box_xyxy is not None]
        drawn = draw_feedback(satellite, np.asarray(boxes).reshape(-1, 4), result.mask_hw, recipe.feedback)
        _draw_points(drawn, result.answer)
        state = kept.status if kept.status != "ok" else f"IoU {kept.score.iou:.2f}"
        tiles.append((f"{stage.name}: {state}", drawn))
    tiles.append(("target", draw_feedback(satellite, np.zeros((0, 4)), target_hw, recipe.feedback)))
    return panel(tiles, _COLUMNS)


def _draw_points(image: Image.Image, answer: Answer) -> None:
    """Draw an answer's points into the image: green on the object, yellow off it."""
    draw = ImageDraw.Draw(image)
    radius = max(2.0, _POINT * min(image.size))
    for prompt in answer.prompts:
        for (x, y), label in zip(prompt.points_xy, prompt.labels, strict=True):
            if 0 <= x < image.width and 0 <= y < image.height:
                corners = (x - radius, y - radius, x + radius, y + radius)
                draw.ellipse(corners, fill=_POINT_RGB[label], outline=(0, 0, 0))
