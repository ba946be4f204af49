"""SAM2 as a segmenter: an image is encoded once, an answer is decoded in one go, the event loop stays free."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import torch
from PIL import Image

from verl_socio.answer import Prompt
from verl_socio.data.sample import ImageRef
from verl_socio.masks import Masks, SegmentationError
from verl_socio.segment import prompts as layout
from verl_socio.segment.config import SegmenterConfig
from verl_socio.segment.counters import Counters
from verl_socio.segment.loader import load_predictor
from verl_socio.segment.sam2_model import Features, Sam2Model

# Images read ahead while another one is in the encoder.
_READERS = 2


class DeviceError(SegmentationError):
    """The GPU failed in a way that only a new process gets out of: every later request here would fail as well."""


class Sam2Segmenter:
    """Segments by prompts with one SAM2 in this process.

    All torch work runs in one thread of its own, so requests of many coroutines, and of several event loops, queue up
    there in the order they came. An image's features are kept under its uri: an image is taken not to change while
    its features are kept.
    """

    def __init__(self, model: Sam2Model, *, cache_images: int) -> None:
        """Take over a model.

        Args:
            model: Used by this segmenter alone.
            cache_images: Images whose features are kept, the least recently used ones dropped first.
        """
        self._model = model
        self._cache_images = cache_images
        self._cache: OrderedDict[str, Future[Features]] = OrderedDict()
        self._counters = Counters()
        self._lock = threading.Lock()
        self._torch_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sam2")
        self._readers = ThreadPoolExecutor(max_workers=_READERS, thread_name_prefix="sam2-read")

    @classmethod
    def from_config(cls, config: SegmenterConfig) -> Sam2Segmenter:
        """Load the model that a configuration asks for.

        Raises:
            ValueError: As for `loader.load_predictor`.
        """
        model = Sam2Model(load_predictor(config), multimask=config.multimask)
        return cls(model, cache_images=config.cache_images)

    async def segment(self, image: ImageRef, prompts: Sequence[Prompt]) -> Masks:
        """Find one mask for each prompt.

        Args:
            image: The image; read and encoded only if its features are not there.
            prompts: Boxes and points in the image's own pixels. None at all gives no mask, and encodes nothing.

        Returns:
            One mask a prompt, in their order, in the image's own size.

        Raises:
            ValueError: A prompt without box and points, or with a coordinate that is not finite.
            SegmentationError: The image cannot be read, or SAM2 failed on it; as DeviceError where this process can
                segment nothing any more.
        """
        layout.check(prompts)
        self._count(requests=1)
        try:
            if not prompts:
                return Masks.none(await asyncio.to_thread(_size_wh, image))
            # Shielded: a caller that gives up must not take the features from those who wait for the same image.
            features = await asyncio.shield(asyncio.wrap_future(self._features(image)))
            return await asyncio.wrap_future(self._torch_thread.submit(self._decode, image, features, tuple(prompts)))
        except SegmentationError:
            self._count(failures=1)
            raise

    async def counters(self, *, reset: bool = False) -> Counters:
        """What was done so far; with `reset`, counting starts again from zero."""
        with self._lock:
            counters = self._counters
            if reset:
                self._counters = Counters()
        return counters

    async def reset_features(self) -> None:
        """Drop all features, for their memory: the model is frozen, so they would have stayed right."""
        with self._lock:
            self._cache.clear()
        await asyncio.wrap_future(self._torch_thread.submit(self._model.release))

    def close(self) -> None:
        """Finish the requests under way and end the threads; no request may follow."""
        self._readers.shutdown()
        self._torch_thread.shutdown()
        self._cache.clear()

    def _features(self, image: ImageRef) -> Future[Features]:
        with self._lock:
            future = self._cache.get(image.uri)
            if future is None:
                future = self._cache[image.uri] = self._readers.submit(self._load, image)
                if len(self._cache) > self._cache_images:
                    self._cache.popitem(last=False)
                hit = False
            else:
                self._cache.move_to_end(image.uri)
                hit = True
        if hit:
            self._count(cache_hits=1)
        else:
            # Outside the lock: where the work is done already, the callback runs here and takes the lock itself.
            future.add_done_callback(lambda done: self._forget_failed(image.uri, done))
        return future

    def _forget_failed(self, uri: str, done: Future[Features]) -> None:
        """Let the next request try again; only those who waited for this attempt share its failure."""
        if done.exception() is not None:
            with self._lock:
                if self._cache.get(uri) is done:
                    del self._cache[uri]

    def _load(self, image: ImageRef) -> Features:
        try:
            picture = image.open()
        except ValueError as error:
            raise SegmentationError(image.uri, str(error)) from error
        return self._torch_thread.submit(self._encode, image, picture).result()

    def _encode(self, image: ImageRef, picture: Image.Image) -> Features:
        started = time.perf_counter()
        try:
            features = self._model.encode(picture)
        except RuntimeError as error:
            raise _failure(image, "encoding", error) from error
        self._count(encodes=1, encode_s=time.perf_counter() - started)
        return features

    def _decode(self, image: ImageRef, features: Features, prompts: tuple[Prompt, ...]) -> Masks:
        started = time.perf_counter()
        try:
            masks, batches = self._model.decode(features, prompts)
        except RuntimeError as error:
            raise _failure(image, f"decoding {len(prompts)} prompts", error) from error
        self._count(decodes=batches, prompts=len(prompts), decode_s=time.perf_counter() - started)
        return masks

    def _count(self, **done: float) -> None:
        with self._lock:
            counted = {name: getattr(self._counters, name) + value for name, value in done.items()}
            self._counters = replace(self._counters, **counted)


def _failure(image: ImageRef, doing: str, error: RuntimeError) -> SegmentationError:
    # Out of memory is another class: the next request may well fit.
    kind = DeviceError if isinstance(error, torch.AcceleratorError) else SegmentationError
    return kind(image.uri, f"{doing}: {type(error).__name__}: {error}")


def _size_wh(image: ImageRef) -> tuple[int, int]:
    try:
        return image.size_wh
    except ValueError as error:
        raise SegmentationError(image.uri, str(error)) from error
