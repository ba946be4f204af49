import json

import pytest

from verl_socio.answer import Grammar
from verl_socio.rewards.form import item_format, non_repeat, part_format, refine_format, think_format

REFINE = Grammar(points="points")
BOX = '{"bbox_2d": [10, 10, 30, 30]}'


@pytest.mark.parametrize(
    ("wrap", "expected"),
    [
        ("<think>a</think><answer>{}</answer>", 1.0),
        ("<think>a</think>\n<answer>{}</answer> \n", 1.0),  # the released code gives 0 for the white space at the end
        ("<think>a</think><answer>{}</answer> done", 0.0),
        ("<answer>{}</answer>", 0.0),
        ("<think>a<answer>{}</answer>", 0.0),
        ("{}", 0.0),
    ],
)
def test_think_format(outcome, wrap, expected):
    assert think_format(outcome("[]", wrap=wrap)) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (f"[{BOX}]", 1.0),
        (f"[{BOX}, {BOX}]", 1.0),
        (f'[{BOX}, {{"bbox_2d": [1, 2, 3]}}]', 0.5),
        (f'[{BOX}, {{"bbox_2d": [1, 2, 3, 4], "label": "x"}}, {{"box": 1}}, 7]', 0.25),
        (f'[{BOX}, {{"bbox_2d": [true, 2, 3, 4]}}]', 0.5),
        (f'[{BOX}, {{"bbox_2d": [NaN, 2, 3, 4]}}]', 0.5),
        ("[]", 0.0),  # something is there
        ("", 0.0),
        ("none", 0.0),
        ('[{"bbox_2d": [5, 5, 5, 5]}]', 0.0),  # no item can be used
        (f"[{BOX}", 0.0),  # cut off: used, but in no good form
        (f"the box is [{BOX}]", 0.0),
        ("[" + ", ".join([BOX] * 500) + "]", 1.0),
        ("[" * 100_000, 0.0),
    ],
)
def test_item_format(outcome, body, expected):
    assert item_format(outcome(body, [(10, 10, 30, 30)])) == expected


@pytest.mark.parametrize("body", ["[]", " [ ] "])
def test_an_empty_list_is_in_form_where_nothing_is_there(outcome, body):
    before = {"before": "[]", "grammar": REFINE}
    assert (item_format(outcome(body)), part_format(outcome(body)), refine_format(outcome(body, **before))) == (1, 2, 1)
    target = [(10, 10, 30, 30)]
    assert item_format(outcome(body, target)) == part_format(outcome(body, target)) == 0
    assert refine_format(outcome(body, target, **before)) == 0


def items(*rows):
    return json.dumps([{"bbox_2d": box, "points": points} for box, points in rows])


FIRST = '[{"bbox_2d": [10, 10, 30, 30]}, {"bbox_2d": [40, 10, 60, 30]}]'


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (items(([10, 10, 30, 30], [[20, 20], [11, 29]]), ([40, 10, 60, 30], [[50, 20]])), 1.0),
        (items(([40, 10, 60, 30], [[50, 20]]), ([10, 10, 30, 30], [])), 1.0),  # another order, no point
        (items(([11, 9, 30, 31], [[20, 20]]), ([40, 10, 60, 30], [[50, 20]])), 1.0),  # rounded by a pixel
        (items(([12, 10, 30, 30], [[20, 20]]), ([40, 10, 60, 30], [[50, 20]])), 0.5),  # moved by two
        (items(([10, 10, 30, 30], [[30, 20]]), ([40, 10, 60, 30], [[50, 20]])), 0.5),  # a point on the edge
        (items(([10, 10, 30, 30], [[20, 20], [50, 20]]), ([40, 10, 60, 30], [[50, 20]])), 0.5),  # one outside
        (items(([10, 10, 30, 30], [[50, 20]]), ([40, 10, 60, 30], [[20, 20]])), 0.0),  # swapped
        (items(([10, 10, 30, 30], [[20, 20]]), ([10, 10, 30, 30], [[20, 20]])), 0.5),  # one box twice
        (items(([10, 10, 30, 30], [[20, 20]])), 0.0),  # one missing
        (items(([10, 10, 30, 30], []), ([40, 10, 60, 30], []), ([0, 0, 9, 9], [])), 0.0),  # one too many
        (items(([10, 10, 30, 30], [[20, 20]]), ([40, 10, 60, 30], [["NaN", 20]])), 0.5),
        (items(([10, 10, 30, 30], [[20, 20]]), ([40, 40, 40, 40], [])), 0.0),  # an item that cannot be used
        (
            items(([10, 10, 30, 30], []), ([40, 10, 60, 30], []), ([5, 5, 5, 9], [])),
            0.0,
        ),  # one too many, though unusable
        (FIRST, 0.0),  # no points key
        ("[]", 0.0),
        ("", 0.0),
        (items(([10, 10, 30, 30], [[20, 20]]), ([40, 10, 60, 30], [[50, 20]]))[:-1], 0.0),  # cut off
    ],
)
def test_refine_format(outcome, body, expected):
    assert refine_format(outcome(body, before=FIRST, grammar=REFINE)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("before", "body", "expected"), [("[]", "[]", 1.0), ("?", "[]", 1.0), ("[]", "?", 0.0)])
def test_refine_format_without_a_box_before(outcome, before, body, expected):
    assert refine_format(outcome(body, before=before, grammar=REFINE)) == expected


def test_a_box_for_no_box_before_is_not_kept(outcome):
    assert refine_format(outcome(items(([1, 1, 9, 9], [])), before="[]", grammar=REFINE)) == 0.0


def test_points_off_the_object_may_lie_anywhere(outcome):
    grammar = Grammar(points="points", negative_points="not")
    body = '[{"bbox_2d": [10, 10, 30, 30], "points": [[20, 20]], "not": [[35, 5]]}]'
    assert refine_format(outcome(body, before=f"[{BOX}]", grammar=grammar)) == 1.0


@pytest.mark.parametrize(("tolerance", "expected"), [(0.0, 0.0), (3.0, 1.0)])
def test_refine_tolerance(outcome, tolerance, expected):
    made = outcome(items(([10, 10, 33, 30], [])), before=f"[{BOX}]", grammar=REFINE)
    assert refine_format(made, tolerance_px=tolerance) == expected


def test_refine_format_needs_a_stage_before(outcome):
    with pytest.raises(ValueError, match="stage before"):
        refine_format(outcome("[]"))


def test_refine_format_needs_boxes(outcome):
    with pytest.raises(ValueError, match="needs answers with boxes"):
        refine_format(outcome('[{"points": [[1, 2]]}]', before=f"[{BOX}]", grammar=Grammar(box=None, points="points")))


@pytest.mark.parametrize(
    ("thought", "expected"),
    [
        ("one. two. three.", 1),
        ("one. One.", 1),  # one repeated
        ("one. One! one?", 0),
        ("a 3.5 b. a 3.5 c. 5", 1),  # the point in a number ends no sentence
        ("so...  so!? so\nso", 0),
        ("...x" * 30_000, 1),
        ("." * 100_000 + "x", 1),
    ],
)
def test_non_repeat(outcome, thought, expected):
    assert non_repeat(outcome(thought, wrap="<think>{}</think><answer>[]</answer>")) == expected
