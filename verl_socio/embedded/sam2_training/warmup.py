"""The decoder before it sees images: what boxes and points mean."""

from __future__ import annotations

import logging

import numpy as np
import torch

from verl_socio.embedded.sam2 import TinySam2
from verl_socio.embedded.sam2_training.forward import decode
from verl_socio.embedded.sam2_training.losses import balanced_loss, prompt_loss, update

_log = logging.getLogger(__name__)
STEPS = 450
_PROMPTS, _LR, _LOG_EVERY = 48, 1e-3, 25
_DISC = 0.09
"""Radius in parts of the image's side that a point means while there is no image."""


def warm_up(model: TinySam2, rng: np.random.Generator, steps: int) -> None:
    """Teach the decoder what prompts mean, on empty features: a box its rectangle, a point a disc around it."""
    side = model.image_size
    shapes = ((96, side // 16), (24, side // 8), (12, side // 4))
    empty = [torch.zeros(1, channels, size, size) for channels, size in reversed(shapes)]
    parameters = [*model.sam_prompt_encoder.parameters(), *model.sam_mask_decoder.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=_LR, betas=(0.9, 0.98))
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = _LR * min(1.0, (step + 1) / 50, (steps - step) / 100)
        coords_xy, labels, targets = _shapes(rng, _PROMPTS, side // 4)
        logits, scores = decode(model, empty, coords_xy, labels)
        loss = balanced_loss(logits, targets) + 0.2 * prompt_loss(logits, scores, targets)
        update(optimizer, loss)
        if (step + 1) % _LOG_EVERY == 0:
            _log.info("warmup step %d loss %.4f", step + 1, loss.item())


def _shapes(rng: np.random.Generator, count: int, side: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Prompts of one kind and the shapes that they mean: boxes, or boxes with points in them, or one point."""
    kind = int(rng.integers(3))
    low_xy = rng.uniform(0.0, 0.75, (count, 2))
    high_xy = np.minimum(1.0, low_xy + rng.uniform(0.1, 0.6, (count, 2)))
    middle = (np.arange(side) + 0.5) / side
    x, y = middle[None, None, :], middle[None, :, None]
    points_xy = rng.uniform(low_xy, high_xy)
    if kind == 2:
        centre = points_xy[..., None, None]
        targets = (x - centre[:, 0]) ** 2 + (y - centre[:, 1]) ** 2 <= _DISC**2
        coords, labels = points_xy[:, None], [1.0]
    else:
        low, high = low_xy[..., None, None], high_xy[..., None, None]
        targets = (x >= low[:, 0]) & (x < high[:, 0]) & (y >= low[:, 1]) & (y < high[:, 1])
        coords = np.stack([low_xy, high_xy, points_xy][: 2 + kind], 1)
        labels = [2.0, 3.0, 1.0][: 2 + kind]
    return (
        torch.from_numpy(coords.astype(np.float32)),
        torch.tensor(labels).expand(count, -1),
        torch.from_numpy(targets.astype(np.float32)),
    )
