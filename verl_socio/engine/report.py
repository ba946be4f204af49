"""What a worker tells the trainer about the rollouts of a step."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from types import TracebackType


@dataclass
class Report:
    """Counts since the last report.

    As a context (`with report:`) it notes an error that passes through: verl would log it and train on what is left.

    Attributes:
        episodes: Rollouts begun.
        failures: Why the segmenter left out an episode, one entry each.
        errors: Tracebacks of everything else that stopped a rollout.
    """

    episodes: int = 0
    failures: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __enter__(self) -> Report:
        """Nothing to prepare."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """Note the error and let it go on."""
        if error is not None:
            self.errors.append("".join(traceback.format_exception(error)))

    def __add__(self, other: Report) -> Report:
        """Both together."""
        return Report(self.episodes + other.episodes, self.failures + other.failures, self.errors + other.errors)
