"""Values of settings in quotes: hydra's own grammar has a meaning for commas, brackets and more."""

from __future__ import annotations

from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException


def quoted(value: Path | str) -> str:
    """Any text as a setting's value that hydra reads as it is."""
    text: str = QuotedString(str(value), Quote.single).with_quotes()
    return text


def unquoted(value: str) -> str:
    """What hydra reads in a value in quotes; any other value as it stands."""
    if value[:1] not in ("'", '"'):
        return value
    try:
        read = OverridesParser.create().parse_override(f"value={value}").value()
    except HydraException:
        return value
    return read if isinstance(read, str) else value
