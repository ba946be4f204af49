"""Terms for the points of an answer."""

import math

from verl_socio.rewards.outcome import Outcome
from verl_socio.rewards.registry import term


@term("point_count", 0.0, 1.0)
def point_count(outcome: Outcome, mu: float = 2.0) -> float:
    """How close the number of points of each item comes to the wanted one.

    Source: SocioReasoner R2 (code): mean over items of exp(-(n - mu)^2 / 8) for n positive points.

    Args:
        outcome: What the stage led to.
        mu: Wanted number of points.

    Returns:
        0..1; without a usable item 1 if the answer is a well-formed empty list and the target is empty, else 0.
    """
    prompts = outcome.answer.prompts
    if not prompts:
        return float(outcome.nothing_there)
    return sum(math.exp(-((len(prompt.positive_xy) - mu) ** 2) / 8.0) for prompt in prompts) / len(prompts)
