"""Nested mappings, as settings and identities are, set against each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def differences(before: Any, now: Any) -> list[tuple[str, Any, Any]]:
    """What differs between two nested mappings.

    Returns:
        (key, before, now) in order of key, `a.b` for what lies in `a`; None for what is not there.
    """
    old, new = _flat(before), _flat(now)
    changed = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    return [(key, old.get(key), new.get(key)) for key in changed]


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping) and value:
        return {key: leaf for name, part in value.items() for key, leaf in _flat(part, f"{prefix}{name}.").items()}
    return {prefix.rstrip("."): value}
