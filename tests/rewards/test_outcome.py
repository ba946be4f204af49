import numpy as np
import pytest

from verl_socio.answer import Answer, Status
from verl_socio.rewards import Outcome, Target


def test_target_boxes_are_those_of_regions_above_10_px():
    mask_hw = np.zeros((30, 40), dtype=bool)
    mask_hw[0:5, 0:2] = True  # 10 px
    mask_hw[10:20, 20:33] = True
    assert Target.from_mask(mask_hw).boxes_xyxy.tolist() == [[20, 10, 33, 20]]
    assert Target.from_mask(mask_hw, min_area=9).boxes_xyxy.shape == (2, 4)


@pytest.mark.parametrize(
    ("mask_hw", "boxes", "field"),
    [
        (np.zeros((4, 4)), np.zeros((0, 4)), "mask_hw"),
        (np.zeros((4, 4), bool), np.zeros(4), "boxes_xyxy"),
        (np.zeros((4, 4), bool), np.zeros((1, 5)), "boxes_xyxy"),
    ],
)
def test_target_of_another_shape_is_refused(mask_hw, boxes, field):
    with pytest.raises(ValueError, match=field):
        Target(mask_hw, boxes)


@pytest.mark.parametrize(
    ("status", "pixels", "expected"),
    [(Status.EMPTY, 0, True), (Status.EMPTY, 1, False), (Status.UNPARSEABLE, 0, False), (Status.OK, 0, False)],
)
def test_nothing_there(status, pixels, expected):
    mask_hw = np.zeros((4, 4), dtype=bool)
    mask_hw.flat[:pixels] = True
    assert Outcome(Answer(status), Target.from_mask(mask_hw)).nothing_there is expected
