"""What `summary.json` and `report.json` hold of an evaluation's figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from verl_socio.evaluate.intervals import Intervals
from verl_socio.evaluate.protocols import PROTOCOLS
from verl_socio.evaluate.scores import Summary
from verl_socio.evaluate.table import INTERVAL_RULE
from verl_socio.evaluate.timing import Timing


def summary_values(summary: Summary, intervals: Intervals, timings: Sequence[Timing]) -> dict[str, Any]:
    """The figures as JSON values: each line with its intervals (low, high), and the times."""
    values: dict[str, Any] = asdict(summary)
    for line in values["lines"]:
        found = intervals.get((line["level"], line["name"]), {})
        line["intervals"] = {name: [each.low, each.high] for name, each in found.items()}
    rules = {"rules": PROTOCOLS[summary.protocol].rules, "intervals": INTERVAL_RULE}
    return {**values, **rules, "timings": [asdict(each) for each in timings]}
