import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from verl_socio.answer import Prompt
from verl_socio.data.sample import ImageRef
from verl_socio.masks import SegmentationError
from verl_socio.segment.box_segmenter import BoxSegmenter
from verl_socio.segment.counters import Counters


def test_a_box_is_filled_where_pixel_centres_lie_in_it(picture: Callable[..., ImageRef]) -> None:
    prompts = [Prompt((1.0, 2.0, 3.0, 3.0)), Prompt((0.6, 0.0, 2.5, 1.0)), Prompt((-9.0, -9.0, 999.0, 999.0))]
    masks = asyncio.run(BoxSegmenter().segment(picture(size_wh=(6, 4)), prompts))
    assert masks.masks_nhw.shape == (3, 4, 6)
    assert np.argwhere(masks.masks_nhw[0]).tolist() == [[2, 1], [2, 2]]
    assert np.argwhere(masks.masks_nhw[1]).tolist() == [[0, 1]]
    assert masks.masks_nhw[2].all()
    assert masks.predicted_iou.tolist() == [1.0, 1.0, 1.0]


def test_points_alone_fill_discs_around_the_positive_ones(picture: Callable[..., ImageRef]) -> None:
    prompt = Prompt(None, ((8.0, 8.0), (24.0, 24.0)), (1, 0))
    mask_hw = asyncio.run(BoxSegmenter().segment(picture(size_wh=(32, 32)), [prompt])).masks_nhw[0]
    assert mask_hw[8, 8] and not mask_hw[24, 24]
    assert abs(mask_hw.sum() - np.pi * 2**2) < 4


def test_no_prompt_gives_no_mask_and_a_missing_image_is_a_failure(picture: Callable[..., ImageRef]) -> None:
    segmenter = BoxSegmenter()
    assert asyncio.run(segmenter.segment(picture(size_wh=(5, 3)), [])).masks_nhw.shape == (0, 3, 5)
    with pytest.raises(SegmentationError, match=r"/gone\.png"):
        asyncio.run(segmenter.segment(ImageRef("/gone.png"), [Prompt((0.0, 0.0, 1.0, 1.0))]))
    assert asyncio.run(segmenter.counters(reset=True)) == Counters(requests=2, failures=1)
    assert asyncio.run(segmenter.counters()) == Counters()
