"""How well objects are counted."""

from __future__ import annotations

import math

from verl_socio.errors import invalid


class CountScore:
    """The running score of a set of counts, as in VisionReasoner's evaluation (arXiv 2505.12081).

    A sample that failed, or whose answer could not be read, is wrong even where nothing is to be counted, and its error
    is that of counting nothing. (The published script counts 1 there.)

    Example:
        >>> score = CountScore()
        >>> score.add(3, 3)
        >>> score.add(2, 4)
        >>> score.compute()
        {'accuracy': 0.5, 'mae': 1.0, 'rmse': 1.4142135623730951, 'n': 2}
    """

    def __init__(self) -> None:
        self._right = 0
        self._errors: list[int] = []

    def add(self, predicted: int, target: int) -> None:
        """Add a sample: how many objects were named, and how many there are."""
        self._right += predicted == target
        self._errors.append(predicted - target)

    def add_failed(self, target: int) -> None:
        """Add a sample for which there is no count."""
        self._errors.append(-target)

    def compute(self) -> dict[str, float]:
        """Return `accuracy` (share of exact counts, 0..1), `mae` and `rmse` (in objects), and the samples `n`.

        Raises:
            ValueError: If no sample was added.
        """
        n = len(self._errors)
        if n == 0:
            raise invalid("score.n", 0, "there is no sample to score", "check the data path and the split")
        return {
            "accuracy": self._right / n,
            "mae": sum(abs(error) for error in self._errors) / n,
            "rmse": math.sqrt(sum(error * error for error in self._errors) / n),
            "n": n,
        }
