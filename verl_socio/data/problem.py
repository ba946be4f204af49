"""What is wrong with one row of a data set."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One broken rule in a data set.

    Attributes:
        id: The sample's id, or "" where the fault is not one sample's.
        file: The file or reference at fault.
        rule: The rule it breaks, with what was found.
        fix: What to do about it.
    """

    id: str
    file: str
    rule: str
    fix: str

    def __str__(self) -> str:
        """One line for a terminal or an error."""
        return f"{self.id or '-'}: {self.file}: {self.rule}. Fix: {self.fix}."
