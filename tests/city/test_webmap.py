import numpy as np
import pytest

from verl_socio.city import webmap
from verl_socio.city.catalog import CLASSES, MARKERS
from verl_socio.city.layout import Layout, design_unit
from verl_socio.city.signs import Sign

EMPTY = Layout(design_unit((140, 140)), (), None, ())


def drawn(place_class, marker, x, y, style):
    sign = Sign(place_class, marker, (x, y), ())
    return np.asarray(webmap.render(EMPTY, [sign], (32, 32), style)).astype(float)


@pytest.mark.parametrize("style", list(webmap.MAP_STYLES))
def test_every_class_and_marker_is_legible_at_140_px_wherever_the_icon_falls(style):
    """A reader who knows the marks takes none for another, though icons fall between pixels."""
    known = [(one, marker) for one in CLASSES for marker in MARKERS]
    templates = np.stack([drawn(one, marker, 16.0, 14.0, style) for one, marker in known]).reshape(len(known), -1)
    rng = np.random.default_rng(0)
    for one, marker in known:
        seen = drawn(one, marker, 16.0 + rng.uniform(-0.5, 0.5), 14.0 + rng.uniform(-0.5, 0.5), style).ravel()
        nearest = known[int(np.argmin(np.square(templates - seen).sum(axis=1)))]
        assert nearest == (one, marker)


def test_names_are_written_out_where_they_are_legible():
    sign = Sign(CLASSES[0], MARKERS[0], (100.0, 60.0), ())
    other = Sign(CLASSES[0], MARKERS[0], (100.0, 60.0), ((30.0, 30.0),))
    large = Layout(design_unit((512, 512)), (), None, ())

    def ink(layout: Layout, one: Sign) -> int:
        image = np.asarray(webmap.render(layout, [one], (200, 120), "day")).astype(int)
        return int((np.abs(image - webmap.MAP_STYLES["day"].text).sum(axis=-1) < 90).sum())

    assert ink(EMPTY, sign) == 0 and ink(large, sign) > 60
    assert not np.array_equal(webmap.render(large, [sign], (200, 120)), webmap.render(large, [other], (200, 120)))


def test_the_other_style_is_another_picture_of_the_same_marks():
    day, atlas = (drawn(CLASSES[3], MARKERS[1], 16.0, 14.0, style) for style in ("day", "atlas"))
    assert np.abs(day - atlas).mean() > 5.0
