"""A mark of what weights and scenes are made by, so that those of an older state are not taken for them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import verl_socio
from verl_socio.provenance import file_hash


def made_by(*settings: object, rooms: Sequence[str] = ("city", "embedded")) -> str:
    """Hash the sources of the city and of the embedded models, and settings.

    Args:
        settings: What else counts; `repr` tells it.
        rooms: The rooms of the package whose sources count.

    Returns:
        8 hexadecimal digits, for the name of a file or folder.
    """
    root = Path(verl_socio.__file__).parent
    digest = hashlib.sha256(repr(settings).encode())
    for path in sorted(path for room in rooms for path in (root / room).rglob("*") if path.is_file()):
        place = path.relative_to(root)
        # What is made is no source of itself.
        if not {"weights", "__pycache__"} & set(place.parts):
            digest.update(f"{place} {file_hash(path)}\n".encode())
    return digest.hexdigest()[:8]
