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


def two_squares():
    mask_hw = np.zeros((60, 100), dtype=bool)
    mask_hw[10:31, 10:31] = True
    mask_hw[20:31, 70:81] = True
    return Target.from_mask(mask_hw)


def test_points_and_box_of_the_mask():
    target = two_squares()
    assert target.points_xy.tolist() == [[20.5, 20.5], [75.5, 25.5]]
    assert target.two_points_xy.tolist() == [[20.5, 20.5], [75.5, 25.5]]
    assert target.box_xyxy.tolist() == [10, 10, 81, 31]


def test_points_and_boxes_that_are_given_go_before_the_mask():
    boxes_xyxy = np.array([[1.0, 2.0, 30.0, 40.0], [5.0, 1.0, 50.0, 9.0]])
    points_xy = np.array([[[3.0, 4.0], [5.0, 6.0]], [[7.0, 8.0], [9.0, 8.0]]])
    target = Target(two_squares().mask_hw, boxes_xyxy, points_xy)
    assert target.points_xy.tolist() == [[3, 4], [7, 8]]
    assert target.box_xyxy.tolist() == [1, 1, 50, 40]
    # The box is around both objects: so are the two points.
    assert target.two_points_xy.tolist() == two_squares().two_points_xy.tolist()
    assert Target(two_squares().mask_hw, boxes_xyxy[:1], points_xy[:1]).two_points_xy.tolist() == [[3, 4], [5, 6]]


def test_boxes_of_a_data_sets_own_get_their_point_from_the_mask_inside_them():
    boxes_xyxy = np.array([[0.0, 0.0, 100.0, 60.0], [60.0, 0.0, 100.0, 60.0], [40.0, 40.0, 50.0, 50.0]])
    target = Target(two_squares().mask_hw, boxes_xyxy)
    assert target.points_xy.tolist() == [[20.5, 20.5], [75.5, 25.5], [45, 45]]


def test_a_target_without_anything_has_no_points():
    target = Target.from_mask(np.zeros((6, 6), dtype=bool))
    assert target.box_xyxy is None
    assert target.points_xy.shape == target.two_points_xy.shape == (0, 2)


@pytest.mark.parametrize("points_xy", [np.zeros((2, 2)), np.zeros((2, 1, 2)), np.zeros((1, 0, 2)), np.zeros((1, 1, 3))])
def test_points_of_another_shape_are_refused(points_xy):
    with pytest.raises(ValueError, match="given_points_xy"):
        Target(np.ones((9, 9), dtype=bool), np.array([[0.0, 0.0, 9.0, 9.0]]), points_xy)
