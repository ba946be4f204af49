import math

import pytest

from verl_socio.answer import Grammar
from verl_socio.rewards.points import point_count

REFINE = Grammar(points="points")


def items(*counts):
    rows = (f'{{"bbox_2d": [10, 10, 30, 30], "points": {[[20, 20]] * count}}}' for count in counts)
    return "[" + ", ".join(rows) + "]"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (items(2), 1.0),
        (items(1), math.exp(-1 / 8)),
        (items(3), math.exp(-1 / 8)),
        (items(0), math.exp(-4 / 8)),
        (items(6), math.exp(-16 / 8)),
        (items(2, 2), 1.0),
        (items(2, 0), (1 + math.exp(-0.5)) / 2),
        (items(1, 3, 2), (1 + 2 * math.exp(-1 / 8)) / 3),
        (items(1000), math.exp(-900 / 8)),  # 32 are read
        ('[{"bbox_2d": [10, 10, 30, 30], "points": [[20, 20], [NaN, 1], [20, 21]]}]', 1.0),
        ('[{"bbox_2d": [10, 10, 30, 30]}]', math.exp(-0.5)),
        ("[]", 0.0),
        ("", 0.0),
        ("[" * 10_000, 0.0),
        (items(2)[:-1], 1.0),
    ],
)
def test_point_count(outcome, body, expected):
    assert point_count(outcome(body, [(10, 10, 30, 30)], grammar=REFINE)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("mu", "expected"), [(1, math.exp(-1 / 8)), (3, math.exp(-1 / 8)), (2.5, math.exp(-0.25 / 8))])
def test_wanted_number(outcome, mu, expected):
    assert point_count(outcome(items(2), grammar=REFINE), mu=mu) == pytest.approx(expected)


@pytest.mark.parametrize(("body", "expected"), [("[]", 1.0), ("?", 0.0), (items(2), 1.0)])
def test_without_a_target(outcome, body, expected):
    assert point_count(outcome(body, grammar=REFINE)) == expected


def test_points_off_the_object_do_not_count(outcome):
    grammar = Grammar(points="points", negative_points="not")
    body = '[{"bbox_2d": [10, 10, 30, 30], "points": [[20, 20], [21, 21]], "not": [[1, 1]]}]'
    assert point_count(outcome(body, grammar=grammar)) == 1.0
