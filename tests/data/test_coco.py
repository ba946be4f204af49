import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as library

from verl_socio.data import coco
from verl_socio.data.sample import ImageRef, label_array


def text_of(mask_hw):
    return library.encode(np.asfortranarray(mask_hw.astype(np.uint8)))["counts"].decode()


masks = arrays.arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 40)))


@settings(deadline=None)
@given(mask_hw=masks)
def test_run_lengths_as_text_list_and_list_of_them_are_the_mask(mask_hw):
    height, width = mask_hw.shape
    flat = mask_hw.ravel(order="F").astype(int)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat])))
    counts = np.diff([0, *edges, flat.size]).tolist()
    text = {"size": [height, width], "counts": text_of(mask_hw)}
    for segmentation in (text, [text, text], {"size": [height, width], "counts": counts}):
        assert np.array_equal(coco.decode(segmentation, (width, height)), mask_hw)


def test_polygons_are_drawn_and_parts_are_joined():
    parts = [[1, 1, 5, 1, 5, 5, 1, 5], [6, 0, 9, 0, 9, 2, 6, 2]]
    mask_hw = coco.decode(parts, (10, 8))
    assert mask_hw.shape == (8, 10)
    assert mask_hw.sum() == 16 + 6 and mask_hw[1:5, 1:5].all() and mask_hw[:2, 6:9].all()


@settings(deadline=None)
@given(
    st.text(max_size=20)
    | st.text(st.sampled_from([chr(code) for code in range(48, 112)]), max_size=20)
    | st.lists(st.integers(-5, 100) | st.floats() | st.none())
)
def test_any_counts_are_the_whole_mask_or_a_value_error(counts):
    try:
        mask_hw = coco.decode({"size": [6, 7], "counts": counts}, (7, 6))
    except ValueError:
        return
    assert mask_hw.shape == (6, 7)
    if isinstance(counts, list):
        assert sum(counts) == 42 and mask_hw.sum() == sum(counts[1::2])


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["size", "counts"]), inner),
    max_leaves=12,
)


@settings(deadline=None)
@given(junk)
def test_any_other_segmentation_is_a_value_error(segmentation):
    try:
        assert coco.decode(segmentation, (7, 6)).shape == (6, 7)
    except (ValueError, TypeError, KeyError, OverflowError):
        pass


@pytest.mark.parametrize("far", [1e9, float("nan"), -1e6])
def test_a_polygon_far_off_the_image_costs_no_memory(far):
    with pytest.raises(ValueError, match="near the image"):
        coco.decode([[0, 0, far, 0, 5, 5]], (10, 10))


def instances(**changes):
    image = {"id": 1, "file_name": "a.jpg", "width": 10, "height": 8}
    annotation = {"id": 5, "image_id": 1, "segmentation": [[1, 1, 5, 1, 5, 5, 1, 5]]}
    return {"images": [image], "annotations": [{**annotation, **changes}]}


def test_a_mask_is_found_by_its_annotation(tmp_path):
    (tmp_path / "instances.json").write_text(json.dumps(instances()))
    image = ImageRef(coco.mask_uri(tmp_path / "instances.json", 5))
    assert image.size_wh == (10, 8)
    assert label_array(image).sum() == 16


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "must hold COCO's lists"),
        ("[]", "must hold COCO's lists"),
        ('{"images": []}', "KeyError: 'annotations'"),
        ('{"images": 3, "annotations": []}', "must hold COCO's lists"),
        ('{"images": [{}], "annotations": []}', "KeyError: 'id'"),
        ('{"images": [{"id": [1]}], "annotations": []}', "must hold COCO's lists"),
        ('{"images": [{"id": 1}, {"id": 1}], "annotations": []}', "two have 1"),
        (json.dumps(instances(image_id=2)), "must be an annotation with its image in the file"),
        (json.dumps(instances(id=6)), "must be an annotation with its image in the file"),
        (json.dumps(instances(segmentation=None)), "there is no segmentation"),
        (json.dumps(instances(segmentation={"size": [99, 99], "counts": "1"})), r"size \[99, 99\]"),
    ],
)
def test_a_broken_file_is_told(tmp_path, content, told):
    file = tmp_path / "instances.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=rf"instances\.json.*{told}.*Fix:"):
        ImageRef(coco.mask_uri(file, 5)).open(mode=None)


@pytest.mark.parametrize("uri", ["coco:", "coco:#5", "coco:a#b", "coco:a"])
def test_a_malformed_reference_is_an_error(uri):
    with pytest.raises(ValueError, match=r"must read coco:FILE#ANNOTATION"):
        ImageRef(uri).open()
