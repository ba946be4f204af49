"""How every command ends: what went wrong is one message, not a traceback."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console

_console = Console(stderr=True)


def run(command: Callable[[], object]) -> None:
    """Run a command to its end.

    Exit codes: 2 for a setting, file or argument that breaks a rule (nothing was started), 1 for a run that failed.

    Args:
        command: Reads the command line itself.

    Raises:
        SystemExit: It failed, and the message stands on standard error; or it ended with a code of its own.
    """
    try:
        command()
    except (ValueError, RuntimeError, OSError) as error:
        _console.print(f"Error: {error}", markup=False, highlight=False, soft_wrap=True)
        raise SystemExit(2 if isinstance(error, ValueError) else 1) from error
