"""Real Ray actors, really crashed. Functions sent to them are local ones: workers cannot import this file."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch

from verl_socio.answer import Prompt
from verl_socio.data.sample import ImageRef
from verl_socio.masks import SegmentationError
from verl_socio.segment import SegmenterConfig, create
from verl_socio.segment.counters import Counters
from verl_socio.segment.pool import SegmenterPool

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

BOXES = [Prompt((5.0, 6.0, 60.0, 40.0)), Prompt((1.0, 1.0, 30.0, 20.0), ((4.0, 4.0),), (1,))]
SETTINGS: dict[str, Any] = {"num_cpus": 0.25, "device": "cpu"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(num_cpus=2, num_gpus=0, include_dashboard=False, object_store_memory=150_000_000)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def shared(cluster: None) -> Iterator[SegmenterPool]:
    made = SegmenterPool.create(SegmenterConfig(num_actors=2, restarts=1, **SETTINGS), name="shared")
    yield made
    made.close()


@pytest.fixture
def pool(shared: SegmenterPool) -> SegmenterPool:
    """The shared pool as if it were new."""
    asyncio.run(shared.reset_features())
    asyncio.run(shared.counters(reset=True))
    return shared


def test_each_image_is_encoded_once_in_the_whole_pool(pool: SegmenterPool, picture: Callable[..., ImageRef]) -> None:
    images = [picture(seed) for seed in range(5)]
    alone = create(SegmenterConfig(device="cpu"))

    async def run() -> Counters:
        found = await asyncio.gather(*[pool.segment(image, BOXES) for image in images for _ in range(6)])
        for index, image in enumerate(images):
            expected = await alone.segment(image, BOXES)
            for masks in found[6 * index : 6 * index + 6]:
                assert (masks.masks_nhw == expected.masks_nhw).mean() > 0.999
                assert masks.predicted_iou == pytest.approx(expected.predicted_iou, abs=1e-5)
                assert masks.masks_nhw.flags.writeable  # memory of this process, not of Ray's object store
        encodes = [(await actor.counters.remote(reset=False)).encodes for actor in pool._actors]
        assert min(encodes) >= 1  # both actors have work
        return await pool.counters(reset=True)

    counters = asyncio.run(run())
    assert (counters.requests, counters.encodes, counters.cache_hits, counters.failures) == (30, 5, 25, 0)
    assert asyncio.run(pool.counters()) == Counters()
    alone.close()


def test_other_processes_share_the_pool_by_name_and_by_handle(
    pool: SegmenterPool, picture: Callable[..., ImageRef]
) -> None:
    async def segment_in_worker(self: object, shared: SegmenterPool | str, image: ImageRef) -> int:
        from verl_socio.segment.pool import SegmenterPool

        theirs = SegmenterPool.find(shared) if isinstance(shared, str) else shared
        return int((await theirs.segment(image, [Prompt((0.0, 0.0, 9.0, 9.0))])).masks_nhw.sum())

    worker = ray.remote(num_cpus=0.25)(type("Worker", (), {"segment": segment_in_worker}))
    workers = [worker.remote() for _ in range(2)]
    areas = ray.get([workers[0].segment.remote("shared", picture()), workers[1].segment.remote(pool, picture())])
    assert areas[0] == areas[1]
    counters = asyncio.run(pool.counters())
    assert (counters.requests, counters.encodes) == (2, 1)


def test_dropped_features_are_dropped_everywhere(pool: SegmenterPool, picture: Callable[..., ImageRef]) -> None:
    async def run() -> int:
        for _ in range(2):
            await asyncio.gather(*[pool.segment(picture(seed), BOXES) for seed in range(4)])
            await pool.reset_features()
        return (await pool.counters()).encodes

    assert asyncio.run(run()) == 8


def test_failures_arrive_as_they_were_raised(pool: SegmenterPool, picture: Callable[..., ImageRef]) -> None:
    with pytest.raises(SegmentationError, match=r"^segmentation of /gone\.png failed: .*must be an existing") as caught:
        asyncio.run(pool.segment(ImageRef("/gone.png"), BOXES))
    assert caught.value.uri == "/gone.png"
    with pytest.raises(ValueError, match=r"prompts\[0\]"):
        asyncio.run(pool.segment(picture(), [Prompt(None)]))
    assert asyncio.run(pool.segment(picture(size_wh=(7, 5)), [])).masks_nhw.shape == (0, 5, 7)
    assert asyncio.run(pool.counters()).failures == 1


def _crash_soon(pool: SegmenterPool, *flags: Path) -> None:
    """Let every actor end its process, for each flag once, with all requests sent in the meantime under way."""

    def crash(host: object, names: list[str]) -> None:
        import os
        import time

        for name in names:
            if not os.path.exists(name):
                open(name, "x").close()
                time.sleep(1.0)
                os._exit(1)

    for index, actor in enumerate(pool._actors):
        actor.__ray_call__.remote(crash, [f"{flag}-{index}" for flag in flags])


def test_a_crashed_actor_is_started_again_and_its_requests_repeated(
    pool: SegmenterPool, picture: Callable[..., ImageRef], tmp_path: Path
) -> None:
    images = [picture(seed) for seed in range(4)]

    async def run() -> None:
        pids = await _pids(pool)
        before = [await pool.segment(image, BOXES) for image in images]
        _crash_soon(pool, tmp_path / "once")
        after = await asyncio.gather(*[pool.segment(image, BOXES) for image in images])
        assert all(np.array_equal(a.masks_nhw, b.masks_nhw) for a, b in zip(before, after, strict=True))
        assert not set(pids) & set(await _pids(pool))
        counters = await pool.counters(reset=True)
        assert (counters.restarts, counters.requests, counters.encodes) == (2, 4, 4)  # the new processes' own
        assert (await pool.counters()).restarts == 0

    asyncio.run(run())


def test_a_request_is_not_repeated_for_ever(
    pool: SegmenterPool, picture: Callable[..., ImageRef], tmp_path: Path
) -> None:

    async def run() -> None:
        # The crashing call is itself repeated once; a third process would find nothing left to crash it.
        _crash_soon(pool, tmp_path / "first", tmp_path / "second")
        with pytest.raises(SegmentationError, match="its segmenter crashed, asked 2 times at most") as caught:
            await pool.segment(picture(), BOXES)
        assert caught.value.uri == picture().uri
        assert len((await pool.segment(picture(), BOXES)).masks_nhw) == 2  # the actor itself lives on

    asyncio.run(run())


def test_an_actor_whose_gpu_is_lost_ends_itself_and_is_replaced(
    pool: SegmenterPool, picture: Callable[..., ImageRef]
) -> None:

    def lose_gpu(host: Any) -> None:
        def fail(*_: object) -> None:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

        host._segmenter._model.encode = fail

    async def run() -> None:
        pids = set(await _pids(pool))
        await asyncio.gather(*[actor.__ray_call__.remote(lose_gpu) for actor in pool._actors])
        assert len((await pool.segment(picture(), BOXES)).masks_nhw) == 2
        # The actor that was asked has a new process; the other one never noticed.
        assert len(pids & set(await _pids(pool))) == 1

    asyncio.run(run())


def test_an_actor_that_does_not_answer_in_time_fails(cluster: None, picture: Callable[..., ImageRef]) -> None:
    pool = SegmenterPool.create(SegmenterConfig(weights="boxes", timeout_s=20, **SETTINGS), name="late")
    hurried = SegmenterPool(pool._actors, SegmenterConfig(weights="boxes", timeout_s=0.2, **SETTINGS))

    def sleep(host: object) -> None:
        import time

        time.sleep(3.0)

    async def run() -> None:
        assert len((await pool.segment(picture(), BOXES)).masks_nhw) == 2
        pool._actors[0].__ray_call__.remote(sleep)
        with pytest.raises(SegmentationError, match=r"no answer within 0\.2 s"):
            await hurried.segment(picture(), BOXES)
        assert len((await pool.segment(picture(), BOXES)).masks_nhw) == 2

    asyncio.run(run())
    pool.close()


def test_a_pool_is_joined_by_its_name_if_the_settings_agree(cluster: None, picture: Callable[..., ImageRef]) -> None:
    config = SegmenterConfig(weights="boxes", **SETTINGS)
    pool = SegmenterPool.create(config, name="joined")
    joined = SegmenterPool.create(config, name="joined")
    asyncio.run(joined.segment(picture(), BOXES))
    assert asyncio.run(pool.counters()).requests == 1
    with pytest.raises(ValueError, match=r"^segmenter pool = 'joined': is running with other settings"):
        SegmenterPool.create(SegmenterConfig(weights="boxes", cache_images=3, **SETTINGS), name="joined")
    pool.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": "/gone.pt"}, "^segmenter.weights = '/gone.pt': must be"),
        ({"num_cpus": 1.0, "num_actors": 9}, "^segmenter.num_cpus = 1.0: must fit the cluster: 9 actors need 9 CPU"),
        ({"num_gpus": 0.5}, r"^segmenter.num_gpus = 0.5: must fit the cluster: 1 actors need 0.5 GPU, there are 0"),
    ],
)
def test_what_cannot_start_is_refused_at_once(cluster: None, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SegmenterPool.create(SegmenterConfig(**settings), name="refused")


def test_weights_that_do_not_load_are_a_users_error(cluster: None, tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.zeros(1)}}, tmp_path / "sam2_hiera_tiny.pt")
    with pytest.raises(ValueError, match=r"^segmenter.weights = .*must load in a Ray actor .*469 weights differ"):
        SegmenterPool.create(SegmenterConfig(weights=str(tmp_path), **SETTINGS), name="unfit")


def test_an_actor_that_is_granted_nothing_is_reported(cluster: None) -> None:
    @ray.remote(num_cpus=1.25)
    class Hog:
        def ready(self) -> bool:
            return True

    hog = Hog.remote()
    assert ray.get(hog.ready.remote())
    with pytest.raises(ValueError, match=r"^segmenter = 'num_cpus 1.0.*must be granted within 2 s; free"):
        SegmenterPool.create(SegmenterConfig(weights="boxes", num_cpus=1.0, timeout_s=2), name="waiting")
    ray.kill(hog)


def test_a_pool_that_nobody_started_is_not_found(cluster: None) -> None:
    with pytest.raises(ValueError, match=r"^segmenter pool = 'nobody': must be running"):
        SegmenterPool.find("nobody")


async def _pids(pool: SegmenterPool) -> list[int]:
    def pid(host: object) -> int:
        import os

        return os.getpid()

    return list(await asyncio.gather(*[actor.__ray_call__.remote(pid) for actor in pool._actors]))
