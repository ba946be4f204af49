"""How long things took, from the rows of an evaluation: each stage's waiting times, and samples a second.

Times are those of a busy machine: with many samples under way, most of an answer's seconds are waiting for others'.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from verl_socio.evaluate.rows import SampleRow

WHOLE = "whole sample"


@dataclass(frozen=True)
class Timing:
    """One line of the table of times.

    Attributes:
        name: A stage's name and what it did ("localise: generate", "localise: segment"), or "whole sample".
        samples: How many.
        p50: Median seconds.
        p95: Seconds that 95 % of the samples took at most.
        per_second: Samples a second, over the time in which at least one was being worked on: pauses between two runs
            of one evaluation do not count. None where no time passed.
        tokens_per_second: Tokens written a second, over the same time; None where there are none or they are not known.
    """

    name: str
    samples: int
    p50: float
    p95: float
    per_second: float | None
    tokens_per_second: float | None


def timings(rows: Iterable[SampleRow]) -> list[Timing]:
    """Sum up the times of an evaluation.

    Args:
        rows: The samples; read once, none is kept. Failed ones are left out: they did less.

    Returns:
        Two lines a stage, in order, and one for whole samples; nothing where every sample failed.
    """
    spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
    tokens: dict[str, int] = defaultdict(int)
    for row in rows:
        if row.failure is not None:
            continue
        for stage in row.stages:
            spans[f"{stage.name}: generate"].append((row.started + stage.generate_at, stage.generate_s))
            tokens[f"{stage.name}: generate"] += stage.tokens or 0
            if stage.segment_s > 0:
                spans[f"{stage.name}: segment"].append((row.started + stage.segment_at, stage.segment_s))
        spans[WHOLE].append((row.started, row.seconds))
    whole = spans.pop(WHOLE, None)
    return [_timing(name, np.array(each), tokens[name]) for name, each in [*spans.items(), (WHOLE, whole)] if each]


def _timing(name: str, spans: np.ndarray, tokens: int) -> Timing:
    p50, p95 = np.quantile(spans[:, 1], (0.5, 0.95)).tolist()
    busy = busy_seconds(spans)
    rate = len(spans) / busy if busy else None
    return Timing(name, len(spans), p50, p95, rate, tokens / busy if busy and tokens else None)


def busy_seconds(spans: np.ndarray) -> float:
    """How long at least one of several stretches of time was under way.

    Args:
        spans: `(N, 2)` float64: start and length in seconds; N is 1 or more.
    """
    ordered = spans[np.argsort(spans[:, 0])]
    starts, ends = ordered[:, 0], np.maximum.accumulate(ordered[:, 0] + ordered[:, 1])
    gaps = np.maximum(starts[1:] - ends[:-1], 0.0).sum()
    return float(ends[-1] - starts[0] - gaps)
