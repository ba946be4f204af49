import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl_socio.evaluate.rows import SampleRow, read_rows

ITEM = '[{"bbox_2d": [1, 2, 3, 4.5], "points": [[1.5, 2], [2, 3]], "negative": [[9, 9]]}]'


@given(text=st.one_of(st.text(), st.text(st.sampled_from("\udc00x")), st.just(ITEM)))
def test_any_model_text_survives_the_way_to_a_line_and_back(text, row_of):
    row = row_of(text)
    line = row.to_line()
    assert line.count("\n") == 1 and line.endswith("\n")
    assert SampleRow.from_line(line) == row


def test_boxes_and_points_stay_together(row_of):
    [prompt] = row_of(ITEM).stages[0].prompts
    assert prompt == {"box_xyxy": [1, 2, 3, 4.5], "points_xy": [[1.5, 2], [2, 3], [9, 9]], "labels": [1, 1, 0]}
    assert json.loads(row_of(ITEM).to_line())["stages"][0]["prompts"] == [prompt]


@given(st.text())
def test_any_other_text_is_a_value_error(text):
    with pytest.raises(ValueError):
        SampleRow.from_line(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["stages", "center_box", "id"]), inner),
    max_leaves=6,
)


@given(JSON)
def test_any_other_json_is_a_value_error(value):
    with pytest.raises(ValueError):
        SampleRow.from_line(json.dumps(value))


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(SampleRow)])
def test_a_row_that_lacks_a_field_is_a_value_error(field, row_of):
    values = json.loads(row_of(ITEM).to_line())
    del values[field]
    with pytest.raises(ValueError):
        SampleRow.from_line(json.dumps(values))


def test_a_last_line_without_its_break_is_passed_over(tmp_path, row_of):
    line = row_of(ITEM).to_line()
    for torn in ("", "{", line[:-1]):
        (tmp_path / "results.jsonl").write_text(line + torn)
        assert list(read_rows(tmp_path / "results.jsonl")) == [row_of(ITEM)]
    (tmp_path / "results.jsonl").write_text("{\n" + line)
    with pytest.raises(ValueError, match=r"but line 1 is none.*Fix: delete the line"):
        list(read_rows(tmp_path / "results.jsonl"))
