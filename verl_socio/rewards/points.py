"""Terms for the points of an answer."""

import math

import numpy as np

from verl_socio.geometry import best_pairs
from verl_socio.rewards.form import points_inside
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


@term("points_distance", 0.0, 1.0)
def points_distance(outcome: Outcome, distance_px: float = 100.0) -> float:
    """Whether the two points of the first item lie in its box and near the target's two points.

    Source: Seg-Zero (code): both points in the box, and a mean distance < 100 px to the centres of the two largest
    inscribed circles, each point paired with one centre.

    Args:
        outcome: What the stage led to.
        distance_px: The bound on the mean distance, in pixels of the image.

    Returns:
        1 or 0; 0 for another number of points than two. Without a target 1 for a well-formed empty answer.
    """
    wanted = outcome.target.two_points_xy
    if len(wanted) == 0 or not outcome.answer.prompts:
        return float(outcome.nothing_there)
    first = outcome.answer.prompts[0]
    if len(first.positive_xy) != len(wanted) or (first.box_xyxy is not None and not points_inside(first)):
        return 0.0
    distance = np.linalg.norm(np.array(first.positive_xy)[:, None] - wanted[None], axis=-1)
    return float(distance[best_pairs(-distance)].mean() < distance_px)
