"""The numbers that a finished stage leaves behind for logs and validation, by name."""

from __future__ import annotations

from dataclasses import asdict

from verl_socio.answer import Status
from verl_socio.episode import Episode, StageResult
from verl_socio.metrics import measure


def stage_record(episode: Episode, result: StageResult) -> dict[str, float]:
    """Plain numbers about one stage of one episode.

    Returns:
        `reward` and `reward/<term>` (each term's own range), `parse_failure` and `nothing_found` (0 or 1), `boxes` and
        `points` an answer, and the fields of `MaskScore`: how mask and target overlap.
    """
    target = episode.scene.target
    assert result.reward is not None and target is not None, "training scenes have a target"
    prompts, answered = result.answer.prompts, result.answer.status is not Status.UNPARSEABLE
    overlap = asdict(measure(result.mask_hw, target.mask_hw, target.ignored_hw, answered=answered))
    record = {
        "reward": result.reward.total,
        "parse_failure": float(not answered),
        "nothing_found": float(result.answer.status is Status.EMPTY),
        "boxes": float(sum(prompt.box_xyxy is not None for prompt in prompts)),
        "points": float(sum(len(prompt.points_xy) for prompt in prompts)),
        **{name: float(value) for name, value in overlap.items()},
    }
    return record | {f"reward/{name}": value for name, value in result.reward.parts.items()}
