from dataclasses import replace

import numpy as np
import pytest
import shapely

from verl_socio.city import Place, Scene, draw_sample, readers, scene
from verl_socio.city.drawing import mask_of
from verl_socio.metrics import mask_iou

SCENES = [scene((5, index)) for index in range(10)] + [scene((6, index), region="new") for index in range(10)]


def shrunk(place: Place) -> Place:
    parts = tuple(replace(part, polygon=part.polygon.buffer(-3.0)) for part in place.plot.parts)
    return Place(replace(place.plot, extent=place.plot.extent.buffer(-3.0), parts=parts), place.sign)


def box_around_the_icon(drawn: Scene, place: int, side: float = 37.0) -> np.ndarray:
    x, y = drawn.places[place].sign.icon_xy
    return mask_of([shapely.box(x - side / 2, y - side / 2, x + side / 2, y + side / 2)], drawn.size_wh)


def test_one_picture_alone_does_not_tell_where_a_place_is():
    """The map says more than a box around the icon, and not where parts end; the satellite not which place is meant."""
    from_map, from_box, from_satellite = [], [], []
    for index in range(150):
        drawn, question = draw_sample("test", index, 0)
        if len(question.places) > 1:
            continue
        target_hw = drawn.mask(question.places)
        from_map.append(mask_iou(readers.from_map(drawn, question.places), target_hw))
        from_box.append(mask_iou(box_around_the_icon(drawn, question.places[0]), target_hw))
        from_satellite.append(mask_iou(readers.from_satellite(drawn), target_hw))
    assert np.mean(from_box) + 0.1 < np.mean(from_map) < 0.8
    assert np.mean(from_satellite) < 0.25


@pytest.mark.parametrize("drawn", SCENES)
def test_neither_looks_at_what_its_picture_does_not_show(drawn):
    asked = range(len(drawn.places))
    other_extents = replace(drawn, places=tuple(map(shrunk, drawn.places)))
    assert (other_extents.mask(asked) != drawn.mask(asked)).any()
    assert (readers.from_map(other_extents, asked) == readers.from_map(drawn, asked)).all()
    signs = [place.sign for place in drawn.places]
    mixed = tuple(Place(place.plot, sign) for place, sign in zip(drawn.places, signs[1:] + signs[:1], strict=True))
    other_signs = replace(drawn, places=mixed)
    assert (readers.from_satellite(other_signs) == readers.from_satellite(drawn)).all()


@pytest.mark.parametrize("drawn", SCENES)
def test_by_the_map_each_place_holds_its_marks_and_none_of_its_neighbours(drawn):
    guesses = [readers.from_map(drawn, [index]) for index in range(len(drawn.places))]
    assert np.sum(guesses, axis=0).max() == 1
    for place, guess_hw in zip(drawn.places, guesses, strict=True):
        xy = np.array([place.sign.icon_xy, *place.sign.dots_xy]).astype(int)
        assert guess_hw[xy[:, 1], xy[:, 0]].all()
    together_hw = readers.from_map(drawn, range(len(drawn.places)))
    assert (together_hw == np.any(guesses, axis=0)).all()


@pytest.mark.parametrize("drawn", SCENES)
def test_by_the_satellite_no_guess_is_better_on_average_than_all_places(drawn):
    masks = [drawn.mask([index]) for index in range(len(drawn.places))]

    def expected(guess_hw: np.ndarray) -> float:
        return float(np.mean([mask_iou(guess_hw, mask_hw) for mask_hw in masks]))

    best = expected(readers.from_satellite(drawn))
    assert best == pytest.approx(1 / len(masks), rel=0.02)
    others = [*masks, masks[0] | masks[-1], readers.from_map(drawn, [0])]
    assert all(expected(guess_hw) < best + 0.02 / len(masks) for guess_hw in others)
