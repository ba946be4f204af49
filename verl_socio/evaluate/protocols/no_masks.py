"""Where a protocol asks for boxes or counts alone, no segmenter is loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from verl_socio.answer import Prompt
from verl_socio.data.sample import ImageRef
from verl_socio.masks import Masks, SegmentationError


class NoMasks:
    """Segments nothing. It is a `verl_socio.episode.Segment`."""

    async def segment(self, image: ImageRef, prompts: Sequence[Prompt]) -> Masks:
        """No mask at all, whatever the prompts.

        Raises:
            SegmentationError: The image cannot be read.
        """
        try:
            return Masks.none(await asyncio.to_thread(lambda: image.size_wh))
        except ValueError as error:
            raise SegmentationError(image.uri, str(error)) from error
