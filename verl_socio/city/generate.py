"""Write the city as a data set in SocioSeg's raw layout, with two test sets that are unlike what was trained on."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from verl_socio.city.scene import Question, Scene, check_size, scene
from verl_socio.data.sample import LEVELS
from verl_socio.data.write import new_folder, write_raw_sample
from verl_socio.errors import invalid

SPLITS = ("train", "val", "test", "map_style", "new_region")
"""`map_style` is `test` under another provider's map; `new_region` has another layout, palette and classes."""

_SEVERAL_SHARE = 0.15
"""Share of the class and function questions that mean several places: with names, a tenth of all questions."""


@dataclass(frozen=True)
class _Job:
    """One scene to be written: into its split and, for a test scene, under the other map style too."""

    folder: str
    split: str
    index: int
    seed: int
    size_wh: tuple[int, int]


def generate(
    out: Path, samples: int, seed: int = 0, size_wh: tuple[int, int] = (140, 140), workers: int | None = None
) -> dict[str, int]:
    """Write a city.

    The same samples, seed and size give the same bytes, however many workers there are, and a sample does not depend on
    how many others there are.

    Args:
        out: Folder to write, new or empty; `<split>/<id>/{sat,map,mask}.png` and `question.json` come under it.
        samples: How many train, val and test samples together, 3 or more, shared 6:1:3 as in SocioSeg. The two further
            test sets have the size of test and come on top.
        seed: Seed, 0 or more.
        size_wh: Width and height of the images, at least 56 px each, and neither more than 4 times the other. 140 is
            five tokens of Qwen2.5-VL.
        workers: Processes; None takes one for each core.

    Returns:
        The number of samples in each split.

    Raises:
        ValueError: The folder is not empty, or an argument breaks its rule.
    """
    sizes = split_sizes(samples)
    check_size(size_wh)
    if seed < 0:
        raise invalid("seed", seed, "must be 0 or more", "use another seed")
    cores = len(os.sched_getaffinity(0))
    count = cores if workers is None else workers
    if count < 1:
        raise invalid("workers", workers, "must be 1 or more", "leave it out to use every core")
    with new_folder(Path(out)) as folder:
        jobs = [
            _Job(str(folder), split, index, seed, size_wh)
            for split in SPLITS
            if split != "map_style"
            for index in range(sizes[split])
        ]
        if count == 1:
            for job in jobs:
                _write(job)
        else:
            # Forked, because a spawned worker would run a caller's script again, and a scene touches no thread of ours.
            context = multiprocessing.get_context("fork")
            with ProcessPoolExecutor(count, mp_context=context) as pool:
                for _ in pool.map(_write, jobs, chunksize=8):
                    pass
    return sizes


def split_sizes(samples: int) -> dict[str, int]:
    """How many samples each split gets.

    Args:
        samples: How many train, val and test samples together.

    Returns:
        Counts by split, in the order of `SPLITS`.

    Raises:
        ValueError: There are fewer than 3.
    """
    if samples < 3:
        raise invalid("samples", samples, "must be 3 or more, one each for train, val and test", "ask for more samples")
    val = max(1, round(samples / 10))
    test = max(1, round(samples * 3 / 10))
    return {
        "train": samples - val - test,
        "val": val,
        "test": test,
        "map_style": test,
        "new_region": test,
    }


def draw_sample(split: str, index: int, seed: int, size_wh: tuple[int, int] = (140, 140)) -> tuple[Scene, Question]:
    """Draw the scene and the question of one sample, without writing it.

    Args:
        split: One of `SPLITS`.
        index: Number of the sample in its split, 0 or more.
        seed: Seed of the city.
        size_wh: Width and height of the images.

    Returns:
        The scene and the question asked about it. `map_style` has those of `test`.

    Raises:
        ValueError: There is no such split, the index is negative, or the size is too small or too narrow.
    """
    if split not in SPLITS:
        raise invalid("split", split, f"must be one of {', '.join(SPLITS)}", "use one of them")
    if index < 0:
        raise invalid("index", index, "must be 0 or more", "count from 0")
    stream = SPLITS.index("test" if split == "map_style" else split)
    rng = np.random.default_rng((seed, stream, index, 1))
    region = "new" if split == "new_region" else "home"
    # The new region is asked about by class only, as in the paper.
    level = "class" if region == "new" else LEVELS[int(rng.integers(len(LEVELS)))]
    several = level != "name" and bool(rng.random() < _SEVERAL_SHARE)
    repeats = int(rng.choice([2, 2, 3])) if several and level == "class" else 0
    drawn = scene((seed, stream, index, 0), size_wh, region, repeats)
    asked = [question for question in drawn.questions() if question.level == level]
    fitting = [question for question in asked if (len(question.places) > 1) == several] or asked
    return drawn, fitting[int(rng.integers(len(fitting)))]


def _write(job: _Job) -> None:
    drawn, question = draw_sample(job.split, job.index, job.seed, job.size_wh)
    satellite, mask_hw = drawn.satellite(), drawn.mask(question.places)
    for split, style in _versions(job.split):
        folder = Path(job.folder) / split / f"{split}_{job.index:06d}"
        write_raw_sample(folder, question.text, question.level, satellite, drawn.map(style), mask_hw)


def _versions(split: str) -> Iterator[tuple[str, str]]:
    """The splits that a scene goes into, and the style of its map in each."""
    yield split, "day"
    if split == "test":
        yield "map_style", "atlas"
