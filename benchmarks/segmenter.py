"""What encoding an image once is worth: the same requests with kept features, and with an encode a request.

python benchmarks/segmenter.py                                          # the embedded model
python benchmarks/segmenter.py --shape sam2_hiera_l --size 756          # a published shape, random weights
python benchmarks/segmenter.py --weights facebook/sam2-hiera-large      # published weights
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from verl_socio.answer import Prompt
from verl_socio.data.sample import ImageRef
from verl_socio.segment.config import EMBEDDED, SegmenterConfig
from verl_socio.segment.counters import Counters
from verl_socio.segment.loader import write_random
from verl_socio.segment.sam2_segmenter import Sam2Segmenter


@dataclass(frozen=True)
class Run:
    """One pass over all requests."""

    seconds: float
    counters: Counters


def _pictures(folder: Path, count: int, size: int) -> list[ImageRef]:
    rng = np.random.default_rng(0)
    paths = [folder / f"{index}.png" for index in range(count)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(path)
    return [ImageRef(str(path)) for path in paths]


def _boxes(count: int, size: int) -> list[Prompt]:
    corners = np.random.default_rng(1).uniform(0, size, (count, 2, 2))
    return [Prompt((*low, *high)) for low, high in zip(corners.min(axis=1), corners.max(axis=1), strict=True)]


async def _run(
    segmenter: Sam2Segmenter, images: list[ImageRef], prompts: list[Prompt], rollouts: int, *, keep: bool
) -> Run:
    await segmenter.reset_features()
    await segmenter.counters(reset=True)
    started = time.perf_counter()
    for image in images:
        for _ in range(rollouts):
            await segmenter.segment(image, prompts)
            if not keep:
                await segmenter.reset_features()
    return Run(time.perf_counter() - started, await segmenter.counters())


async def _answer_ms(segmenter: Sam2Segmenter, image: ImageRef, prompts: list[Prompt]) -> float:
    """The median of ten requests whose image's features are there."""
    taken = []
    for _ in range(10):
        started = time.perf_counter()
        await segmenter.segment(image, prompts)
        taken.append(time.perf_counter() - started)
    return 1000 * statistics.median(taken)


async def _measure(config: SegmenterConfig, arguments: argparse.Namespace, images: list[ImageRef]) -> None:
    console = Console()
    segmenter = Sam2Segmenter.from_config(config)
    await segmenter.segment(images[0], _boxes(1, arguments.size))  # the first call is slower, whatever it does

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} thread(s)"
    console.print(f"{arguments.shape or config.weights} on {device}; images of {arguments.size} px")
    table = Table("boxes a request", "a request with kept features, ms", "a box, ms")
    for count in (1, 2, 8, 16):
        milliseconds = await _answer_ms(segmenter, images[0], _boxes(count, arguments.size))
        table.add_row(str(count), f"{milliseconds:.1f}", f"{milliseconds / count:.1f}")
    console.print(table)

    prompts = _boxes(arguments.prompts, arguments.size)
    table = Table("features", "requests", "encodes", "encode, ms", "all, s", "a request, ms")
    runs = {}
    for name, keep in (("kept", True), ("an encode a request", False)):
        run = runs[name] = await _run(segmenter, images, prompts, arguments.rollouts, keep=keep)
        counted = run.counters
        encode = 1000 * counted.encode_s / counted.encodes
        request = 1000 * run.seconds / counted.requests
        row = (f"{counted.requests}", f"{counted.encodes}", f"{encode:.1f}", f"{run.seconds:.2f}", f"{request:.1f}")
        table.add_row(name, *row)
    console.print(table)
    ratio = runs["an encode a request"].seconds / runs["kept"].seconds
    console.print(f"an encode a request takes {ratio:.2f} times as long as an encode an image")
    segmenter.close()


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default=EMBEDDED, help="as segmenter.weights")
    parser.add_argument("--shape", help="random weights in the shape of this YAML instead, such as sam2_hiera_l")
    parser.add_argument("--size", type=int, default=240, help="side of the images in pixels")
    parser.add_argument("--images", type=int, default=8, help="distinct images")
    parser.add_argument("--rollouts", type=int, default=16, help="requests an image: rollouts x stages")
    parser.add_argument("--prompts", type=int, default=2, help="boxes a request")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        weights = arguments.weights
        if arguments.shape is not None:
            weights = str(write_random(arguments.shape, Path(folder) / "model").parent)
        images = _pictures(Path(folder), arguments.images, arguments.size)
        asyncio.run(_measure(SegmenterConfig(weights=weights), arguments, images))


if __name__ == "__main__":
    main()
