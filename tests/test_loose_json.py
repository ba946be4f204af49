import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verl_socio.loose_json import MAX_DEPTH, JsonObject, find_items


@pytest.mark.parametrize(
    ("text", "items", "intact"),
    [
        ('[{"a": 1}]', ({"a": 1.0},), True),
        ('```json\n[{"a": 1}]\n```', ({"a": 1.0},), True),
        ('[{"a": 1}, 2, null]', ({"a": 1.0}, 2.0, None), True),
        ('[{"a": NaN, "b": -Infinity, "c": true}]', ({"a": None, "b": None, "c": True},), True),
        ('x [{"a": 1}]', ({"a": 1.0},), False),
        ('[{"a": 1}] [{"b": 2}]', ({"b": 2.0},), False),
        ('[{"a": 1}] [3]', ({"a": 1.0},), False),
        ('[{"a": 1}, {"b"', ({"a": 1.0},), False),
        ('[{"a": 1}}]', ({"a": 1.0},), False),
        ('[{"a": 1}, {b}]', ({"a": 1.0}, None), False),
        ('{"a": 1} {"b": 2}', ({"a": 1.0}, {"b": 2.0}), False),
        ("[[[]]]", (), False),
        ("", (), False),
    ],
)
def test_lists(text, items, intact):
    found = find_items(text, 10, single=False)
    assert (found.items, found.intact, found.empty) == (items, intact, False)
    assert bool(found.faults) is not intact


@pytest.mark.parametrize(
    ("text", "single", "empty"),
    [
        ("[]", False, True),
        ("{}", False, False),
        ("{}", True, True),
        ("[]", True, True),
        ("[] ", False, True),
        ("a []", False, False),
        ("[][]", False, False),
        ("[,]", False, False),
        ("[}", False, False),
        ("[}", True, False),
    ],
)
def test_empty_is_only_what_is_well_formed(text, single, empty):
    assert find_items(text, 10, single=single).empty is empty


def test_nesting_is_read_to_a_depth():
    def nested(depth):
        return '[{"a": ' + "[" * (depth - 2) + "]" * (depth - 2) + "}]"

    assert find_items(nested(MAX_DEPTH), 10, single=False).intact
    assert find_items(nested(MAX_DEPTH + 1), 10, single=False).items == ()
    # What stands behind a stretch that is nested too deep is still found.
    assert find_items("[" * (MAX_DEPTH + 1) * 6 + '[{"a": 1}]', 10, single=False).items != ()


def test_repeated_keys_are_remembered():
    (item,) = find_items('[{"a": 1, "a": 2}]', 10, single=False).items
    assert isinstance(item, JsonObject)
    assert item == {"a": 2.0}
    assert item.repeats


numbers = st.floats(allow_nan=False, allow_infinity=False)


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.text(max_size=4), numbers | st.text(max_size=6)), min_size=1))
def test_strict_json_comes_back_as_it_is(values):
    found = find_items(json.dumps(values), len(values), single=False)
    assert list(found.items) == values
    assert found.intact
