"""Small files that a reader never sees half of."""

from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a file in one step, as UTF-8: it appears, or takes the place of the one before, when it is whole."""
    draft = path.with_name(f".{path.name}.part")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
