"""Prompts as SAM2's prompt encoder takes them: points only, a box being two of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from verl_socio.answer import Prompt
from verl_socio.errors import invalid

# SAM's labels of a box's corners, beside 1 (on the object) and 0 (off it).
_TOP_LEFT, _BOTTOM_RIGHT = 2, 3


@dataclass(frozen=True, eq=False)
class Batch:
    """Prompts of one length, decoded together.

    Attributes:
        indices: Their places in the answer, (B,).
        coords_xy: float32 (B, P, 2), the image's own pixels; a box's two corners first.
        labels: int32 (B, P).
    """

    indices: np.ndarray
    coords_xy: np.ndarray
    labels: np.ndarray


def check(prompts: Sequence[Prompt]) -> None:
    """Refuse what SAM2 would answer with nonsense.

    Raises:
        ValueError: A prompt has neither a box nor a point, or a coordinate that is not finite.
    """
    for index, prompt in enumerate(prompts):
        if prompt.box_xyxy is None and not prompt.points_xy:
            raise invalid(f"prompts[{index}]", prompt, "must have a box or a point", "leave the prompt out")
        if not np.isfinite([*(prompt.box_xyxy or ()), *np.ravel(prompt.points_xy)]).all():
            raise invalid(f"prompts[{index}]", prompt, "must have finite coordinates", "leave the prompt out")


def batches(prompts: Sequence[Prompt], limit: int) -> Iterator[Batch]:
    """Put prompts of the same number of points into batches.

    An answer's prompts are mostly of one kind (a box each, or a box and two points each) and make one batch. Shorter
    ones could be filled up to the longest with SAM's label for "no point", but the decoder's attention looks at every
    such filler, which it met in training once a prompt and not more: a mask would then depend on the other prompts of
    its answer. Batches of one length give exactly what single calls give.

    Args:
        prompts: Checked prompts.
        limit: Prompts a batch at most.

    Yields:
        The batches; each index occurs once.
    """
    by_length: dict[int, list[int]] = defaultdict(list)
    tokens = [_tokens(prompt) for prompt in prompts]
    for index, (coords_xy, _) in enumerate(tokens):
        by_length[len(coords_xy)].append(index)
    for members in by_length.values():
        for start in range(0, len(members), limit):
            part = members[start : start + limit]
            yield Batch(
                np.array(part),
                np.array([tokens[index][0] for index in part], dtype=np.float32),
                np.array([tokens[index][1] for index in part], dtype=np.int32),
            )


def _tokens(prompt: Prompt) -> tuple[list[tuple[float, float]], list[int]]:
    coords_xy, labels = list(prompt.points_xy), list(prompt.labels)
    if prompt.box_xyxy is not None:
        left, top, right, bottom = prompt.box_xyxy
        coords_xy = [(left, top), (right, bottom), *coords_xy]
        labels = [_TOP_LEFT, _BOTTOM_RIGHT, *labels]
    return coords_xy, labels
