import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from verl_socio.answer import Prompt
from verl_socio.data.sample import ImageRef
from verl_socio.masks import SegmentationError
from verl_socio.segment.config import SegmenterConfig
from verl_socio.segment.counters import Counters
from verl_socio.segment.loader import load_predictor
from verl_socio.segment.sam2_model import Features, Sam2Model
from verl_socio.segment.sam2_segmenter import DeviceError, Sam2Segmenter

BOXES = [Prompt((5.0, 6.0, 60.0, 40.0)), Prompt((1.0, 1.0, 30.0, 20.0))]


class GatedModel(Sam2Model):
    """The real model, which waits at the encoder's door until it is let in."""

    gate: threading.Event

    def encode(self, image: Image.Image) -> Features:
        assert self.gate.wait(timeout=60)
        return super().encode(image)


@pytest.fixture
def segmenter() -> Iterator[Sam2Segmenter]:
    made = Sam2Segmenter.from_config(SegmenterConfig(device="cpu", cache_images=2))
    yield made
    made.close()


@pytest.fixture
def gated() -> Iterator[tuple[Sam2Segmenter, threading.Event]]:
    model = GatedModel(load_predictor(SegmenterConfig(device="cpu")))
    model.gate = threading.Event()
    made = Sam2Segmenter(model, cache_images=8)
    yield made, model.gate
    model.gate.set()
    made.close()


def test_many_requests_of_few_images_encode_each_image_once(picture: Callable[..., ImageRef]) -> None:
    segmenter = Sam2Segmenter.from_config(SegmenterConfig(device="cpu"))
    images = [picture(seed) for seed in range(3)]

    async def step() -> Counters:
        found = await asyncio.gather(*[segmenter.segment(image, BOXES) for image in images for _ in range(8)])
        assert {masks.masks_nhw.shape for masks in found} == {(2, 64, 96)}
        for start in (0, 8, 16):
            assert all(np.array_equal(found[start].masks_nhw, masks.masks_nhw) for masks in found[start : start + 8])
        return await segmenter.counters()

    counters = asyncio.run(step())
    assert (counters.requests, counters.encodes, counters.cache_hits) == (24, 3, 21)
    assert (counters.decodes, counters.prompts, counters.failures) == (24, 48, 0)
    assert counters.encode_s > 0 and counters.decode_s > 0
    # A second stage, in another event loop, finds the features of the first.
    counters = asyncio.run(step())
    assert (counters.requests, counters.encodes) == (48, 3)
    segmenter.close()


def test_waiting_for_the_encoder_does_not_stop_the_event_loop(
    gated: tuple[Sam2Segmenter, threading.Event], picture: Callable[..., ImageRef]
) -> None:
    segmenter, gate = gated

    async def run() -> None:
        requests = [asyncio.ensure_future(segmenter.segment(picture(), BOXES)) for _ in range(4)]
        await asyncio.sleep(0.05)
        assert not any(request.done() for request in requests)
        gate.set()  # only a loop that still runs gets here; the encoder would wait for it in vain otherwise
        await asyncio.gather(*requests)

    asyncio.run(run())
    assert asyncio.run(segmenter.counters()).encodes == 1


def test_a_caller_that_gives_up_leaves_the_features_to_the_others(
    gated: tuple[Sam2Segmenter, threading.Event], picture: Callable[..., ImageRef]
) -> None:
    segmenter, gate = gated

    async def run() -> None:
        first = asyncio.ensure_future(segmenter.segment(picture(), BOXES))
        second = asyncio.ensure_future(segmenter.segment(picture(), BOXES))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        gate.set()
        assert len((await second).masks_nhw) == 2
        assert first.cancelled()

    asyncio.run(run())
    assert asyncio.run(segmenter.counters()).encodes == 1


def test_the_least_recently_used_image_is_dropped(segmenter: Sam2Segmenter, picture: Callable[..., ImageRef]) -> None:
    async def encodes_after(*seeds: int) -> int:
        for seed in seeds:
            await segmenter.segment(picture(seed), BOXES)
        return (await segmenter.counters()).encodes

    assert asyncio.run(encodes_after(0, 1, 0)) == 2
    assert asyncio.run(encodes_after(2)) == 3  # drops 1, for 0 was used later
    assert asyncio.run(encodes_after(0)) == 3
    assert asyncio.run(encodes_after(1)) == 4


def test_dropped_features_are_computed_again(segmenter: Sam2Segmenter, picture: Callable[..., ImageRef]) -> None:
    async def run() -> None:
        before = await segmenter.segment(picture(), BOXES)
        await segmenter.reset_features()
        after = await segmenter.segment(picture(), BOXES)
        assert np.array_equal(before.masks_nhw, after.masks_nhw)
        assert (await segmenter.counters(reset=True)).encodes == 2
        assert await segmenter.counters() == Counters()

    asyncio.run(run())


def test_no_prompt_gives_no_mask_and_encodes_nothing(
    segmenter: Sam2Segmenter, picture: Callable[..., ImageRef]
) -> None:
    masks = asyncio.run(segmenter.segment(picture(size_wh=(50, 30)), []))
    assert masks.masks_nhw.shape == (0, 30, 50)
    assert asyncio.run(segmenter.counters()) == Counters(requests=1)
    with pytest.raises(SegmentationError, match=r"/gone\.png"):
        asyncio.run(segmenter.segment(ImageRef("/gone.png"), []))


def test_nonsense_prompts_are_the_callers_error(segmenter: Sam2Segmenter, picture: Callable[..., ImageRef]) -> None:
    with pytest.raises(ValueError, match=r"prompts\[0\]"):
        asyncio.run(segmenter.segment(picture(), [Prompt(None)]))


def test_an_unreadable_image_fails_all_who_asked_and_can_be_asked_for_again(
    segmenter: Sam2Segmenter, tmp_path: Path, picture: Callable[..., ImageRef]
) -> None:
    broken = ImageRef(str(tmp_path / "broken.png"))
    Path(broken.uri).write_bytes(b"no picture")

    async def run() -> None:
        found = await asyncio.gather(*[segmenter.segment(broken, BOXES) for _ in range(4)], return_exceptions=True)
        assert all(isinstance(error, SegmentationError) and broken.uri in str(error) for error in found)
        assert (await segmenter.counters()).failures == 4
        Path(broken.uri).write_bytes(Path(picture().uri).read_bytes())
        assert len((await segmenter.segment(broken, BOXES)).masks_nhw) == 2

    asyncio.run(run())


def test_a_model_that_computes_nonsense_fails_instead_of_giving_empty_masks(picture: Callable[..., ImageRef]) -> None:
    predictor = load_predictor(SegmenterConfig(device="cpu"))
    with torch.no_grad():
        predictor.model.sam_mask_decoder.mask_tokens.weight.fill_(float("nan"))
    segmenter = Sam2Segmenter(Sam2Model(predictor), cache_images=2)
    with pytest.raises(SegmentationError, match=r"decoding 2 prompts: NonFiniteError") as caught:
        asyncio.run(segmenter.segment(picture(), BOXES))
    assert caught.value.uri == picture().uri
    assert asyncio.run(segmenter.counters()).failures == 1
    segmenter.close()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), SegmentationError),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), DeviceError),
    ],
)
def test_an_encoder_that_fails_says_whether_this_process_can_go_on(
    picture: Callable[..., ImageRef], error: RuntimeError, kind: type[SegmentationError]
) -> None:
    class FailingModel(Sam2Model):
        def encode(self, image: Image.Image) -> Features:
            raise error

    segmenter = Sam2Segmenter(FailingModel(load_predictor(SegmenterConfig(device="cpu"))), cache_images=2)
    with pytest.raises(SegmentationError, match="encoding: ") as caught:
        asyncio.run(segmenter.segment(picture(), BOXES))
    assert type(caught.value) is kind
    segmenter.close()
