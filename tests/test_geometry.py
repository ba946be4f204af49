import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from verl_socio.geometry import (
    Frame,
    VisionGrid,
    best_pairs,
    box_iou,
    center_box,
    convert,
    filled_boxes,
    inscribed_centers,
    label_instances,
    mask_boxes,
    mask_instances,
    model_frame,
    without_overlaps,
)

GRID_14 = VisionGrid(patch_size=14, merge_size=2, min_pixels=56 * 56, max_pixels=14 * 14 * 4 * 1280)
sides = st.integers(1, 5000)


# --- frames ---


def test_frame_of_image():
    assert Frame.of_image((640, 480)).size_wh == (640.0, 480.0)


@pytest.mark.parametrize("size", [(0, 1), (1, -1), (float("nan"), 1), (1, float("inf"))])
def test_frame_refuses_extents_no_image_has(size):
    with pytest.raises(ValueError, match=r"frame\.size_wh"):
        Frame(size)


def test_the_released_fault_768_against_756_is_11_px_and_gone_after_conversion():
    image, model = Frame((768, 768)), Frame((756, 756))
    answered = convert(np.array([700.0, 700.0]), image, model)
    assert np.abs(answered - 700).max() == pytest.approx(10.9375)
    assert convert(answered, model, image) == pytest.approx(np.array([700.0, 700.0]))


def test_convert_scales_each_axis_by_its_own_ratio():
    boxes = np.array([[[10, 20, 30, 40]], [[0, 0, 100, 50]]])
    moved = convert(boxes, Frame((100, 50)), Frame((1000, 1000)))
    assert moved.shape == (2, 1, 4)
    assert moved.dtype == np.float64
    assert moved[:, 0].tolist() == [[100, 400, 300, 800], [0, 0, 1000, 1000]]


def test_convert_neither_clips_nor_rounds_nor_shares_memory():
    point = np.array([-3.25, 1e6])
    same = convert(point, Frame((7, 7)), Frame((7, 7)))
    assert same.tolist() == [-3.25, 1e6]
    same[0] = 9
    assert point[0] == -3.25


@pytest.mark.parametrize("shape", [(0, 4), (0, 2), (5, 0, 2)])
def test_convert_takes_no_boxes(shape):
    assert convert(np.zeros(shape), Frame((2, 2)), Frame((4, 4))).shape == shape


@pytest.mark.parametrize("shape", [(), (0,), (3,), (4, 3)])
def test_convert_refuses_what_is_no_box_or_point(shape):
    with pytest.raises(ValueError, match="last axis"):
        convert(np.zeros(shape), Frame((2, 2)), Frame((4, 4)))


@given(st.tuples(sides, sides), st.tuples(sides, sides), st.data())
def test_round_trip_is_exact_to_half_a_pixel_in_a_frame_as_fine_as_the_image(size_wh, extra, data):
    finer = Frame((float(size_wh[0] + extra[0] - 1), float(size_wh[1] + extra[1] - 1)))
    image = Frame.of_image(size_wh)
    point = np.array([data.draw(st.floats(0, size_wh[0])), data.draw(st.floats(0, size_wh[1]))])
    back = convert(np.rint(convert(point, image, finer)), finer, image)
    assert np.abs(back - point).max() <= 0.5 + 1e-9


@given(st.integers(1, 20_000), st.data())
def test_thousandths_are_coarser_than_a_large_image(width, data):
    image, thousandths = Frame((width, width)), Frame((1000, 1000))
    x = data.draw(st.integers(0, width))
    back = convert(np.rint(convert(np.array([x, x]), image, thousandths)), thousandths, image)
    assert np.abs(back - x).max() <= 0.5 * max(1.0, width / 1000) + 1e-9


def test_thousandths_lose_more_than_half_a_pixel_at_4000():
    image, thousandths = Frame((4000, 4000)), Frame((1000, 1000))
    back = convert(np.rint(convert(np.array([2.0, 1.0]), image, thousandths)), thousandths, image)
    assert back.tolist() == [0.0, 0.0]


# --- the smart resize ---


def test_socioseg_image_has_729_tokens():
    assert GRID_14.resized_wh((768, 768)) == (756, 756)
    assert GRID_14.num_tokens((768, 768)) == 729


def test_width_and_height_are_not_swapped():
    assert GRID_14.resized_wh((1000, 300)) == (1008, 308)
    assert GRID_14.num_tokens((1000, 300)) == 36 * 11


@pytest.fixture(scope="module")
def smart_resize():
    from verl_socio.torchvision_cpu import make_importable

    make_importable()
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    return smart_resize


@settings(max_examples=300, deadline=None)
@given(
    width=sides,
    height=sides,
    patch=st.sampled_from([(14, 2), (16, 2), (14, 1), (8, 2)]),
    pixels=st.sampled_from([(3136, 1_003_520), (1, 50_000), (65_536, 16_777_216), (200_704, 200_704)]),
)
def test_smart_resize_agrees_with_transformers(smart_resize, width, height, patch, pixels):
    assume(max(width, height) / min(width, height) <= 200)
    grid = VisionGrid(patch_size=patch[0], merge_size=patch[1], min_pixels=pixels[0], max_pixels=pixels[1])
    expected = smart_resize(height, width, factor=patch[0] * patch[1], min_pixels=pixels[0], max_pixels=pixels[1])
    assert grid.resized_wh((width, height)) == expected[::-1]
    assert grid.num_tokens((width, height)) == expected[0] * expected[1] // (patch[0] * patch[1]) ** 2


@pytest.mark.parametrize("size", [(0, 10), (10, -1), (1, 201), (4020, 20)])
def test_smart_resize_refuses_impossible_images(size):
    with pytest.raises(ValueError, match=r"image\.size_wh"):
        GRID_14.resized_wh(size)


@pytest.mark.parametrize(
    ("change", "field"),
    [({"patch_size": 0}, "patch_size"), ({"merge_size": 0}, "merge_size"), ({"min_pixels": 99}, "min_pixels")],
)
def test_grid_refuses_impossible_settings(change, field):
    with pytest.raises(ValueError, match=rf"vision_grid\.{field}"):
        VisionGrid(**{"patch_size": 14, "merge_size": 2, "min_pixels": 1, "max_pixels": 50, **change})


@pytest.mark.parametrize(
    ("model_type", "expected"),
    [
        ("qwen2_vl", (1000, 1000)),
        ("qwen2_5_vl", (756, 532)),
        ("qwen3_vl", (1000, 1000)),
        ("qwen3_vl_moe", (1000, 1000)),
    ],
)
def test_model_frames(model_type, expected):
    assert model_frame(model_type, (768, 540), GRID_14).size_wh == expected


def test_unknown_model_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'llava'.*qwen2_5_vl, qwen2_vl, qwen3_vl, qwen3_vl_moe.*Fix:.*MODEL_FRAMES"):
        model_frame("llava", (10, 10), GRID_14)


# --- boxes ---


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([0, 0, 2, 2], [0, 0, 2, 2], 1.0),
        ([0, 0, 2, 2], [1, 0, 3, 2], 2 / 6),
        ([0, 0, 2, 2], [2, 0, 4, 2], 0.0),  # half-open: they only touch
        ([0, 0, 4, 4], [1, 1, 2, 2], 1 / 16),
        ([0, 0, 2, 2], [5, 5, 6, 6], 0.0),
        ([1, 1, 1, 1], [1, 1, 1, 1], 0.0),  # no area
        ([-2, -2, 0, 0], [-1, -1, 0, 0], 1 / 4),
    ],
)
def test_box_iou(a, b, expected):
    assert box_iou(np.array([a]), np.array([b])).tolist() == [[pytest.approx(expected)]]


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 3), (2, 0)])
def test_box_iou_of_nothing(n, m):
    assert box_iou(np.ones((n, 4)), np.ones((m, 4))).shape == (n, m)


@given(st.data())
def test_box_iou_equals_counting_pixels(data):
    corner = st.integers(0, 12)

    def draw_box():
        x, y = sorted([data.draw(corner), data.draw(corner)]), sorted([data.draw(corner), data.draw(corner)])
        return [x[0], y[0], x[1], y[1]]

    a, b = draw_box(), draw_box()
    pixels = [{(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])} for box in (a, b)]
    union = len(pixels[0] | pixels[1])
    expected = len(pixels[0] & pixels[1]) / union if union else 0.0
    assert box_iou(np.array([a]), np.array([b]))[0, 0] == pytest.approx(expected, abs=1e-12)


def test_best_pairs_is_not_greedy():
    # Greedy takes 0.9 and then 0.0; the best sum is 0.8 + 0.8.
    rows, columns = best_pairs(np.array([[0.9, 0.8], [0.8, 0.0]]))
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 1), (1, 0)]


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_best_pairs_of_nothing(shape):
    rows, columns = best_pairs(np.zeros(shape))
    assert len(rows) == len(columns) == 0


@pytest.mark.parametrize(("fraction", "expected"), [(1.0, [0, 0, 100, 60]), (0.25, [25, 15, 75, 45])])
def test_center_box(fraction, expected):
    assert center_box((100, 60), fraction) == pytest.approx(np.array(expected))


@pytest.mark.parametrize("fraction", [0.0, -1.0, 1.01, float("nan")])
def test_center_box_refuses_shares_that_are_none(fraction):
    with pytest.raises(ValueError, match=r"center_box\.fraction"):
        center_box((10, 10), fraction)


# --- regions ---


def region_mask():
    mask_hw = np.zeros((20, 30), dtype=bool)
    mask_hw[2:6, 3:8] = True  # 20 px
    mask_hw[10:12, 20:25] = True  # 10 px: not above 10
    mask_hw[14:18, 20:23] = True  # 12 px, joined over a corner with ...
    mask_hw[18:20, 23:30] = True  # ... 14 px
    return mask_hw


def test_regions_and_boxes():
    mask_hw = region_mask()
    instances = mask_instances(mask_hw)
    assert sorted(int(instance.sum()) for instance in instances) == [20, 26]
    assert all(instance.dtype == np.bool_ and instance.shape == (20, 30) for instance in instances)
    assert sorted(mask_boxes(mask_hw).tolist()) == [[3, 2, 8, 6], [20, 14, 30, 20]]


@pytest.mark.parametrize(("min_area", "areas"), [(0, [10, 20, 26]), (9, [10, 20, 26]), (25, [26]), (26, [])])
def test_min_area_is_exclusive(min_area, areas):
    assert sorted(int(instance.sum()) for instance in mask_instances(region_mask(), min_area)) == areas
    assert len(mask_boxes(region_mask(), min_area)) == len(areas)


def test_labels_are_numbered_without_gaps():
    labels_hw, count = label_instances(region_mask())
    assert count == 2
    assert np.unique(labels_hw).tolist() == [0, 1, 2]


def test_an_empty_mask_has_no_box():
    boxes = mask_boxes(np.zeros((5, 5), dtype=bool))
    assert boxes.shape == (0, 4)
    assert boxes.dtype == np.float64
    assert mask_instances(np.zeros((5, 5), dtype=bool)) == []


def test_a_full_mask_is_one_box():
    assert mask_boxes(np.ones((4, 6), dtype=bool)).tolist() == [[0, 0, 6, 4]]


@pytest.mark.parametrize("mask", [np.zeros((3, 3)), np.zeros((3, 3, 1), bool), np.zeros((0, 3), bool)])
def test_masks_must_be_bool_pictures(mask):
    with pytest.raises(ValueError, match="two-dimensional bool"):
        mask_boxes(mask)


# --- circles and boxes in masks ---


def test_the_centre_of_the_largest_circle_of_a_square_is_its_middle():
    mask_hw = np.zeros((40, 60), dtype=bool)
    mask_hw[5:16, 20:31] = True
    assert inscribed_centers(mask_hw, 1).tolist() == [[25.5, 10.5]]


def test_the_second_circle_lies_beside_the_first_one():
    mask_hw = np.zeros((40, 80), dtype=bool)
    mask_hw[5:36, 5:36] = True
    mask_hw[10:21, 50:61] = True
    mask_hw[20:21, 36:50] = True  # a path between them holds no larger circle
    assert inscribed_centers(mask_hw, 2).tolist() == [[20.5, 20.5], [55.5, 15.5]]


def test_what_lies_off_the_image_is_off_the_mask():
    assert inscribed_centers(np.ones((9, 9), dtype=bool), 1).tolist() == [[4.5, 4.5]]


@pytest.mark.parametrize(("pixels", "expected"), [([], []), ([(2, 3)], [[3.5, 2.5]] * 3)])
def test_masks_too_small_for_so_many_circles(pixels, expected):
    mask_hw = np.zeros((6, 7), dtype=bool)
    for row, column in pixels:
        mask_hw[row, column] = True
    assert inscribed_centers(mask_hw, 3).tolist() == expected


@given(arrays(np.bool_, (12, 15)))
def test_centres_lie_on_the_mask(mask_hw):
    for x, y in inscribed_centers(mask_hw, 2):
        assert mask_hw[int(y), int(x)]


def test_boxes_are_filled_as_far_as_they_lie_on_the_image():
    mask_hw = filled_boxes(np.array([[-5, 1.2, 3, 2.9], [8, 0, 99, 1]]), (10, 4))
    assert np.argwhere(mask_hw).tolist() == [[0, 8], [0, 9], [1, 0], [1, 1], [1, 2], [2, 0], [2, 1], [2, 2]]


@pytest.mark.parametrize(
    ("boxes", "max_iou", "expected"),
    [
        ([], 0.5, []),
        ([(0, 0, 10, 10), (0, 0, 10, 9)], 0.5, [True, False]),  # IoU 0.9
        ([(0, 0, 10, 9), (0, 0, 10, 10)], 0.5, [False, True]),
        ([(0, 0, 10, 10), (0, 0, 10, 5)], 0.5, [True, True]),  # exactly one half is not more than it
        ([(0, 0, 10, 10), (0, 0, 10, 10)], 0.5, [True, False]),
        ([(0, 0, 10, 10), (20, 0, 30, 10)], 0.0, [True, True]),
        # The middle one goes because of the largest; what only overlapped with the middle one stays.
        ([(0, 0, 10, 10), (0, 0, 10, 7), (0, 0, 10, 4)], 0.5, [True, False, True]),
    ],
)
def test_of_boxes_that_overlap_the_larger_one_stays(boxes, max_iou, expected):
    assert without_overlaps(np.array(boxes, dtype=float).reshape(-1, 4), max_iou).tolist() == expected
