"""Pixmo-Count and CountBench as tables: a row asks how many objects of a kind there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from verl_socio.data.sets.asked import Table, size_of
from verl_socio.data.truth import Truth, whole_number

_COUNT = "count"
_NAMES = ("counting_pixmo_validation", "counting_pixmo_test", "counting_countbench")


def _truth(row: Mapping[str, Any]) -> Truth:
    return Truth(count=whole_number(_COUNT, row[_COUNT]), size_wh=size_of(row))


FORMAT = Table((_COUNT,), (), tuple(f"Ricky06662/{name}" for name in _NAMES), _truth).format()
