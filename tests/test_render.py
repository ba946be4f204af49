from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from verl_socio.geometry import mask_boxes
from verl_socio.render import FeedbackStyle, draw_feedback, panel

FIGURE = Path(__file__).parent / "fixtures" / "socioseg_figure" / "test"
STYLE = FeedbackStyle()
NO_BOXES = np.zeros((0, 4))
BLUE = (0, 0, 255)


def grey(width=20, height=12, value=100):
    return Image.new("RGB", (width, height), (value,) * 3)


def pixels(image):
    return np.array(image)


# --- feedback ---


def test_a_box_is_an_outline_of_two_pixels_inside_its_half_open_edges():
    drawn = pixels(draw_feedback(grey(), np.array([[3, 2, 13, 10]]), None, STYLE))
    expected = np.full((12, 20, 3), 100, dtype=np.uint8)
    expected[2:10, 3:13] = BLUE
    expected[4:8, 5:11] = 100
    np.testing.assert_array_equal(drawn, expected)


def test_the_mask_is_mixed_over_the_boxes():
    mask_hw = np.zeros((12, 20), dtype=bool)
    mask_hw[:, :4] = True
    drawn = pixels(draw_feedback(grey(), np.array([[3, 2, 13, 10]]), mask_hw, STYLE))
    assert drawn[0, 0].tolist() == [162, 60, 60]  # 0.6 * 100 + 0.4 * (255, 0, 0)
    assert drawn[2, 3].tolist() == [102, 0, 153]  # 0.6 * blue + 0.4 * red
    assert drawn[2, 4].tolist() == [0, 0, 255]
    assert drawn[0, 4].tolist() == [100, 100, 100]


def test_the_image_is_left_as_it_is():
    image = grey()
    before = pixels(image).copy()
    drawn = draw_feedback(image, np.array([[0, 0, 20, 12]]), np.ones((12, 20), bool), STYLE)
    np.testing.assert_array_equal(pixels(image), before)
    assert drawn is not image
    plain = draw_feedback(image, NO_BOXES, None, STYLE)
    plain.putpixel((0, 0), (1, 2, 3))
    np.testing.assert_array_equal(pixels(image), before)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK", "RGB"])
def test_any_mode_becomes_rgb(mode):
    drawn = draw_feedback(grey().convert(mode), np.array([[0, 0, 5, 5]]), np.ones((12, 20), bool), STYLE)
    assert (drawn.mode, drawn.size) == ("RGB", (20, 12))


def test_style():
    style = FeedbackStyle(box_rgb=(0, 255, 0), box_width=1, mask_rgb=(0, 0, 0), mask_alpha=1.0)
    mask_hw = np.zeros((12, 20), dtype=bool)
    mask_hw[0, 0] = True
    drawn = pixels(draw_feedback(grey(), np.array([[3, 2, 13, 10]]), mask_hw, style))
    assert drawn[0, 0].tolist() == [0, 0, 0]
    assert drawn[2, 3].tolist() == [0, 255, 0]
    assert drawn[3, 4].tolist() == [100, 100, 100]
    unboxed = draw_feedback(grey(), np.array([[3, 2, 13, 10]]), None, FeedbackStyle(box_width=0))
    np.testing.assert_array_equal(pixels(unboxed), pixels(grey()))


@pytest.mark.parametrize(
    ("box", "blue_rows", "blue_columns"),
    [
        ((-50, 3, 5, 9), {3, 4, 5, 6, 7, 8}, {0, 1, 2, 3, 4}),  # the left side stays outside
        ((-1e6, -1e6, 1e6, 1e6), set(), set()),  # around the image
        ((40, 40, 50, 50), set(), set()),
        ((-9, -9, -1, -1), set(), set()),
        ((5, 5, 5.2, 9), {5, 6, 7, 8}, {5}),  # thinner than a pixel: a line
        ((15, 8, 30, 30), {8, 9, 10, 11}, {15, 16, 17, 18, 19}),
    ],
)
def test_boxes_that_reach_out_of_the_image(box, blue_rows, blue_columns):
    drawn = pixels(draw_feedback(grey(), np.array([box], dtype=float), None, STYLE))
    rows, columns = np.nonzero((drawn == BLUE).all(axis=-1))
    assert set(rows.tolist()) == blue_rows
    assert set(columns.tolist()) == blue_columns


def test_the_open_side_of_a_box_has_no_line():
    drawn = pixels(draw_feedback(grey(), np.array([[-50.0, 3, 8, 9]]), None, STYLE))
    assert drawn[5:7, 0:6].tolist() == np.full((2, 6, 3), 100).tolist()


coordinate = st.floats(-1e6, 1e6)


@settings(deadline=None)
@given(
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    boxes=st.lists(st.tuples(coordinate, coordinate, coordinate, coordinate), max_size=4),
    fill=st.booleans(),
)
def test_any_boxes_on_any_size(width, height, boxes, fill):
    ordered = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in boxes]
    mask_hw = np.full((height, width), fill)
    drawn = draw_feedback(grey(width, height), np.array(ordered).reshape(-1, 4), mask_hw, STYLE)
    assert drawn.size == (width, height)
    assert {tuple(colour) for colour in pixels(drawn).reshape(-1, 3)} <= (
        {(162, 60, 60), (102, 0, 153)} if fill else {(100, 100, 100), BLUE}
    )


@pytest.mark.parametrize(
    ("boxes", "mask_hw", "match"),
    [
        (np.zeros(4), None, "boxes_xyxy"),
        (np.array([[0, 0, np.nan, 1]]), None, "boxes_xyxy"),
        (np.array([[0, 0, np.inf, 1]]), None, "boxes_xyxy"),
        (NO_BOXES, np.zeros((20, 12), bool), r"mask_hw\.shape = \(20, 12\).*\(12, 20\)"),
        (NO_BOXES, np.zeros((12, 20), np.uint8), "two-dimensional bool"),
    ],
)
def test_what_cannot_be_drawn_is_refused(boxes, mask_hw, match):
    with pytest.raises(ValueError, match=match):
        draw_feedback(grey(), boxes, mask_hw, STYLE)


@pytest.mark.parametrize(
    "values",
    [
        {"box_rgb": (0, 0, 256)},
        {"box_rgb": (0, 0)},
        {"mask_rgb": (0.5, 0, 0)},
        {"box_width": -1},
        {"box_width": 1.5},
        {"mask_alpha": 1.1},
        {"mask_alpha": float("nan")},
    ],
)
def test_styles_out_of_range_are_refused(values):
    with pytest.raises(ValueError, match=f"feedback.{next(iter(values))}"):
        FeedbackStyle(**values)


def test_a_real_sample_is_changed_only_where_box_and_mask_are():
    folder = FIGURE / "fig_class_0"
    image = Image.open(folder / "sat.png").convert("RGB")
    mask_hw = np.array(Image.open(folder / "mask.png")) > 0
    boxes = mask_boxes(mask_hw)
    drawn = pixels(draw_feedback(image, boxes, mask_hw, STYLE))
    changed = (drawn != pixels(image)).any(axis=-1)
    x1, y1, x2, y2 = boxes.astype(int)[0]
    around = np.ones_like(changed)
    around[y1:y2, x1:x2] = False
    assert not changed[around].any()
    assert changed[mask_hw].mean() > 0.99
    expected = np.rint(0.6 * pixels(image)[mask_hw][:, 1]).astype(int)
    inner = mask_hw.copy()
    inner[: y1 + 2], inner[y2 - 2 :], inner[:, : x1 + 2], inner[:, x2 - 2 :] = False, False, False, False
    np.testing.assert_array_equal(drawn[inner][:, 1], expected[inner[mask_hw]])


# --- panels ---


def colours(image):
    return {tuple(colour) for colour in pixels(image).reshape(-1, 3)}


def test_a_panel_shows_every_tile_whole():
    tiles = [(f"tile {n}", Image.new("RGB", (140, 90), (10 * n, 0, 200))) for n in range(1, 6)]
    sheet = panel(tiles, columns=3)
    found = pixels(sheet)
    for n in range(1, 6):
        rows, columns = np.nonzero((found == (10 * n, 0, 200)).all(axis=-1))
        assert (np.ptp(rows) + 1, np.ptp(columns) + 1, len(rows)) == (90, 140, 90 * 140)
    assert sheet.width < 4 * 140
    assert sheet.height < 3 * 140


@pytest.mark.parametrize(("side", "least"), [(140, 8), (756, 20)])
def test_captions_are_readable_at_the_size_of_the_tiles(side, least):
    sheet = panel([("IoU", Image.new("RGB", (side, side), (0, 200, 0)))], columns=1)
    dark = (pixels(sheet).sum(axis=-1) < 150).any(axis=1)
    # The capital letters' height in pixels.
    assert np.ptp(np.nonzero(dark)[0]) + 1 >= least
    # The caption stands above the picture.
    picture = np.nonzero((pixels(sheet) == (0, 200, 0)).all(axis=-1))[0]
    assert np.nonzero(dark)[0].max() < picture.min()


@pytest.mark.parametrize("caption", ["word " * 60, "x" * 500, "a\nb\nc", "w" * 100_000, "学校 \ud800 \x00", "", " \n "])
@pytest.mark.parametrize("side", [1, 140])
def test_any_caption_stays_in_its_cell(caption, side):
    tiles = [(caption, Image.new("RGB", (side, side), (0, 200, 0))), ("", Image.new("RGB", (side, side), (0, 0, 200)))]
    sheet = panel(tiles, columns=2)
    found = pixels(sheet)
    for colour in ((0, 200, 0), (0, 0, 200)):
        assert np.count_nonzero((found == colour).all(axis=-1)) == side * side
    right_half = found[:, sheet.width // 2 + 2 :]
    assert not (right_half == 0).all(axis=-1).any()


def test_tiles_may_differ_in_size_and_mode():
    sheet = panel([("a", Image.new("L", (10, 50), 7)), ("b", Image.new("RGBA", (60, 5), (1, 2, 3, 255)))], columns=9)
    assert {(7, 7, 7), (1, 2, 3)} <= colours(sheet)
    assert sheet.mode == "RGB"


@pytest.mark.parametrize(("tiles", "columns"), [([], 1), ([("a", grey())], 0)])
def test_an_empty_panel_is_refused(tiles, columns):
    with pytest.raises(ValueError, match="panel"):
        panel(tiles, columns)
