"""A picture of one question's rollouts: what each answered, what was drawn, what came out."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from verl_socio.engine.group import Group
from verl_socio.episode import Episode
from verl_socio.render import FeedbackStyle, draw_feedback, panel


def write_group_picture(group: Group, folder: Path, step: int) -> Path:
    """Write `<folder>/step_<step>.png`: a row of tiles an episode. The first question to finish a step is shown.

    Returns:
        The picture's path; it is not there as long as no episode of a group came through.
    """
    path = folder / f"step_{step}.png"
    if group.episodes and not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        rows = [_tiles(episode, group.host.recipe.feedback) for episode in group.episodes]
        # Several workers may finish their first question at once: each writes a file of its own, the last one stays.
        draft = folder / f".step_{step}.{os.getpid()}.png"
        panel([tile for row in rows for tile in row], columns=len(rows[0])).save(draft)
        draft.replace(path)
    return path


def _tiles(episode: Episode, style: FeedbackStyle) -> list[tuple[str, Image.Image]]:
    scene = episode.scene
    satellite = scene.images["satellite"]
    tiles = []
    for result in episode.stages:
        tiles += [(f"stage {result.turn.stage + 1} sees", image) for image in result.turn.images]
        boxes = [prompt.box_xyxy for prompt in result.answer.prompts if prompt.box_xyxy is not None]
        drawn = draw_feedback(satellite, np.asarray(boxes).reshape(-1, 4), result.mask_hw, style)
        assert result.reward is not None, "training scenes have a target"
        tiles.append((f"answer, reward {result.reward.total:.2f}", drawn))
    assert scene.target is not None, "training scenes have a target"
    tiles.append((scene.sample.question, draw_feedback(satellite, np.zeros((0, 4)), scene.target.mask_hw, style)))
    return tiles
