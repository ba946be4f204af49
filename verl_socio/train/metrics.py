"""The file of metrics that verl's logger writes for each start of a run: one JSON object a step."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from verl_socio.errors import invalid


def entries(path: Path) -> Iterator[dict[str, Any]]:
    """The steps of one start, in order: `step` and `data`, the numbers by name.

    Args:
        path: The start's file.

    Raises:
        ValueError: A line is no step's metrics; one without its end is passed over.
    """
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            # A line without its end was being written when the process was killed.
            if not line.endswith("\n"):
                return
            try:
                entry = json.loads(line)
                if not isinstance(entry["step"], int) or not isinstance(entry["data"], dict):
                    raise TypeError("step and data are of other kinds")
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                rule = f"must hold a step's metrics in each line, but line {number} does not ({error})"
                raise invalid("metrics", str(path), rule, "delete the line") from error
            yield entry
