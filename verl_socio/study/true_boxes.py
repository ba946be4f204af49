"""The baseline that needs no model: the truth's own boxes, and points in it, through the segmenter.

    python -m verl_socio.study.true_boxes CITY SPLIT OUT --points 0 --points 1

What it falls short of is the segmenter's doing, not that of a model which finds the places.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from verl_socio.answer import Prompt
from verl_socio.command import run
from verl_socio.data import Sample, load_samples
from verl_socio.episode import Segment
from verl_socio.evaluate.scores import ALL, Line
from verl_socio.geometry import mask_boxes, mask_instances
from verl_socio.metrics import SegmentationScore
from verl_socio.segment import SegmenterConfig, create
from verl_socio.study.records import write_lines


async def measure(samples: Sequence[Sample], segmenter: Segment, points: Sequence[int]) -> list[Line]:
    """Segment every sample from the truth.

    Args:
        samples: With targets.
        segmenter: Turns prompts into masks.
        points: Numbers of points to add to each box; 0 is the box alone.

    Returns:
        A line of the table for each number of points.

    Raises:
        ValueError: There is no sample, or one cannot be read.
        SegmentationError: The segmenter failed.
    """
    scores = {count: SegmentationScore() for count in points}
    for sample in samples:
        target_hw = sample.target_mask()
        for count, score in scores.items():
            masks = await segmenter.segment(sample.satellite, true_prompts(target_hw, count))
            score.update(masks.union(), target_hw)
    return [_line(count, score, len(samples)) for count, score in scores.items()]


def true_prompts(target_hw: np.ndarray, count: int) -> list[Prompt]:
    """Box and points of each connected region of more than 10 pixels.

    Args:
        target_hw: `(H, W)` bool.
        count: Points a region, 0 or more.

    Returns:
        A prompt a region, in pixels, every point positive.
    """
    boxes_xyxy, regions = mask_boxes(target_hw), mask_instances(target_hw)
    return [
        Prompt(tuple(box.tolist()), tuple(points_in(region_hw, count)), (1,) * count)
        for box, region_hw in zip(boxes_xyxy, regions, strict=True)
    ]


def points_in(region_hw: np.ndarray, count: int) -> list[tuple[float, float]]:
    """Points deep inside a region and far from each other.

    Args:
        region_hw: `(H, W)` bool, not empty.
        count: How many.

    Returns:
        Centres of pixels, x and y: first the one farthest from the border, then always the one whose distance to the
        border and to the points before it is greatest.
    """
    from scipy import ndimage

    room_hw = ndimage.distance_transform_edt(np.pad(region_hw, 1))[1:-1, 1:-1]
    rows, columns = np.indices(region_hw.shape)
    found: list[tuple[float, float]] = []
    for _ in range(count):
        row, column = np.unravel_index(int(np.argmax(room_hw)), room_hw.shape)
        found.append((float(column) + 0.5, float(row) + 0.5))
        room_hw = np.minimum(room_hw, np.hypot(rows - row, columns - column))
    return found


def _line(count: int, score: SegmentationScore, samples: int) -> Line:
    name = "true boxes" if count == 0 else f"true boxes, {count} point{'s' if count > 1 else ''} each"
    figures = score.compute()
    ciou, giou, f1 = (figures[key] for key in ("ciou", "giou", "f1"))
    return Line(ALL, name, samples, ciou, giou, f1, unparsed=None, failures=0)


def main(
    city: Path, split: str, out: Path, points: Annotated[list[int], typer.Option(min=0)], weights: str = "embedded"
) -> None:
    """Measure a split of a city, and write the lines as JSON."""
    segmenter = create(SegmenterConfig(weights=weights))
    try:
        lines = asyncio.run(measure(load_samples(str(city), split), segmenter, points))
    finally:
        segmenter.close()
    write_lines(out, lines)


if __name__ == "__main__":
    run(lambda: typer.run(main))
