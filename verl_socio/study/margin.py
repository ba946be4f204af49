"""How large a difference chance alone can make."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

CONFIDENCE = 0.95


def margin_of(by_seed: Sequence[float], sample_error: float, samples: int) -> float:
    """Half the width of the confidence interval around the mean of differences.

    Other seeds and other samples would each give another mean: the two variances are added, and their degrees of
    freedom are joined by Welch and Satterthwaite's equation (Biometrics Bulletin 2, 1946). One seed says nothing of
    others: the interval is then that of this seed on other samples.

    Simulated without a difference, 3 % to 6 % of means exceed it while the seeds differ no more than the mean does over
    samples. Seeds that differ several times as much may look alike by chance: with three, 8 % exceed it, with two 13 %.

    Args:
        by_seed: The difference of each seed, one or more.
        sample_error: Standard error of their mean over the samples, in the same unit.
        samples: How many samples that is over; of one nothing is known, and the error is infinite.

    Returns:
        In the same unit: 0 where nothing differs, infinite with one sample.
    """
    from scipy import stats  # most of a second, which the other verbs need not wait for

    parts = [(sample_error**2, samples - 1)]
    if len(by_seed) > 1:
        parts.append((statistics.variance(by_seed) / len(by_seed), len(by_seed) - 1))
    variance = math.fsum(part for part, _ in parts)
    if variance == 0 or math.isinf(variance):
        return variance
    freedom = variance**2 / math.fsum(part**2 / free for part, free in parts)
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * math.sqrt(variance))
