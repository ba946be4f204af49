"""Segmenters: prompts on an image in, masks out. One protocol, `verl_socio.episode.Segment`, and three that keep it.

`create` makes one for this process; `verl_socio.segment.pool.SegmenterPool` shares several between Ray processes.
Importing this package loads no torch, sam2 or ray: settings can be checked before anything heavy starts.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from verl_socio.masks import Masks, SegmentationError
from verl_socio.segment.config import BOXES, EMBEDDED, SegmenterConfig
from verl_socio.segment.counters import Counters
from verl_socio.segment.weights import locate

if TYPE_CHECKING:
    from verl_socio.segment.box_segmenter import BoxSegmenter
    from verl_socio.segment.sam2_segmenter import Sam2Segmenter

__all__ = ["BOXES", "EMBEDDED", "Counters", "Masks", "SegmentationError", "SegmenterConfig", "create", "locate"]

_log = logging.getLogger(__name__)


def create(config: SegmenterConfig) -> Sam2Segmenter | BoxSegmenter:
    """Make a segmenter in this process.

    Args:
        config: Its settings; those of the pool (`num_actors` and the following) are not used.

    Returns:
        A segmenter with `segment`, `counters`, `reset_features` and `close`.

    Raises:
        ValueError: The weights, their YAML or the device are not there; missing files are found before torch loads.
    """
    locate(config)
    if config.weights == BOXES:
        from verl_socio.segment.box_segmenter import BoxSegmenter

        _log.warning("segmenter.weights is 'boxes': every mask is its box. No result made with it means anything.")
        return BoxSegmenter()
    from verl_socio.segment.sam2_segmenter import Sam2Segmenter

    return Sam2Segmenter.from_config(config)
