"""How far a figure may be off: bootstrap intervals of figures that are ratios of sums over samples.

Samples are drawn again with replacement, as many as there are, and every figure is computed anew from the sums over the
drawn ones: the interval of cIoU is that of the ratio of sums, not of a mean of images (the percentile bootstrap: Efron
and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from verl_socio.errors import invalid
from verl_socio.metrics import MaskScore

REPLICATES = 2000
SEED = 0
LEVEL = 0.95
# Numbers drawn at once: memory does not grow with the set.
_BLOCK = 2**17


@dataclass(frozen=True)
class Interval:
    """Where a figure lies with 95 % confidence."""

    low: float
    high: float


@dataclass(frozen=True)
class Ratios:
    """Figures of a set, each the sum of one column over the sum of another.

    Attributes:
        tops: `(N, K)` float64, what is summed above the line: a row a sample, a column a figure.
        bottoms: `(N, K)` float64, what is summed below it.
        failed: `(N,)` bool. Where a bottom sums to 0 the figure is 0 if a sample failed or was not answered and 1 if
            none was, the rule of `verl_socio.metrics.SegmentationScore`.

    Raises:
        ValueError: There is no sample.
    """

    tops: np.ndarray
    bottoms: np.ndarray
    failed: np.ndarray

    def __post_init__(self) -> None:
        """Check that the columns belong together."""
        assert self.tops.shape == self.bottoms.shape and self.tops.ndim == 2
        assert self.failed.shape == self.tops.shape[:1]
        if len(self.tops) == 0:
            raise invalid("score.n", 0, "there is no sample to score", "check the data path and the split")

    def values(self) -> np.ndarray:
        """The figures: `(K,)`."""
        values: np.ndarray = self._values(np.ones((1, len(self.tops))))[0]
        return values

    def replicates(self, count: int = REPLICATES, seed: int = SEED) -> np.ndarray:
        """Draw the set again and again.

        Args:
            count: How often.
            seed: The same seed draws the same samples of any two sets of one size: differences of theirs are paired.

        Returns:
            `(count, K)`: the figures of each draw.
        """
        return np.vstack([self._values(drawn) for drawn in _draws(len(self.tops), count, seed)])

    def intervals(self, count: int = REPLICATES, seed: int = SEED) -> list[Interval]:
        """The figures' 95 % intervals, in order."""
        return intervals_of(self.replicates(count, seed))

    def _values(self, drawn: np.ndarray) -> np.ndarray:
        """The figures of several draws: `(B, N)`, how often each sample was drawn, to `(B, K)`."""
        tops, bottoms = drawn @ self.tops, drawn @ self.bottoms
        nothing = np.where((drawn @ self.failed.astype(np.float64)) > 0, 0.0, 1.0)[:, None]
        return np.where(bottoms == 0, nothing, tops / np.where(bottoms == 0, 1.0, bottoms))


def intervals_of(replicates: np.ndarray) -> list[Interval]:
    """The 95 % intervals of drawn figures, `(B, K)`, in order: their percentiles."""
    tail = (1 - LEVEL) / 2
    lows, highs = np.quantile(replicates, (tail, 1 - tail), axis=0)
    return [Interval(float(low), float(high)) for low, high in zip(lows, highs, strict=True)]


def _draws(samples: int, count: int, seed: int) -> Iterator[np.ndarray]:
    """How often each sample was drawn, `(B, samples)` float64, until `count` rows were given."""
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK // samples)
    for start in range(0, count, block):
        rows = min(block, count - start)
        chosen = rng.integers(0, samples, (rows, samples)) + samples * np.arange(rows)[:, None]
        yield np.bincount(chosen.ravel(), minlength=rows * samples).reshape(rows, samples).astype(np.float64)


FIGURES = ("ciou", "giou", "f1")


class SegmentationRatios:
    """Collects the masks' scores of a set, sample by sample, for cIoU, gIoU and F1 (`FIGURES`, in this order)."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, float, float, float, float, bool]] = []

    def add(self, score: MaskScore) -> None:
        """Add a sample."""
        instances = score.predicted + score.targeted
        row = (score.intersection, score.union, score.iou, 2 * score.hits, instances, score.is_silent)
        self._rows.append(row)

    def add_failed(self, target_area: int, target_instances: int) -> None:
        """Add a sample without a result: intersection 0, union the target's area in pixels, IoU 0, no hit."""
        self._rows.append((0.0, target_area, 0.0, 0.0, target_instances, True))

    def ratios(self) -> Ratios:
        """What was added.

        Raises:
            ValueError: Nothing was.
        """
        columns = np.array(self._rows, dtype=np.float64).reshape(-1, 6)
        intersection, union, iou, hits, instances, failed = columns.T
        tops = np.stack([intersection, iou, hits], axis=1)
        return Ratios(tops, np.stack([union, np.ones(len(columns)), instances], axis=1), failed > 0)
