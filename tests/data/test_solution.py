import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl_socio.data.solution import describe_solution, parse_solution
from verl_socio.data.truth import Truth

BOX = [1, 2, 30, 40]


@pytest.mark.parametrize(
    ("text", "boxes", "points"),
    [
        (json.dumps([{"bbox_2d": BOX, "point_2d": [3, 4]}]), [BOX], [[[3, 4]]]),  # VisionReasoner
        (json.dumps([{"bbox_2d": BOX, "points": [[3, 4], [5, 6]]}] * 2), [BOX] * 2, [[[3, 4], [5, 6]]] * 2),
        (json.dumps({"bbox": BOX, "points_1": [3, 4], "points_2": [5, 6]}), [BOX], [[[3, 4], [5, 6]]]),
        ("<box>(1,2),(30,40)</box><points>(3,4),(5,6)</points>", [BOX], [[[3, 4], [5, 6]]]),  # Seg-Zero
        (" <box>( 1, 2),(30,40.0)</box>\n<points>(3,4),(5,6)</points> ", [BOX], [[[3, 4], [5, 6]]]),
        (json.dumps([{"bbox_2d": BOX}]), [BOX], None),
        ("[]", [], None),
    ],
)
def test_the_three_ways_of_writing(text, boxes, points):
    solution = parse_solution(text)
    assert np.array(solution.boxes_xyxy).tolist() == boxes
    assert (solution.points_xy is None) if points is None else (np.array(solution.points_xy).tolist() == points)
    assert Truth.from_text(solution.to_text()) == solution


@pytest.mark.parametrize(
    "text",
    [
        "", "a zoo", "3", '["zoo"]', "[{}]", '[{"bbox_2d": [1, 2, 3]}]', '[{"bbox_2d": [30, 2, 1, 40]}]', "[" * 100_000,
        '[{"bbox_2d": [1, 2, 1e999, 4]}]', '[{"bbox_2d": [1, 2, 3, "x"]}]', "<box>(1,2)</box>",
        '[{"bbox_2d": [1, 2, 3, 4], "point_2d": [1]}]',
        '[{"bbox_2d": [1, 2, 3, 4], "point_2d": [1, 2]}, {"bbox_2d": [1, 2, 3, 4]}]',
    ],
)  # fmt: skip
def test_what_is_none_of_them_is_refused(text):
    with pytest.raises(ValueError, match=r"^solution = .*Fix: "):
        parse_solution(text)


@given(st.text() | st.recursive(st.none() | st.floats() | st.text(max_size=3), st.lists, max_leaves=9).map(json.dumps))
def test_any_text_is_a_solution_or_a_clear_error(text):
    try:
        assert all(len(box) == 4 for box in parse_solution(text).boxes_xyxy)
    except ValueError as error:
        assert "Fix: " in str(error)


def test_what_is_written_is_read():
    boxes_xyxy, points_xy = np.array([[0.5, 1, 2, 3]]), np.array([[[1.0, 2.0], [1.5, 2.5]]])
    solution = parse_solution(describe_solution(boxes_xyxy, points_xy))
    assert np.array_equal(solution.boxes_xyxy, boxes_xyxy)
    assert np.array_equal(solution.points_xy, points_xy)
