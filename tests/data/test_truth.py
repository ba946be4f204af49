import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verl_socio.data.truth import UNKNOWN, Truth, boxes_of, whole_number

small = st.integers(0, 10**6)
corners = st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=4).map(
    lambda at: (min(at[0], at[2]), min(at[1], at[3]), max(at[0], at[2]), max(at[1], at[3]))
)


@settings(deadline=None)
@given(
    st.builds(
        Truth,
        boxes_xyxy=st.none() | st.lists(corners).map(tuple),
        crowd_xyxy=st.none() | st.lists(corners).map(tuple),
        count=st.none() | small,
        image_id=st.none() | small,
        category_id=st.none() | small,
        size_wh=st.none() | st.tuples(small, small),
        ignore_label=st.none() | small,
        mask_channel=st.none() | small,
        may_be_empty=st.booleans(),
    )
)
def test_what_is_known_comes_back_from_its_text(truth):
    text = truth.to_text()
    assert Truth.from_text(text) == truth
    assert (text is None) == (truth == UNKNOWN)


keys = st.sampled_from(["boxes_xyxy", "crowd_xyxy", "count", "size_wh", "x"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(keys, inner),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.text() | values.map(json.dumps))
def test_any_text_is_known_or_a_value_error(text):
    try:
        assert isinstance(Truth.from_text(text), Truth)
    except ValueError as error:
        assert "Fix:" in str(error)


def test_a_box_may_stand_alone_or_in_a_list():
    assert boxes_of([1, 2, 3, 4]) == boxes_of([[1, 2, 3, 4]]) == ((1.0, 2.0, 3.0, 4.0),)
    assert boxes_of([]) == ()


@pytest.mark.parametrize(
    "wrong",
    [None, "1234", [1, 2, 3], [[1, 2, 3]], [[3, 2, 1, 4]], [[1, 2, 3, float("nan")]], [[1, 2, 3, True]], 10**400],
)
def test_what_is_no_box_is_told(wrong):
    with pytest.raises(ValueError, match="must hold boxes"):
        boxes_of(wrong)


@pytest.mark.parametrize(("given", "read"), [(3, 3), (3.0, 3), (0, 0)])
def test_whole_numbers_may_be_written_with_a_point(given, read):
    assert whole_number("count", given) == read


@pytest.mark.parametrize("wrong", [None, -1, 1.5, float("inf"), float("nan"), "3", True])
def test_what_is_no_count_is_told(wrong):
    with pytest.raises(ValueError, match="a whole number of 0 or more as count"):
        whole_number("count", wrong)
