"""A stand-in without a model, for tests and dry runs: it fills what it is shown."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from verl_socio.answer import Prompt
from verl_socio.data.sample import ImageRef
from verl_socio.masks import Masks, SegmentationError
from verl_socio.segment import prompts as layout
from verl_socio.segment.counters import Counters

# A disc's radius in parts of the image's shorter side.
_DISC = 1 / 16


class BoxSegmenter:
    """Fills boxes. It looks at the image's size and at nothing else: never train or report results with it.

    A pixel belongs to a prompt's mask when its centre lies in the box; for a prompt without a box, in a disc around
    one of its positive points, of a radius of a sixteenth of the image's shorter side. Every predicted IoU is 1.
    """

    def __init__(self) -> None:
        """Start counting."""
        self._counters = Counters()

    async def segment(self, image: ImageRef, prompts: Sequence[Prompt]) -> Masks:
        """Fill each prompt's shape; arguments, result and errors as for `Sam2Segmenter.segment`."""
        layout.check(prompts)
        self._counters += Counters(requests=1)
        try:
            width, height = await asyncio.to_thread(lambda: image.size_wh)
        except ValueError as error:
            self._counters += Counters(failures=1)
            raise SegmentationError(image.uri, str(error)) from error
        if not prompts:
            return Masks.none((width, height))
        self._counters += Counters(prompts=len(prompts))
        masks_nhw = np.stack([_fill(prompt, width, height) for prompt in prompts])
        return Masks(masks_nhw, np.ones(len(prompts)))

    async def counters(self, *, reset: bool = False) -> Counters:
        """What was done so far; with `reset`, counting starts again from zero."""
        counters = self._counters
        if reset:
            self._counters = Counters()
        return counters

    async def reset_features(self) -> None:
        """There are none."""

    def close(self) -> None:
        """There is nothing to end."""


def _fill(prompt: Prompt, width: int, height: int) -> np.ndarray:
    """One prompt's mask: bool (H, W)."""
    x = np.arange(width)[None, :] + 0.5
    y = np.arange(height)[:, None] + 0.5
    if prompt.box_xyxy is not None:
        left, top, right, bottom = prompt.box_xyxy
        return (x >= left) & (x < right) & (y >= top) & (y < bottom)
    mask_hw = np.zeros((height, width), dtype=bool)
    for (point_x, point_y), label in zip(prompt.points_xy, prompt.labels, strict=True):
        if label == 1:
            mask_hw |= (x - point_x) ** 2 + (y - point_y) ** 2 <= (_DISC * min(width, height)) ** 2
    return mask_hw
