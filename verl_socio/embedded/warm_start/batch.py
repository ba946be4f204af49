"""Rows as tensors: questions share their images' tokens, and none sees another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from verl_socio.embedded.qwen2_5_vl import MERGE_SIZE, PATCH_SIZE
from verl_socio.embedded.warm_start.rows import Row


@dataclass(frozen=True)
class Batch:
    """Rows as tensors.

    Attributes:
        images: uint8 (images, H, W, 3), row by row.
        ids: (rows, length), padded with 0.
        positions: (3, rows, length) for the multimodal rotary embedding.
        mask: bool (rows, 1, length, length), True where a token sees another.
        sources: (targets,) flat places of the tokens that predict.
        targets: (targets,) what they predict.
        weights: (targets,) loss weights.
        leading: bool (targets,), whether a target is a digit that another digit follows.
        looks: (looks, 4) row, place of a token that shall look at another one, the head that looks, the other's place.
    """

    images: torch.Tensor
    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    sources: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    leading: torch.Tensor
    looks: torch.Tensor


def collate(rows: Sequence[Row], image_token: int) -> Batch:
    """Lay rows side by side.

    Args:
        rows: Rows whose images all have one size.
        image_token: Id of the images' placeholder.
    """
    grid_hw = tuple(length // (PATCH_SIZE * MERGE_SIZE) for length in rows[0].images[0].shape[:2])
    length = max(len(row.prefix) + sum(len(ids) for ids, _ in row.tails) for row in rows)
    ids_all = np.zeros((len(rows), length), dtype=np.int64)
    positions = np.zeros((3, len(rows), length), dtype=np.int64)
    mask = np.zeros((len(rows), 1, length, length), dtype=bool)
    mask[:, 0, np.arange(length), np.arange(length)] = True
    sources, targets, weights, leading = [], [], [], []
    looks: list[tuple[int, int, int, int]] = []
    for number, row in enumerate(rows):
        start = shared = len(row.prefix)
        ids_all[number, :shared] = row.prefix
        positions[:, number, :shared] = _positions(np.array(row.prefix), image_token, grid_hw)
        follow = int(positions[:, number, :shared].max()) + 1
        mask[number, 0, :shared, :shared] = np.tri(shared, dtype=bool)
        starts = np.cumsum([start, *(len(tail) for tail, _ in row.tails)]).tolist()
        for begin, found in zip(starts, row.looks, strict=False):
            # Places in the tail move behind the tails before it, those in the prefix stay.
            for place, head, other in found:
                asking, wanted = (at if at < shared else at - shared + begin for at in (place, other))
                looks.append((number, asking, head, wanted))
        for (tail, tail_weights), leads in zip(row.tails, row.leading, strict=True):
            end = start + len(tail)
            ids_all[number, start:end] = tail
            positions[:, number, start:end] = follow + np.arange(len(tail))
            mask[number, 0, start:end, :shared] = True
            mask[number, 0, start:end, start:end] = np.tri(len(tail), dtype=bool)
            learnt = np.flatnonzero(tail_weights)
            sources.append(number * length + start + learnt - 1)
            targets.append(np.array(tail)[learnt])
            weights.append(np.array(tail_weights)[learnt])
            leading.append(np.array(leads)[learnt])
            start = end
    return Batch(
        images=torch.from_numpy(np.stack([image for row in rows for image in row.images])),
        ids=torch.from_numpy(ids_all),
        positions=torch.from_numpy(positions),
        mask=torch.from_numpy(mask),
        sources=torch.from_numpy(np.concatenate(sources)),
        targets=torch.from_numpy(np.concatenate(targets)),
        weights=torch.from_numpy(np.concatenate(weights)).float(),
        leading=torch.from_numpy(np.concatenate(leading)),
        looks=torch.tensor(looks).view(-1, 4),
    )


def _positions(ids: np.ndarray, image_token: int, grid_hw: tuple[int, ...]) -> np.ndarray:
    """Positions (3, length) as Qwen2.5-VL counts them: an image is as long as its longer side."""
    found = np.zeros((3, len(ids)), dtype=np.int64)
    at, position = 0, 0
    while at < len(ids):
        if ids[at] == image_token:
            rows, columns = np.indices(grid_hw).reshape(2, -1)
            found[:, at : at + len(rows)] = position + np.stack([np.zeros_like(rows), rows, columns])
            at, position = at + len(rows), position + max(grid_hw)
        else:
            found[:, at] = position
            at, position = at + 1, position + 1
    return found
