"""The gallery's entries: one sample each, as JSON values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from verl_socio.errors import invalid
from verl_socio.evaluate.pictures import SMALL, file_name
from verl_socio.evaluate.rows import SampleRow, StageRow
from verl_socio.report.figures import change_of
from verl_socio.report.kinds import kind_of
from verl_socio.report.load import Evaluated


def entries(evaluated: Evaluated) -> list[dict[str, Any]]:
    """What the page and `report.json` hold of each sample, in the set's order.

    Raises:
        ValueError: A sample's small picture cannot be read.
    """
    folder = evaluated.folder / "pictures"
    return [_entry(row, folder) for row in evaluated.rows]


def _entry(row: SampleRow, pictures: Path) -> dict[str, Any]:
    name = file_name(row.index, row.id)
    return {
        "index": row.index,
        "id": row.id,
        "question": row.question,
        "level": row.level or "",
        "size_wh": list(row.size_wh),
        "kind": kind_of(row),
        "iou": 0.0 if row.failure is not None else row.stages[-1].mask_score.iou,
        "change": change_of(row),
        "center_box_iou": None if row.center_box is None else row.center_box.iou,
        "seconds": row.seconds,
        "failure": row.failure,
        "stages": [_stage(stage) for stage in row.stages],
        "strip": _strip(pictures / SMALL / name),
        "picture": f"pictures/{name}" if (pictures / name).is_file() else None,
    }


def _stage(stage: StageRow) -> dict[str, Any]:
    kept = ("name", "status", "reason", "thinking", "text", "tokens", "cut_off", "generate_s", "segment_s")
    values = {key: getattr(stage, key) for key in kept}
    return {
        **values,
        "iou": stage.mask_score.iou,
        "predicted_iou": list(stage.predicted_iou),
        "prompts": list(stage.prompts),
    }


def _strip(path: Path) -> dict[str, Any] | None:
    """The sample's small pictures: where they are, what they show, and a tile's width over its height."""
    if not path.is_file():
        return None
    try:
        with Image.open(path) as image:
            names = json.loads(image.info["comment"])
            width, height = image.size
    except (OSError, KeyError, ValueError) as error:
        rule = f"must be a strip of small pictures ({type(error).__name__}: {error})"
        raise invalid("picture", str(path), rule, "delete the file: the report does without it") from error
    return {"src": f"pictures/{SMALL}/{path.name}", "tiles": names, "aspect": width / len(names) / height}
