import math

import pytest

from verl_socio.answer import Grammar
from verl_socio.rewards.boxes import box_accuracy, box_count


def boxes(*rows):
    return "[" + ", ".join(f'{{"bbox_2d": {list(row)}}}' for row in rows) + "]"


A, B = (10, 10, 30, 30), (50, 10, 70, 50)


@pytest.mark.parametrize(
    ("body", "target", "expected"),
    [
        (boxes(A), [A], 2.0),
        (boxes(A, B), [B, A], 2.0),  # in any order
        (boxes((12, 10, 32, 30)), [A], 2.0),  # IoU 18/22, coordinates off by 1 on average
        (boxes((10, 10, 30, 20)), [A], 1.0),  # IoU exactly 0.5 is not above it; off by 2.5
        (boxes((0, 0, 40, 40)), [A], 0.0),  # IoU 0.25; off by exactly 10
        (boxes((0, 0, 40, 39)), [A], 1.0),  # IoU 400/1560; off by 9.75
        (boxes((30, 30, 50, 50)), [A], 0.0),  # off by 20
        (boxes((0, 0, 100, 60)), [(0, 0, 100, 15)], 0.0),  # IoU 0.25; off by 11.25
        (boxes((0, 0, 100, 60)), [(0, 0, 60, 60)], 1.0),  # IoU 0.6; off by exactly 10
        (boxes(A), [A, B], 1.0),  # one of two
        (boxes(A, A), [A], 1.0),  # the second one pairs with nothing
        (boxes(A, B, (0, 0, 5, 5)), [A, B], 4 / 3),
        (boxes((11, 10, 30, 30), A), [A, B], 1.0),  # the better of two for one target counts no more than once
        ("[]", [], 2.0),
        ("[]", [A], 0.0),
        (boxes(A), [], 0.0),
        ("", [A], 0.0),
        ("", [], 0.0),  # says nothing, not "nothing"
        ("[" + "[" * 50_000, [A], 0.0),
        (boxes((30, 30, 10, 10)), [A], 2.0),  # corners swapped
        (boxes(A)[:-1], [A], 2.0),  # cut off after a whole item
        ('[{"bbox_2d": [NaN, 0, 1, 1]}, {"bbox_2d": [10, 10, 30, 30]}]', [A], 2.0),
        (boxes((-1e6, -1e6, 1e6, 1e6)), [A], 0.0),
        (boxes(A, *[(90, 50, 95, 55)] * 400), [A], 2 / 120),  # looked at up to 120
    ],
)
def test_box_accuracy(outcome, body, target, expected):
    assert box_accuracy(outcome(body, target)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("body", "target", "expected"),
    [
        (boxes(A), [A], 1.0),
        (boxes((0, 0, 40, 39)), [A], 0.0),
        (boxes((0, 0, 100, 60)), [(0, 0, 60, 60)], 1.0),
        ("[]", [], 1.0),
        (boxes(A), [A, B], 0.5),
    ],
)
def test_box_accuracy_by_overlap_alone_as_in_the_paper(outcome, body, target, expected):
    assert box_accuracy(outcome(body, target), l1_px=None) == expected


def test_the_matching_is_the_best_not_the_first(outcome):
    # The first box fits both targets, the second only the upper one; taken in order the lower target would go without.
    upper, lower = (0, 0, 40, 20), (0, 21, 40, 41)
    body = boxes((0, 4, 40, 37), (0, 0, 40, 21))
    made = outcome(body, [upper, lower])
    # IoU of the first with upper 16/37, with lower 16/37; coordinates off by 5.25 and by 5.25.
    # Best: first-lower earns 1 (near), second-upper earns 2 (IoU 20/21, off by 0.25).
    assert box_accuracy(made) == pytest.approx(3 / 2)


@pytest.mark.parametrize(("settings", "expected"), [({"iou_threshold": 0.2}, 1.0), ({"l1_px": 10.5}, 1.0), ({}, 0.0)])
def test_box_accuracy_thresholds(outcome, settings, expected):
    assert box_accuracy(outcome(boxes((0, 0, 40, 40)), [A]), **settings) == expected


def test_max_items_cuts_both_sides(outcome):
    assert box_accuracy(outcome(boxes(A, B), [A, B]), max_items=1) == 2.0


@pytest.mark.parametrize(
    ("answered", "wanted", "expected"),
    [
        (1, 1, 1.0),
        (2, 2, 1.0),
        (2, 1, math.exp(-2)),
        (0, 1, math.exp(-2)),
        (1, 2, math.exp(-1)),
        (3, 2, math.exp(-1)),
        (0, 2, math.exp(-2)),
        (500, 1, math.exp(-2 * 119)),
        (0, 0, 1.0),
        (1, 0, 0.0),
    ],
)
def test_box_count(outcome, answered, wanted, expected):
    body = boxes(*[A] * answered)
    assert box_count(outcome(body, [A, B][:wanted])) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("body", "target"), [("", [A]), ("", []), ("[{}]", [A]), ("[" * 1000, []), ("no", [A, B])])
def test_box_count_of_what_cannot_be_read(outcome, body, target):
    assert box_count(outcome(body, target)) == 0.0


def test_unusable_items_do_not_count(outcome):
    assert box_count(outcome(boxes(A, (5, 5, 5, 9)), [A])) == 1.0


def test_box_terms_need_boxes(outcome):
    made = outcome('[{"points": [[1, 2]]}]', [A], grammar=Grammar(box=None, points="points"))
    with pytest.raises(ValueError, match="needs answers with boxes"):
        box_accuracy(made)
