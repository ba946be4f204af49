"""What points add to the boxes that a model named itself: its own points, none, and true ones.

    python -m verl_socio.study.true_points RESULTS CITY SPLIT

A second look that keeps the boxes of the first has only points to add. What it gained stands beside what the best ones
would have gained: those inside its boxes, where the reward wants them, and those anywhere in the places. For a model
that names boxes and points at once, its boxes alone say what its points are worth.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import typer
from rich.console import Console

from verl_socio.answer import Prompt
from verl_socio.command import run
from verl_socio.data import Sample, load_samples
from verl_socio.episode import Segment
from verl_socio.errors import invalid
from verl_socio.evaluate.rows import SampleRow, read_rows
from verl_socio.geometry import mask_instances
from verl_socio.metrics import SegmentationScore
from verl_socio.segment import SegmenterConfig, create
from verl_socio.study.true_boxes import points_in

_POINTS = 2


async def measure(samples: Sequence[Sample], rows: Iterable[SampleRow], segmenter: Segment) -> dict[str, float]:
    """Segment every sample from the boxes of its first answer.

    Args:
        samples: With targets.
        rows: The evaluation of a model on them.
        segmenter: The one of that evaluation.

    Returns:
        gIoU in 0..1, of the model's first and last masks, of its first boxes alone and of these with true points.

    Raises:
        ValueError: A sample cannot be read or has no answer, or an answer has an object without a box.
        SegmentationError: The segmenter failed.
    """
    answers = {row.id: row.stages for row in rows}
    prompted = {
        "its boxes alone": _alone,
        "true points inside its boxes": _inside,
        "true points anywhere in the places": _anywhere,
    }
    scores = {name: SegmentationScore() for name in ("first mask", "last mask", *prompted)}
    for sample in samples:
        stages, target_hw = answers.get(sample.id), sample.target_mask()
        if not stages:
            raise invalid("results", sample.id, "has no answer", "evaluate the whole split with this model")
        boxes = [prompt["box_xyxy"] for prompt in stages[0].prompts]
        if None in boxes:
            raise invalid("results", sample.id, "has an object without a box", "take a recipe that answers boxes")
        scores["first mask"].add(stages[0].mask_score)
        scores["last mask"].add(stages[-1].mask_score)
        for name, prompt_of in prompted.items():
            masks = await segmenter.segment(sample.satellite, [prompt_of(box, target_hw) for box in boxes])
            scores[name].update(masks.union(), target_hw)
    return {name: score.compute()["giou"] for name, score in scores.items()}


def _alone(box_xyxy: Sequence[float], target_hw: np.ndarray) -> Prompt:
    """A box without points."""
    return _with_points(box_xyxy, np.zeros_like(target_hw))


def _inside(box_xyxy: Sequence[float], target_hw: np.ndarray) -> Prompt:
    """A box with points in what it holds of the target; the box alone where it holds nothing."""
    return _with_points(box_xyxy, _crop(target_hw, box_xyxy))


def _anywhere(box_xyxy: Sequence[float], target_hw: np.ndarray) -> Prompt:
    """A box with points in that region of the target of which it holds most; the box alone where it holds nothing."""
    held = [(int(_crop(region_hw, box_xyxy).sum()), region_hw) for region_hw in mask_instances(target_hw)]
    most, region_hw = max(held, key=lambda each: each[0], default=(0, target_hw))
    return _with_points(box_xyxy, region_hw if most else np.zeros_like(target_hw))


def _with_points(box_xyxy: Sequence[float], where_hw: np.ndarray) -> Prompt:
    x1, y1, x2, y2 = box_xyxy
    points = points_in(where_hw, _POINTS) if where_hw.any() else []
    return Prompt((x1, y1, x2, y2), tuple(points), (1,) * len(points))


def _crop(mask_hw: np.ndarray, box_xyxy: Sequence[float]) -> np.ndarray:
    """The part of a mask inside a box, with nothing around it."""
    x1, y1, x2, y2 = (max(round(edge), 0) for edge in box_xyxy)
    cropped_hw = np.zeros_like(mask_hw)
    cropped_hw[y1:y2, x1:x2] = mask_hw[y1:y2, x1:x2]
    return cropped_hw


def main(results: Path, city: Path, split: str, weights: str = "embedded") -> None:
    """Print the ceiling for an evaluation's `results.jsonl` on a split of a city."""
    segmenter = create(SegmenterConfig(weights=weights))
    try:
        figures = asyncio.run(measure(load_samples(str(city), split), read_rows(results), segmenter))
    finally:
        segmenter.close()
    for name, giou in figures.items():
        Console().print(f"{name}: gIoU {100 * giou:.1f}", highlight=False)


if __name__ == "__main__":
    run(lambda: typer.run(main))
