"""Reward terms of a user's own file."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from pathlib import Path

from verl_socio.errors import invalid
from verl_socio.rewards.registry import TERMS

# What a file of a few functions goes wrong with when it is read; anything else is worth its traceback.
_FAULTS = (ImportError, SyntaxError, NameError, AttributeError, TypeError, ValueError, OSError)


def load_terms(path: str) -> None:
    """Run a Python file that registers terms with `verl_socio.rewards.term`; once a process.

    Args:
        path: The file.

    Raises:
        ValueError: There is no such file, it cannot be run, it registers no term, or a term's name is taken.

    Example:
        A file that registers one term::

            from verl_socio.rewards import Outcome, term

            @term("some_mask", 0.0, 1.0)
            def some_mask(outcome: Outcome) -> float:
                return float(outcome.mask_hw is not None and outcome.mask_hw.any())
    """
    field = "recipe.terms_file"
    # os.path's test, unlike pathlib's, takes any text for a path that is not there.
    if not path.endswith(".py") or not os.path.isfile(path):
        raise invalid(field, path, "must be a Python file", "correct the path; it is relative to the recipe's own file")
    file = Path(path).resolve()
    name = f"verl_socio_terms_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None, "a file ending in .py has a loader"
    module = importlib.util.module_from_spec(spec)
    before = set(TERMS)
    try:
        spec.loader.exec_module(module)
    except _FAULTS as error:
        for added in set(TERMS) - before:
            del TERMS[added]
        raise invalid(
            field, path, f"must run without an error ({type(error).__name__}: {error})", "correct it"
        ) from error
    if set(TERMS) == before:
        rule = "must register a reward term"
        raise invalid(field, path, rule, 'write @term("name", lowest, highest) above a function of an Outcome')
    sys.modules[name] = module
