"""Pickles of plain values. A pickle is a program: this reader lets it build lists, mappings, text and numbers only."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any, NoReturn

from verl_socio.errors import invalid


class _Plain(pickle.Unpickler):
    """Refuses every name that a pickle asks for: without one it can call nothing."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only plain values are read")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError("it asks for an object from outside")


def load_plain(file: Path) -> list[Any]:
    """Read a pickled list of plain values, of Python 2 or 3, without running anything that is in it.

    Args:
        file: The file.

    Returns:
        The list.

    Raises:
        ValueError: There is no such file, it is damaged, it holds something else than a list, or it asks for more than
            plain values.
    """
    try:
        # latin1 reads Python 2's text byte by byte, so that no file fails for its letters.
        content = _Plain(io.BytesIO(file.read_bytes()), encoding="latin1").load()
    except OSError as error:
        rule = f"must be a readable file ({error.strerror})"
        raise invalid("data", str(file), rule, "put the set's file there") from error
    # What the standard library's reader is known to raise on bytes that are no pickle.
    except (pickle.UnpicklingError, EOFError, LookupError, AttributeError, ValueError, TypeError, ArithmeticError,
            MemoryError, RecursionError, ImportError) as error:  # fmt: skip
        rule = f"must be a pickled list of plain values ({type(error).__name__}: {error})"
        raise invalid("data", str(file), rule, "copy the set's file again") from error
    if not isinstance(content, list):
        rule = "must be a pickled list of plain values"
        raise invalid("data", str(file), f"{rule}, not a {type(content).__name__}", "copy the set's file again")
    return content
