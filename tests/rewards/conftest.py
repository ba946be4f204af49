import numpy as np
import pytest

from verl_socio.answer import Grammar, parse
from verl_socio.rewards import Outcome, Target

SIZE_HW = (60, 100)
BOXES = Grammar()
TAGS = "<think>a</think><answer>{}</answer>"


def mask(*rectangles):
    mask_hw = np.zeros(SIZE_HW, dtype=bool)
    for x1, y1, x2, y2 in rectangles:
        mask_hw[y1:y2, x1:x2] = True
    return mask_hw


@pytest.fixture
def outcome():
    """Make an outcome of the answer's text, as a model would write it, and of rectangles for target and mask."""

    def make(body, target=(), *, mask_of=None, before=None, grammar=BOXES, wrap=TAGS):
        text = wrap.format(body)
        previous = None if before is None else parse(f"<answer>{before}</answer>", BOXES)
        mask_hw = None if mask_of is None else mask(*mask_of)
        return Outcome(parse(text, grammar), Target.from_mask(mask(*target)), mask_hw, previous)

    return make
