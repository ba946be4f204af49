"""Rows added up to the figures of `verl_socio.metrics`, `box_metrics` and `count_metrics`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from verl_socio.answer import Status
from verl_socio.box_metrics import Detections, average_precision, box_found
from verl_socio.count_metrics import CountScore
from verl_socio.evaluate.rows import SampleRow, StageRow
from verl_socio.metrics import MaskScore, NoTargetScore, SegmentationScore

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


class MaskTally:
    """`ciou`, `giou`, `f1`, and `p50` .. `p90`: the share of images of that IoU or more."""

    def __init__(self) -> None:
        self._score = SegmentationScore()

    def add(self, row: SampleRow, stage: StageRow) -> None:
        """Add a stage's mask."""
        self.add_score(stage.mask_score)

    def add_score(self, score: MaskScore) -> None:
        """Add a mask that was measured."""
        self._score.add(score)

    def add_failed(self, row: SampleRow) -> None:
        """Add intersection 0 and union of the target's area."""
        assert row.target_area is not None and row.target_instances is not None, row.id
        self._score.add_failed(row.target_area, row.target_instances)

    def compute(self) -> Mapping[str, float | None]:
        """The figures, 0..1."""
        shares = self._score.precision(THRESHOLDS)
        precision = {f"p{round(100 * level)}": share for level, share in zip(THRESHOLDS, shares, strict=True)}
        figures = self._score.compute()
        return {**{key: figures[key] for key in ("ciou", "giou", "f1")}, **precision}


class NoTargetTally:
    """`no_target`: the share of the images without a target that were answered so."""

    def __init__(self) -> None:
        self._score = NoTargetScore()

    def add(self, row: SampleRow, stage: StageRow) -> None:
        """Add a stage's mask."""
        assert row.target_area is not None, row.id
        self._score.add(row.target_area, stage.mask_score)

    def add_failed(self, row: SampleRow) -> None:
        """Add a wrong answer, where there is no target."""
        assert row.target_area is not None, row.id
        self._score.add(row.target_area, None)

    def compute(self) -> Mapping[str, float | None]:
        """The share, 0..1."""
        return {"no_target": self._score.compute()}


class BoxTally:
    """`box_accuracy`: the share of the samples with known boxes of which a predicted box finds one."""

    def __init__(self) -> None:
        self._samples = self._found = 0

    def add(self, row: SampleRow, stage: StageRow) -> None:
        """Add a stage's boxes. An answer that could not be read finds nothing, not even that nothing is there."""
        target = row.truth.boxes_xyxy
        if target is not None:
            self._samples += 1
            found = box_found(boxes_of(stage), np.asarray(target, dtype=np.float64).reshape(-1, 4))
            self._found += found and stage.status != Status.UNPARSEABLE

    def add_failed(self, row: SampleRow) -> None:
        """Add a box that was not found."""
        self._samples += row.truth.boxes_xyxy is not None

    def compute(self) -> Mapping[str, float | None]:
        """The share, 0..1; None where no sample has boxes."""
        return {"box_accuracy": self._found / self._samples if self._samples else None}


class DetectionTally:
    """`ap`, `ap50` and `ap75` of COCO."""

    def __init__(self) -> None:
        self._entries: list[Detections] = []

    def add(self, row: SampleRow, stage: StageRow) -> None:
        """Add a stage's boxes."""
        self._add(row, boxes_of(stage))

    def add_failed(self, row: SampleRow) -> None:
        """Add an image in which nothing was found."""
        self._add(row, np.zeros((0, 4)))

    def _add(self, row: SampleRow, predicted_xyxy: np.ndarray) -> None:
        truth = row.truth
        assert truth.image_id is not None and truth.category_id is not None and truth.boxes_xyxy is not None, row.id
        target_xyxy, crowd_xyxy = (
            np.asarray(boxes or (), dtype=np.float64).reshape(-1, 4) for boxes in (truth.boxes_xyxy, truth.crowd_xyxy)
        )
        self._entries.append(
            Detections(truth.image_id, truth.category_id, row.size_wh, target_xyxy, predicted_xyxy, crowd_xyxy)
        )

    def compute(self) -> Mapping[str, float | None]:
        """The figures, 0..1."""
        return average_precision(self._entries)


class CountTally:
    """`accuracy`, `mae` and `rmse` of the number of objects named."""

    def __init__(self) -> None:
        self._score = CountScore()

    def add(self, row: SampleRow, stage: StageRow) -> None:
        """Add the number of a stage's items; an answer that could not be read has none."""
        if stage.status == Status.UNPARSEABLE:
            self.add_failed(row)
            return
        assert row.truth.count is not None, row.id
        self._score.add(len(stage.prompts), row.truth.count)

    def add_failed(self, row: SampleRow) -> None:
        """Add a sample without a count."""
        assert row.truth.count is not None, row.id
        self._score.add_failed(row.truth.count)

    def compute(self) -> Mapping[str, float | None]:
        """The share of exact counts, 0..1, and the errors in objects."""
        figures = self._score.compute()
        return {key: figures[key] for key in ("accuracy", "mae", "rmse")}


def boxes_of(stage: StageRow) -> np.ndarray:
    """The boxes that a stage named: float64 `(N, 4)`, x1, y1, x2, y2 in the image's own pixels, as answered."""
    boxes = [prompt["box_xyxy"] for prompt in stage.prompts if prompt["box_xyxy"] is not None]
    return np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
