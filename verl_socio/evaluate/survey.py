"""One look at all samples before anything heavy starts: are they whole, how large are the targets."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from verl_socio.data.sample import Sample
from verl_socio.episode import Scene
from verl_socio.errors import invalid
from verl_socio.evaluate.ground_truth import GroundTruth

_SHOWN = 10


@dataclass(frozen=True)
class Survey:
    """What is known of a set before it is evaluated.

    Attributes:
        sha256: Of every sample's id, question, level, image files and what is known beside them, in order.
        target_share: Mean share of the image that the target covers, 0..1; None where no sample has a target pixel.
    """

    sha256: str
    target_share: float | None


def survey(samples: Sequence[Sample], *, need_map: bool, seen: Callable[[], object]) -> Survey:
    """Read every sample once, without keeping any.

    Files are hashed whole: sizes and dates tell neither a copied file from a changed one nor the rows of a table apart.

    Args:
        samples: What is to be evaluated.
        need_map: Whether a stage shows the map: then a sample without one cannot be evaluated.
        seen: Called after each sample.

    Returns:
        The set's hash and the mean size of its targets.

    Raises:
        ValueError: No sample has a target pixel where each should, or files are missing, cannot be read or do not fit;
            the first are named.
    """
    whole = hashlib.sha256()
    total = 0.0
    seen_ids = Counter(sample.id for sample in samples)
    faults = [f"{name}: {count} samples have this id" for name, count in seen_ids.items() if count > 1]
    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        for result in pool.map(lambda sample: _look(sample, need_map), samples):
            seen()
            if isinstance(result, str):
                faults.append(result)
            else:
                whole.update(result[0])
                total += result[1]
    if faults:
        listed = "".join(f"\n  {fault}" for fault in faults[:_SHOWN])
        rule = f"have {len(faults)} faults that keep them from being evaluated:{listed}"
        raise invalid("data", f"{len(samples)} samples", rule, "see all with: verl-socio data validate SOURCE")
    if total == 0.0 and any(sample.target is not None and not sample.truth.may_be_empty for sample in samples):
        fix = "check data and split"
        raise invalid("data", f"{len(samples)} samples", "must hold a sample whose target is not empty", fix)
    return Survey(whole.hexdigest(), total / len(samples) or None)


def _look(sample: Sample, need_map: bool) -> tuple[bytes, float] | str:
    """Hash and target share of one sample, or what is wrong with it."""
    if need_map and sample.map is None:
        return f"{sample.id}: has no map, which the recipe shows"
    digest = hashlib.sha256()
    try:
        for text in (sample.id, sample.question, sample.level, sample.truth.to_text()):
            # Level and truth may be missing, which no text says.
            _add(digest, b"" if text is None else text.encode("utf-8", "surrogatepass"))
        for image in (sample.satellite, sample.map, sample.target):
            _add(digest, b"" if image is None else image.encoded())
        target_hw = GroundTruth.load(sample).target_hw
        # Read as the evaluation will read it: a fault of the data must not end up as an IoU of 0 of the model.
        Scene.load(sample if need_map else without_map(sample), with_target=False)
        return digest.digest(), 0.0 if target_hw is None else float(np.mean(target_hw))
    except ValueError as error:
        return f"{sample.id}: {error}"


def without_map(sample: Sample) -> Sample:
    """The sample for a recipe that shows no map: whatever is wrong with its map, the model does not see it."""
    return replace(sample, map=None)


def _add(digest: hashlib._Hash, part: bytes) -> None:
    # With its length before it, so that no two lists of parts read alike.
    digest.update(len(part).to_bytes(8, "little"))
    digest.update(part)
