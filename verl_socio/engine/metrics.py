"""What a training step says about itself, by stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch

from verl_socio.metrics import MaskScore, SegmentationScore


def agreement(rollout_log_probs: torch.Tensor, actor_log_probs: torch.Tensor, mask: torch.Tensor) -> dict[str, float]:
    """How well vLLM and the actor agree about the tokens that vLLM sampled.

    Args:
        rollout_log_probs: vLLM's log-probabilities, (rows, tokens) float.
        actor_log_probs: The actor's, the same shape, before its update.
        mask: 1 where the model wrote a token, the same shape.

    Returns:
        `pearson` (-1 to 1; 1 where both are constant and equal), `mean_diff` and `max_diff` (nats, absolute).
        They are what shows a failed weight update or an image that only one of the two has seen.
    """
    chosen = mask.bool()
    rollout, actor = rollout_log_probs[chosen].double(), actor_log_probs[chosen].double()
    difference = (rollout - actor).abs()
    centred_rollout, centred_actor = rollout - rollout.mean(), actor - actor.mean()
    scale = centred_rollout.norm() * centred_actor.norm()
    pearson = float(centred_rollout @ centred_actor / scale) if scale > 0 else float(difference.max() == 0)
    return {"pearson": pearson, "mean_diff": float(difference.mean()), "max_diff": float(difference.max())}


def stage_metrics(name: str, records: Sequence[Mapping[str, float]], groups: Sequence[str]) -> dict[str, float]:
    """Means over the rows of one stage.

    Args:
        name: The stage's name; the metrics are called `<name>/...`.
        records: One record a row, as `stage_record` writes it.
        groups: The question of each row.

    Returns:
        Means of every number in the records; `ciou`, `giou`, `f1` (each in 0..1); `giou_error`, the standard error of
        giou; `reward_std`; and `zero_variance_groups`, the share of questions whose rewards are all equal, which teach
        nothing.
    """
    rewards: dict[str, list[float]] = {}
    for record, group in zip(records, groups, strict=True):
        rewards.setdefault(group, []).append(record["reward"])
    overlap = {field.name: float if field.name == "iou" else int for field in fields(MaskScore)}
    summary = {key: float(np.mean([record[key] for record in records])) for key in records[0] if key not in overlap}
    score = SegmentationScore()
    for record in records:
        counted: dict[str, Any] = {name: kind(record[name]) for name, kind in overlap.items()}
        score.add(MaskScore(**counted))
    summary |= {name: value for name, value in score.compute().items() if name != "n"}
    summary["giou_error"] = float(np.std([record["iou"] for record in records]) / np.sqrt(len(records)))
    summary["reward_std"] = float(np.std([record["reward"] for record in records]))
    summary["zero_variance_groups"] = float(np.mean([np.ptp(values) == 0 for values in rewards.values()]))
    return {f"{name}/{key}": value for key, value in summary.items()}
