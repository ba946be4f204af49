"""What is kept of an answer: a mask, boxes, a picture."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from verl_socio.answer import Status
from verl_socio.episode import Episode, Reply
from verl_socio.evaluate.pictures import draw_points
from verl_socio.evaluate.rows import prompts_of
from verl_socio.infer.requests import Request
from verl_socio.infer.router import COUNTING, SEGMENTATION, Routed
from verl_socio.recipes import Recipe
from verl_socio.render import draw_feedback, panel
from verl_socio.whole_file import write_whole

_COLUMNS = 4


@dataclass(frozen=True)
class Writer:
    """Writes into a folder that was new when the run began.

    Attributes:
        folder: Where.
        recipe: How what was found is drawn.
    """

    folder: Path
    recipe: Recipe

    def write(self, request: Request, routed: Routed, episode: Episode) -> list[Path]:
        """Keep what an episode found.

        `<name>_boxes.json` and `<name>_picture.png` always; `<name>_mask.png` (255 on what was found, the image's own
        size) for segmentation, unless the answer could not be read: then there is no mask, which is not an empty one.
        An answer that ended at the limit of its length (`cut_off`, one a stage) may have named more.

        Returns:
            The files.
        """
        last = episode.stages[-1]
        objects = prompts_of(last.answer)
        found: dict[str, Any] = {
            **_asked(request, routed),
            "status": str(last.answer.status),
            "reason": last.answer.reason,
            "thinking": [result.answer.thinking for result in episode.stages],
            "cut_off": [result.reply.record.cut_off for result in episode.stages],
            "objects": objects,
        }
        if routed.task == COUNTING:
            found["count"] = None if last.answer.status is Status.UNPARSEABLE else len(objects)
        files = [self._write_json(f"{request.name}_boxes.json", found), self.folder / f"{request.name}_picture.png"]
        self._picture(request, episode).save(files[1])
        if routed.task == SEGMENTATION and last.answer.status is not Status.UNPARSEABLE:
            files.append(self.folder / f"{request.name}_mask.png")
            Image.fromarray(last.mask_hw.astype(np.uint8) * 255).save(files[2])
        return files

    def write_words(self, request: Request, routed: Routed, reply: Reply) -> list[Path]:
        """Keep an answer in words, `<name>_answer.json`; returns the file."""
        found = {**_asked(request, routed), "answer": reply.text, "cut_off": reply.record.cut_off}
        return [self._write_json(f"{request.name}_answer.json", found)]

    def _write_json(self, name: str, content: dict[str, Any]) -> Path:
        path = self.folder / name
        # In ASCII: file names and texts of models need not be whole UTF-8.
        write_whole(path, json.dumps(content, indent=1) + "\n")
        return path

    def _picture(self, request: Request, episode: Episode) -> Image.Image:
        satellite = episode.scene.images["satellite"]
        tiles = [(f"{name}: {request.sample.question}", image) for name, image in sorted(episode.scene.images.items())]
        for stage, result in zip(self.recipe.stages, episode.stages, strict=True):
            boxes = [prompt.box_xyxy for prompt in result.answer.prompts if prompt.box_xyxy is not None]
            drawn = draw_feedback(
                satellite, np.asarray(boxes, dtype=np.float64).reshape(-1, 4), result.mask_hw, self.recipe.feedback
            )
            draw_points(drawn, result.answer)
            tiles.append((f"{stage.name}: {result.answer.status}", drawn))
        return panel(tiles, _COLUMNS)


def _asked(request: Request, routed: Routed) -> dict[str, Any]:
    sample = request.sample
    return {
        "image": sample.satellite.uri,
        "map": None if sample.map is None else sample.map.uri,
        "text": sample.question,
        "task": routed.task,
        "task_chosen_by": routed.by,
    }
