"""The published benchmarks, one format a file, each read as its authors released it."""

from __future__ import annotations

from verl_socio.data.formats import Format
from verl_socio.data.sets import counting, detection, earthreason, referring, refsegrs, risbench, rrsisd

FORMATS: dict[str, Format] = {
    "earthreason": earthreason.FORMAT,
    "rrsisd": rrsisd.FORMAT,
    "refsegrs": refsegrs.FORMAT,
    "risbench": risbench.FORMAT,
    "detection": detection.FORMAT,
    "counting": counting.FORMAT,
    "referring": referring.FORMAT,
}
"""Reader by the name that `data_format` takes; the first that recognises a source reads it."""
