"""What the model can do on scenes it was not trained on, through the segmenter that everything else uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt

from verl_socio.answer import Prompt
from verl_socio.city import Scene, draw_sample
from verl_socio.city.drawing import mask_of
from verl_socio.metrics import mask_iou
from verl_socio.segment.sam2_model import Features, Sam2Model

_TAKEN = 0.5
"""Share of a cell from which on a mask counts as having taken it."""
_JITTER = 0.05

Box = tuple[float, float, float, float]
Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Report:
    """Means over the places of some scenes; IoUs and shares from 0 to 1.

    Points lie where the map has the place's marks: inside the parts, off their centres. "Jittered" boxes have each side
    moved by a normal error of 5 % of the box's width or height.

    Attributes:
        one_part: Places of one part.
        one_part_box: Their IoU from the true box.
        one_part_jittered: From a jittered box.
        one_part_box_point: From the true box and a point.
        one_part_point: From a point alone.
        several_parts: Places of two or three parts.
        several_parts_box: Their IoU from the true box.
        several_parts_box_point: From the true box and a point in one of the parts.
        several_parts_box_points: From the true box and one point in each part.
        several_parts_jittered: From a jittered box.
        several_parts_jittered_points: From a jittered box and one point in each part.
        several_parts_points: From one point in each part, without a box.
        wrong: Places of several parts for which the true box gave a mask that holds more than half of a foreign cell.
        wrong_box: Their IoU from the true box.
        wrong_box_negative: From the true box and a negative point on the foreign cell.
        wrong_share: The share of the foreign cell that the mask holds.
        wrong_share_negative: The share that it still holds with the negative point.
        taken_out: How often less than half of the cell is left with the negative point.
        predicted_iou: Mean of the predicted IoU over all prompts above.
        real_iou: Mean of the IoU over all prompts above.
        pearson: Correlation of the two.
    """

    one_part: int
    one_part_box: float
    one_part_jittered: float
    one_part_box_point: float
    one_part_point: float
    several_parts: int
    several_parts_box: float
    several_parts_box_point: float
    several_parts_box_points: float
    several_parts_jittered: float
    several_parts_jittered_points: float
    several_parts_points: float
    wrong: int
    wrong_box: float
    wrong_box_negative: float
    wrong_share: float
    wrong_share_negative: float
    taken_out: float
    predicted_iou: float
    real_iou: float
    pearson: float


def evaluate(model: Sam2Model, split: str, count: int, seed: int = 0) -> Report:
    """Measure a model on every place of some scenes.

    Args:
        model: The model.
        split: One of `city.SPLITS`.
        count: How many scenes, 1 or more.
        seed: Seed of the city and of the jitter.

    Returns:
        The figures; NaN for those of a kind of place that the scenes do not have.
    """
    found: dict[str, list[float]] = {}
    scores: list[tuple[float, float]] = []
    for index in range(count):
        scene = draw_sample(split, index, seed)[0]
        probe = _Probe(model, scene, model.encode(scene.satellite()), found, scores)
        rng = np.random.default_rng((seed, index))
        for place in range(len(scene.places)):
            probe.place(place, rng)
    predicted, real = np.array(scores).T
    figures: dict[str, Any] = {field.name: float("nan") for field in fields(Report) if field.name != "pearson"}
    figures |= {name: len(found.get(f"{name}_box", ())) for name in ("one_part", "several_parts", "wrong")}
    figures |= {name: float(np.mean(values)) for name, values in found.items()}
    figures |= {"predicted_iou": float(predicted.mean()), "real_iou": float(real.mean())}
    return Report(**figures, pearson=float(np.corrcoef(predicted, real)[0, 1]))


@dataclass(frozen=True, eq=False)
class _Probe:
    """One scene under measurement; results go into `found` and `scores`."""

    model: Sam2Model
    scene: Scene
    features: Features
    found: dict[str, list[float]]
    scores: list[tuple[float, float]]

    def place(self, index: int, rng: np.random.Generator) -> None:
        """Prompt for one place in every way."""
        place = self.scene.places[index]
        target_hw = self.scene.mask([index])
        box, jittered = _box(target_hw), _jittered(_box(target_hw), self.scene.size_wh, rng)
        marks = (place.sign.icon_xy, *place.sign.dots_xy)
        if len(place.plot.parts) == 1:
            self._ask("one_part_box", target_hw, box)
            self._ask("one_part_jittered", target_hw, jittered)
            self._ask("one_part_box_point", target_hw, box, marks)
            self._ask("one_part_point", target_hw, None, marks)
            return
        mask_hw = self._ask("several_parts_box", target_hw, box)
        self._ask("several_parts_box_point", target_hw, box, marks[:1])
        self._ask("several_parts_box_points", target_hw, box, marks)
        self._ask("several_parts_jittered", target_hw, jittered)
        self._ask("several_parts_jittered_points", target_hw, jittered, marks)
        self._ask("several_parts_points", target_hw, None, marks)
        cell_hw = self._wrongly_taken(index, mask_hw)
        if cell_hw is not None:
            without_hw = self._ask("wrong_box_negative", target_hw, box, [_middle(cell_hw)], label=0)
            self._note("wrong_box", mask_iou(mask_hw, target_hw))
            self._note("wrong_share", mask_hw[cell_hw].mean())
            self._note("wrong_share_negative", without_hw[cell_hw].mean())
            self._note("taken_out", without_hw[cell_hw].mean() < _TAKEN)

    def _ask(
        self, name: str, target_hw: np.ndarray, box: Box | None, points: Sequence[Point] = (), label: int = 1
    ) -> np.ndarray:
        prompt = Prompt(box, tuple(points), (label,) * len(points))
        masks, _ = self.model.decode(self.features, [prompt])
        iou = mask_iou(masks.masks_nhw[0], target_hw)
        self._note(name, iou)
        self.scores.append((float(masks.predicted_iou[0]), iou))
        return np.asarray(masks.masks_nhw[0])

    def _note(self, name: str, value: float) -> None:
        self.found.setdefault(name, []).append(float(value))

    def _wrongly_taken(self, index: int, mask_hw: np.ndarray) -> np.ndarray | None:
        """The foreign cell of which the mask holds most pixels and more than half, bool (H, W); None without one."""
        parts = [part for other, place in enumerate(self.scene.places) if other != index for part in place.plot.parts]
        cells = [mask_of([part.polygon], self.scene.size_wh) for part in (*parts, *self.scene.rest)]
        taken = [cell_hw for cell_hw in cells if cell_hw.any() and mask_hw[cell_hw].mean() > _TAKEN]
        return max(taken, key=lambda cell_hw: int(mask_hw[cell_hw].sum()), default=None)


def _box(mask_hw: np.ndarray) -> Box:
    rows, columns = np.flatnonzero(mask_hw.any(1)), np.flatnonzero(mask_hw.any(0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _jittered(box: Box, size_wh: tuple[int, int], rng: np.random.Generator) -> Box:
    sides = np.array([box[2] - box[0], box[3] - box[1]] * 2)
    moved = np.clip(np.array(box) + rng.normal(0.0, _JITTER, 4) * sides, 0.0, np.tile(size_wh, 2))
    left, top, right, bottom = moved.tolist()
    return left, top, right, bottom


def _middle(mask_hw: np.ndarray) -> Point:
    """The pixel of a mask that is farthest from its edge."""
    depth = distance_transform_edt(np.pad(mask_hw, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(column) + 0.5, float(row) + 0.5
