"""A reward term of one's own: a function of an outcome, with a name and its lowest and highest value."""

import numpy as np

from verl_socio.rewards import Outcome, term


@term("area_match", 0.0, 1.0)
def area_match(outcome: Outcome, tolerance: float = 0.0) -> float:
    """How close the mask's area comes to the target's: the smaller over the larger, 1 within the tolerance."""
    assert outcome.mask_hw is not None
    found, wanted = np.count_nonzero(outcome.mask_hw), np.count_nonzero(outcome.target.mask_hw)
    if found == wanted:
        return 1.0
    share = min(found, wanted) / max(found, wanted)
    return 1.0 if share >= 1.0 - tolerance else share
