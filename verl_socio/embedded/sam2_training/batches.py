"""Training batches: some scenes, some places in each as targets, and prompts that mean them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from verl_socio.embedded.sam2_training.prompts import Mix, draw_group, draw_prompt
from verl_socio.embedded.sam2_training.scenes import Scenes

_MEAN, _STD = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], dtype=np.float32) * 255.0


@dataclass(frozen=True, eq=False)
class Batch:
    """B scenes with M prompts each, all of one length, in the order of the scenes.

    Attributes:
        images: Normalised as SAM2 takes them, float32 (B, 3, S, S).
        cells: Number of the cell of each pixel, 0 for none: int64 (B, H, W).
        surfaces: Surface of each pixel, 0 for none: int64 (B, H, W).
        coords_xy: Corners of the box and points, float32 (B * M, P, 2), in parts of the image's sides.
        labels: SAM's labels of them, float32 (B * M, P).
        targets: float32 (B * M, H, W), 0 or 1.
    """

    images: torch.Tensor
    cells: torch.Tensor
    surfaces: torch.Tensor
    coords_xy: torch.Tensor
    labels: torch.Tensor
    targets: torch.Tensor


def draw_batch(
    scenes: Scenes, rng: np.random.Generator, mix: Mix, image_size: int, num_scenes: int, num_prompts: int
) -> Batch:
    """Draw a batch; scenes are turned, mirrored and tinted at random.

    Args:
        scenes: What to draw from.
        rng: Source of chance.
        mix: What to ask.
        image_size: S, the side in pixels that the images are resized to.
        num_scenes: B.
        num_prompts: M.

    Returns:
        The batch.
    """
    kinds = list(mix.kinds)
    weights = np.array([mix.kinds[kind] for kind in kinds])
    with_box, num_points = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
    images, cells, surfaces, coords, labels, targets = [], [], [], [], [], []
    for index in rng.integers(len(scenes), size=num_scenes).tolist():
        image_hwc, cells_hw, places_hw = _turned(scenes, index, rng)
        images.append(((image_hwc * rng.uniform(0.9, 1.1, 3) + rng.uniform(-12, 12) - _MEAN) / _STD).transpose(2, 0, 1))
        cells.append(cells_hw)
        surfaces.append(scenes.cell_surface[index][cells_hw])
        cell_place = scenes.cell_place[index]
        for place in _targets(rng, cell_place, mix.several, num_prompts):
            target_hw, is_part = places_hw == place, cell_place == place
            if num_points > 1 and mix.groups and rng.random() < mix.groups:
                target_hw, is_part = draw_group(rng, cells_hw, len(cell_place), num_points)
            prompt = draw_prompt(rng, target_hw, cells_hw, is_part, mix, with_box, num_points)
            coords.append(prompt[0])
            labels.append(prompt[1])
            targets.append(target_hw)
    pixels = torch.from_numpy(np.stack(images).astype(np.float32))
    return Batch(
        F.interpolate(pixels, (image_size, image_size), mode="bilinear", align_corners=False, antialias=True),
        torch.from_numpy(np.stack(cells).astype(np.int64)),
        torch.from_numpy(np.stack(surfaces).astype(np.int64)),
        torch.from_numpy(np.stack(coords).astype(np.float32)),
        torch.from_numpy(np.stack(labels).astype(np.float32)),
        torch.from_numpy(np.stack(targets).astype(np.float32)),
    )


def _targets(rng: np.random.Generator, cell_place: np.ndarray, several: float, count: int) -> list[int]:
    """Places as targets: each drawn again only after all others of its kind."""
    num_parts = np.bincount(cell_place)[1:]
    groups = [rng.permutation(np.flatnonzero(kind) + 1) for kind in (num_parts == 1, num_parts > 1)]
    drawn: list[int] = []
    taken = [0, 0]
    for _ in range(count):
        kind = int(rng.random() < several)
        kind = kind if len(groups[kind]) else 1 - kind
        drawn.append(int(groups[kind][taken[kind] % len(groups[kind])]))
        taken[kind] += 1
    return drawn


def _turned(scenes: Scenes, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, cells and places of a scene, turned by right angles and mirrored at random."""
    turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
    arrays = [np.rot90(array[index], turns) for array in (scenes.images, scenes.cells, scenes.places)]
    image_hwc, cells_hw, places_hw = (array[:, ::-1] if mirrored else array for array in arrays)
    return image_hwc, cells_hw, places_hw
