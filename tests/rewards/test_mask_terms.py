import numpy as np
import pytest

from verl_socio.answer import Grammar, parse
from verl_socio.rewards import Outcome, Target
from verl_socio.rewards.masks import mask_iou

BOX = '[{"bbox_2d": [10, 10, 30, 30]}]'


@pytest.mark.parametrize(
    ("body", "target", "mask_of", "expected"),
    [
        (BOX, [(10, 10, 30, 30)], [(10, 10, 30, 30)], 1.0),
        (BOX, [(10, 10, 30, 30)], [(20, 10, 40, 30)], 1 / 3),
        (BOX, [(10, 10, 30, 30)], [], 0.0),
        (BOX, [], [(10, 10, 30, 30)], 0.0),
        ("[]", [], [], 1.0),
        ("[]", [(10, 10, 30, 30)], [], 0.0),
        ("?", [], [], 0.0),  # does not say that nothing is there
        ("?", [(10, 10, 30, 30)], [], 0.0),
        (BOX[:-1], [(10, 10, 30, 30)], [(10, 10, 30, 20)], 0.5),
    ],
)
def test_mask_iou(outcome, body, target, mask_of, expected):
    assert mask_iou(outcome(body, target, mask_of=mask_of)) == pytest.approx(expected, abs=1e-12)


def test_ignored_pixels_count_on_neither_side():
    target_hw, ignored_hw, mask_hw = (np.zeros((20, 40), dtype=bool) for _ in range(3))
    target_hw[:10, :10] = ignored_hw[:10, 10:30] = mask_hw[:10, :30] = True
    for ignored, expected in ((ignored_hw, 1.0), (None, 1 / 3)):
        made = Outcome(parse(BOX, Grammar()), Target.from_mask(target_hw, ignored), mask_hw)
        assert mask_iou(made) == pytest.approx(expected)


@pytest.mark.parametrize("body", [BOX, "[]", "?"])
def test_a_missing_mask_is_an_error_not_a_zero(outcome, body):
    with pytest.raises(ValueError, match=r"reward\.mask_iou = None"):
        mask_iou(outcome(body, [(10, 10, 30, 30)]))


def test_a_mask_of_another_size_is_an_error_not_a_zero():
    target = Target.from_mask(np.ones((76, 76), dtype=bool))
    with pytest.raises(ValueError, match=r"shape"):
        mask_iou(Outcome(parse(BOX, Grammar()), target, np.ones((75, 76), dtype=bool)))
