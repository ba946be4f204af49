"""The course of training: the decoder alone on shapes, then images of growing size, then more prompts with points."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from verl_socio.city.surfaces import SURFACES
from verl_socio.embedded.sam2 import TinySam2, build
from verl_socio.embedded.sam2_training import warmup
from verl_socio.embedded.sam2_training.batches import Batch, draw_batch
from verl_socio.embedded.sam2_training.forward import decode, encode
from verl_socio.embedded.sam2_training.losses import FeatureHeads, balanced_loss, prompt_loss, update
from verl_socio.embedded.sam2_training.scenes import Scenes
from verl_socio.embedded.sam2_training.schedule import STAGES, Stage

_log = logging.getLogger(__name__)
_LOG_EVERY = 25
_CHANNELS = 12 + 24 + 96


def train(
    scenes: Scenes,
    seed: int,
    stages: Sequence[Stage] = STAGES,
    warmup_steps: int = warmup.STEPS,
    checkpoints: Path | None = None,
) -> tuple[TinySam2, list[float]]:
    """Train a model from random weights.

    With one torch thread, the same arguments give the same weights on the same machine.

    Args:
        scenes: What to train on.
        seed: Seed of the weights and of every choice.
        stages: What to do after the warm-up.
        warmup_steps: Steps of the decoder alone.
        checkpoints: Where each stage leaves its state and finds what it left before: a run that was stopped goes on
            with the stage it was in. Stages are told by their names alone: a folder for each `made_by`. None keeps
            nothing.

    Returns:
        The model, and the loss of each step of the stages that were not found done.
    """
    model, heads = build(seed, stages[0].image_size), FeatureHeads(_CHANNELS, len(SURFACES) + 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for head in (heads.surface, heads.embedding):
            head.reset_parameters()
    if warmup_steps and not _resume(checkpoints, "warmup", model, heads):
        warmup.warm_up(model, np.random.default_rng((seed, 0)), warmup_steps)
        _keep(checkpoints, "warmup", model, heads)
    losses: list[float] = []
    for number, stage in enumerate(stages, 1):
        resized = build(seed, stage.image_size)
        resized.load_state_dict(model.state_dict())
        model = resized
        if not _resume(checkpoints, stage.name, model, heads):
            losses += run_stage(model, heads, scenes, stage, np.random.default_rng((seed, number)))
            _keep(checkpoints, stage.name, model, heads)
    return model, losses


def run_stage(
    model: TinySam2, heads: FeatureHeads, scenes: Scenes, stage: Stage, rng: np.random.Generator
) -> list[float]:
    """Train for one stage.

    Args:
        model: Of the stage's image size; changed in place.
        heads: Likewise.
        scenes: What to train on.
        stage: What to do.
        rng: Source of chance.

    Returns:
        The loss of each step.
    """
    optimizer = torch.optim.AdamW(
        [*model.parameters(), *heads.parameters()], lr=stage.lr[0], betas=(0.9, 0.98), weight_decay=0.02
    )
    losses: list[float] = []
    started = time.perf_counter()
    for step in range(stage.steps):
        done = step / stage.steps
        lr = stage.lr[1] + (stage.lr[0] - stage.lr[1]) * 0.5 * (1.0 + math.cos(math.pi * done))
        optimizer.param_groups[0]["lr"] = lr * min(1.0, (step + 1) / 50)
        batch = draw_batch(scenes, rng, stage.mix, stage.image_size, stage.num_scenes, stage.num_prompts)
        levels = encode(model, batch.images)
        balanced = stage.balanced * max(0.0, 1.0 - 3.0 * done)
        loss = _prompts_loss(model, levels, batch, rng, balanced, stage.settled)
        weight = stage.heads[0] + (stage.heads[1] - stage.heads[0]) * done
        if weight:
            loss = loss + weight * heads(levels, batch.cells, batch.surfaces)
        update(optimizer, loss)
        losses.append(loss.item())
        if (step + 1) % _LOG_EVERY == 0:
            mean, seconds = np.mean(losses[-_LOG_EVERY:]), time.perf_counter() - started
            _log.info("%s step %d loss %.4f, %.0f s", stage.name, step + 1, mean, seconds)
    return losses


def _prompts_loss(
    model: TinySam2, levels: list[torch.Tensor], batch: Batch, rng: np.random.Generator, balanced: float, settled: bool
) -> torch.Tensor:
    """The loss of a batch; half of the time with a second round, in which each prompt gets a point on an error."""
    side = model.image_size // 2
    targets = _resized(batch.targets, side)
    logits, scores = decode(model, levels, batch.coords_xy, batch.labels)
    logits = _resized_logits(logits, side)
    loss = prompt_loss(logits, scores, targets, _settled(batch.labels) if settled else None)
    if balanced:
        loss = loss + balanced * balanced_loss(logits, targets)
    if rng.random() < 0.5:
        return loss
    coords_xy, labels = _with_error_point(rng, batch, logits.detach(), scores.detach(), targets)
    logits, scores = decode(model, levels, coords_xy, labels)
    again = prompt_loss(_resized_logits(logits, side), scores, targets, _settled(labels) if settled else None)
    return 0.5 * (loss + again)


def _settled(labels: torch.Tensor) -> torch.Tensor:
    """Which prompts leave nothing open: those with two positive points or more."""
    return (labels == 1.0).sum(1) >= 2


def _with_error_point(
    rng: np.random.Generator, batch: Batch, logits: torch.Tensor, scores: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The prompts, each with one more point where the chosen mask is wrong, off the edges where that is possible."""
    rows = torch.arange(len(logits))
    chosen = logits[rows, 1 + scores[:, 1:].argmax(1)] > 0.0
    wrong = (chosen != (targets > 0.5)).float()
    deep = -F.max_pool2d(-wrong[:, None], 5, 1, 2)[:, 0]
    points, labels = [], []
    for row in range(len(wrong)):
        places = np.flatnonzero(deep[row]) if deep[row].any() else np.flatnonzero(wrong[row])
        if not len(places):
            places = np.flatnonzero(targets[row] > 0.5)
        spot = int(rng.choice(places))
        y, x = divmod(spot, wrong.shape[-1])
        points.append([(x + 0.5) / wrong.shape[-1], (y + 0.5) / wrong.shape[-1]])
        labels.append([float(targets[row, y, x] > 0.5)])
    more = torch.tensor(points, dtype=torch.float32)[:, None]
    return torch.cat([batch.coords_xy, more], 1), torch.cat([batch.labels, torch.tensor(labels)], 1)


def _resized(targets: torch.Tensor, side: int) -> torch.Tensor:
    """Targets (N, H, W) in another size, again 0 or 1."""
    resized = F.interpolate(targets[:, None], (side, side), mode="bilinear", align_corners=False, antialias=True)
    return (resized[:, 0] > 0.5).float()


def _resized_logits(logits: torch.Tensor, side: int) -> torch.Tensor:
    """Logits in the size of the loss: finer than the decoder's, so that edges are learnt below its pixels."""
    return F.interpolate(logits, (side, side), mode="bilinear", align_corners=False)


def _keep(folder: Path | None, name: str, model: TinySam2, heads: FeatureHeads) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f"{name}.partial"
        torch.save({"model": model.state_dict(), "heads": heads.state_dict()}, partial)
        partial.replace(folder / f"{name}.pt")


def _resume(folder: Path | None, name: str, model: TinySam2, heads: FeatureHeads) -> bool:
    if folder is None or not (folder / f"{name}.pt").is_file():
        return False
    state = torch.load(folder / f"{name}.pt", weights_only=True)
    model.load_state_dict(state["model"])
    heads.load_state_dict(state["heads"])
    return True
