"""The tables of referring, detection and counting."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verl_socio.data import Choice, load_samples, validate
from verl_socio.data.coco import boxes_by_pair
from verl_socio.data.sets.asked import question_of


@pytest.fixture
def change(published_set):
    """Write a set with one column replaced, and give its folder."""

    def write(name, column, values, kind=None):
        folder = published_set(name)
        [file] = (folder / "data").iterdir()
        table = pq.read_table(file)
        place = table.schema.get_field_index(column)
        if place >= 0:
            table = table.remove_column(place)
        pq.write_table(table.append_column(column, pa.array(values, kind)), file)
        return str(folder)

    return write


@pytest.mark.parametrize(
    ("text", "asked"),
    [('The "Cat".', 'the "cat'), (' "A dog?" ', "a dog"), ("U.S. flag!", "u.s. flag"), ("plain", "plain"), ("?!", "")],
)
def test_texts_are_asked_in_lower_case_without_marks_at_their_ends(text, asked):
    assert question_of(text) == asked


@settings(deadline=None)
@given(st.text())
def test_a_question_stays_itself(text):
    assert question_of(question_of(text)) == question_of(text)


def test_a_referring_row_has_mask_box_and_size(published_set):
    first = load_samples(str(published_set("referring")), "test")[0]
    assert first.question == 'the "cat" number 0'
    assert first.truth.boxes_xyxy == ((5.0, 10.0, 25.0, 30.0),)
    assert (first.truth.size_wh, first.truth.ignore_label, first.truth.may_be_empty) == ((64, 48), 255, True)


def test_boxes_are_optional_in_referring_sets_alone(change, published_set):
    folder = change("referring", "bbox", [None, [1.0, 2.0, 3.0, 4.0]], pa.list_(pa.float64()))
    assert [sample.truth.boxes_xyxy for sample in load_samples(folder, "test")] == [None, ((1.0, 2.0, 3.0, 4.0),)]


def test_a_mask_of_numbers_may_label_what_is_ignored(change):
    mask_hw = np.zeros((48, 64), dtype=int)
    mask_hw[:10], mask_hw[10:15] = 1, 255
    folder = change("referring", "mask", [mask_hw.tolist()] * 2, pa.list_(pa.list_(pa.uint8())))
    target_hw, ignored_hw = load_samples(folder, "test")[0].target_and_ignored()
    assert (target_hw.sum(), ignored_hw.sum()) == (640, 320)
    assert target_hw[:10].all() and ignored_hw[10:15].all()


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        ([[True, False], [True]], "rows of equally many values"),
        ([[True, None]], "rows of equally many values"),
        ([[]], "rows of equally many values"),
        ([], "rows of equally many values"),
        ([[True, False]], "must have the satellite's size, 64x48 px, but has 2x1 px"),
    ],
)
def test_a_mask_that_is_none_is_told_with_its_row(change, mask, told):
    folder = change("referring", "mask", [mask, mask], pa.list_(pa.list_(pa.bool_())))
    sample = load_samples(folder, "test")[1]
    with pytest.raises(ValueError, match=told + r".*Fix:") as caught:
        sample.target_mask()
    assert "#test/1/mask" in str(caught.value)
    assert {problem.id for problem in validate(folder, "test", need_map=False)} == {"000000-40-70", "000001-41-71"}


@pytest.mark.parametrize(
    ("name", "column", "value", "kind", "told"),
    [
        ("referring", "text", " .?", None, "must have a text that says something"),
        ("referring", "text", None, pa.string(), "must have a text that says something"),
        ("referring", "mask", None, pa.list_(pa.list_(pa.bool_())), "must have a value in the column mask"),
        ("referring", "bbox", [1.0, 2.0], pa.list_(pa.float64()), "must hold boxes"),
        ("referring", "img_width", -3, None, "as img_width, not -3"),
        ("detection", "bbox", [[3.0, 2.0, 1.0, 4.0]], pa.list_(pa.list_(pa.float64())), "x1 <= x2"),
        ("detection", "bbox", None, pa.list_(pa.list_(pa.float64())), "must hold boxes"),
        ("detection", "cat_id", None, pa.int64(), "as cat_id, not None"),
        ("counting", "count", -1, None, "as count, not -1"),
        ("counting", "count", "three", None, "as count, not 'three'"),
    ],
)  # fmt: skip
def test_a_row_that_is_no_sample_is_told(change, name, column, value, kind, told):
    folder = change(name, column, [value, value], kind)
    with pytest.raises(ValueError, match=rf"sample 000000-40-70 of .*row 0.*{told}.*Fix:"):
        load_samples(folder, "test", data_format=name)


def test_an_image_and_category_of_coco_are_asked_about_once(change):
    folder = change("detection", "image_id", [40, 40])
    assert len(load_samples(folder, "test")) == 2, "two categories of one image"
    folder_file = folder + "/data/test-00000-of-00001.parquet"
    table = pq.read_table(folder_file)
    place = table.schema.get_field_index("cat_id")
    pq.write_table(table.set_column(place, "cat_id", pa.array([3, 3])), folder_file)
    with pytest.raises(ValueError, match=r"must not have the image_id and cat_id of row 0: 40, 3"):
        load_samples(folder_file)


def test_detection_and_counting_know_boxes_and_counts_and_no_masks(published_set):
    first, second = load_samples(str(published_set("detection")), "test")
    assert (first.truth.image_id, first.truth.category_id, len(second.truth.boxes_xyxy)) == (40, 3, 2)
    assert first.target is None
    assert [sample.truth.count for sample in load_samples(str(published_set("counting")), "test")] == [2, 3]


# --- crowds ---

FIRST_BOX, SECOND_BOX, THIRD_BOX = (5.0, 10.0, 25.0, 30.0), (6.0, 10.0, 26.0, 30.0), (35.0, 10.0, 55.0, 30.0)


def test_a_column_of_one_s_own_tells_crowds_from_objects(change):
    first, second = load_samples(change("detection", "iscrowd", [[0], [1, 0]]), "test")
    assert (first.truth.boxes_xyxy, first.truth.crowd_xyxy) == ((FIRST_BOX,), ())
    assert (second.truth.boxes_xyxy, second.truth.crowd_xyxy) == ((THIRD_BOX,), (SECOND_BOX,))


def test_without_such_a_column_crowds_are_not_known(published_set):
    assert [each.truth.crowd_xyxy for each in load_samples(str(published_set("detection")), "test")] == [None, None]


@pytest.mark.parametrize("flags", [[], [0, 1], [2], [None]])
def test_flags_that_do_not_fit_the_boxes_are_told(change, flags):
    folder = change("detection", "iscrowd", [flags, [0, 0]])
    with pytest.raises(ValueError, match=r"row 0.*an iscrowd of 0 or 1 for each of its 1 boxes.*Fix:"):
        load_samples(folder, "test")


@pytest.fixture
def annotations(tmp_path):
    """Writes COCO's own file for the two images of the set `detection`, and gives its path."""

    def write(*entries, size_wh=(64, 48)):
        whole = [
            {"id": 70 + number, "image_id": 40, "category_id": 3, "iscrowd": 0, "area": 4.0, **entry}
            for number, entry in enumerate(entries)
        ]
        images = [{"id": image, "width": size_wh[0], "height": size_wh[1]} for image in (40, 41)]
        content = {"images": images, "annotations": whole, "categories": [{"id": 3}, {"id": 4}]}
        path = tmp_path / "instances_val2017.json"
        path.write_text(json.dumps(content))
        return str(path)

    return write


def test_coco_s_own_file_goes_before_the_table(published_set, annotations):
    of_second = {"image_id": 41, "category_id": 4}
    told = annotations(
        {"bbox": [1.5, 2, 3, 4]},
        {"bbox": [5, 6, 30, 20.25], "iscrowd": 1},
        {"bbox": [1, 1, 2, 2], "category_id": 9},
        {"bbox": [0, 0, 9, 9], "iscrowd": 1, **of_second},
    )
    first, second = load_samples(str(published_set("detection")), "test", choice=Choice(annotations=told))
    assert first.truth.boxes_xyxy == ((1.5, 2.0, 4.5, 6.0),)
    assert first.truth.crowd_xyxy == ((5.0, 6.0, 35.0, 26.25),)
    assert (second.truth.boxes_xyxy, second.truth.crowd_xyxy) == ((), ((0.0, 0.0, 9.0, 9.0),))


@pytest.mark.parametrize(
    ("entry", "size_wh", "rule"),
    [
        (
            {"bbox": [1, 2, 3, 4], "category_id": 1},
            (64, 48),
            "has boxes of image 40 and category 3, for which .* has none",
        ),
        ({"bbox": [1, 2, 3, 4]}, (640, 48), "must have its image's width and height in .*640, 48"),
        ({"bbox": [1, 2, 3]}, (64, 48), "annotation 70.*must have bbox"),
        ({"bbox": [1, 2, -3, 4]}, (64, 48), "annotation 70.*x1 <= x2"),
        ({"bbox": [1, 2, 3, 4], "iscrowd": 2}, (64, 48), "annotation 70.*must have bbox"),
        ({"bbox": [1, 2, 3, 4], "iscrowd": None}, (64, 48), "annotation 70.*as iscrowd, not None"),
        ({"bbox": [1, 2, 3, 4], "category_id": "cat"}, (64, 48), "annotation 70.*as category_id, not 'cat'"),
    ],
)
def test_a_file_that_does_not_fit_the_table_is_told(published_set, annotations, entry, size_wh, rule):
    choice = Choice(annotations=annotations(entry, size_wh=size_wh))
    with pytest.raises(ValueError, match=rf"{rule}.*Fix:"):
        load_samples(str(published_set("detection")), "test", choice=choice)


def test_an_image_that_the_file_does_not_have_is_told(change, annotations):
    choice = Choice(annotations=annotations({"bbox": [1, 2, 3, 4]}))
    with pytest.raises(ValueError, match=r"row 0.*which has none with the id 50.*Fix:"):
        load_samples(change("detection", "image_id", [50, 41]), "test", choice=choice)


def test_a_file_of_annotations_is_for_coco_s_table_alone(published_set, annotations):
    choice = Choice(annotations=annotations())
    with pytest.raises(ValueError, match=r"annotations = .*is for tables of COCO's boxes alone.*Fix:"):
        load_samples(str(published_set("counting")), "test", choice=choice)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)


@settings(deadline=None, max_examples=60)
@given(entry=st.fixed_dictionaries({"bbox": plain | st.lists(st.floats(0, 9), min_size=4, max_size=4)}, optional={
    "iscrowd": plain, "image_id": plain, "category_id": plain,
}))  # fmt: skip
def test_any_annotation_is_boxes_or_a_value_error(tmp_path_factory, entry):
    file = tmp_path_factory.mktemp("coco") / "instances.json"
    file.write_text(json.dumps({"images": [], "annotations": [{"id": 1, **entry}]}))
    try:
        assert all(len(pair) == 2 for pair in boxes_by_pair(str(file)))
    except ValueError as error:
        assert "Fix:" in str(error)


def test_a_picture_of_another_size_than_its_boxes_is_told(change):
    folder = change("detection", "img_width", [640, 64])
    [problem] = validate(folder, "test", need_map=False)
    assert problem.id == "000000-40-70" and "640x48 px, but has 64x48 px" in problem.rule
