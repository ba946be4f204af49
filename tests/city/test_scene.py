from dataclasses import replace

import numpy as np
import pytest
import shapely

from verl_socio import geometry
from verl_socio.city import Place, scene
from verl_socio.city.drawing import coverage, mask_of
from verl_socio.city.signs import bar_box, icon_size

SCENES = [scene((5, index)) for index in range(25)] + [scene((6, index), region="new") for index in range(15)]


def test_a_seed_gives_one_scene_and_another_seed_another():
    first, again, other = scene(3), scene(3), scene(4)
    assert first.satellite().tobytes() == again.satellite().tobytes() != other.satellite().tobytes()
    assert first.map().tobytes() == again.map().tobytes() != other.map().tobytes()


@pytest.mark.parametrize("region", ["home", "new"])
def test_the_satellite_does_not_change_when_places_change_their_meaning(region):
    drawn = scene(1, region=region)
    signs = [place.sign for place in drawn.places]
    mixed = tuple(Place(place.plot, sign) for place, sign in zip(drawn.places, signs[1:] + signs[:1], strict=True))
    other = replace(drawn, places=mixed)
    assert other.satellite().tobytes() == drawn.satellite().tobytes()
    assert other.map().tobytes() == drawn.map().tobytes(), "the signs are where they were"
    assert (other.mask([0]) == drawn.mask([0])).all()
    assert scene(1, region=region, repeats=3).satellite().tobytes() == drawn.satellite().tobytes()
    assert scene(1, region=region, repeats=3).map().tobytes() != drawn.map().tobytes()


@pytest.mark.parametrize("style", ["day", "atlas"])
def test_the_map_does_not_change_when_places_change_their_extents(style):
    drawn = scene(2)

    def shrunk(place: Place) -> Place:
        parts = tuple(replace(part, polygon=part.polygon.buffer(-3.0)) for part in place.plot.parts)
        return Place(replace(place.plot, extent=place.plot.extent.buffer(-3.0), parts=parts), place.sign)

    other = replace(drawn, places=tuple(shrunk(place) for place in drawn.places))
    assert other.map(style).tobytes() == drawn.map(style).tobytes()
    assert other.satellite().tobytes() != drawn.satellite().tobytes()
    assert other.mask([0]).sum() < drawn.mask([0]).sum()


@pytest.mark.parametrize("drawn", SCENES)
def test_an_icon_lies_in_its_place_and_dots_in_the_other_parts(drawn):
    icon = icon_size(drawn.layout.unit)
    for place in drawn.places:
        marks = shapely.points([place.sign.icon_xy, *place.sign.dots_xy])
        assert len(marks) == len(place.plot.parts)
        holding = [{index for index, part in enumerate(place.plot.parts) if part.polygon.contains(xy)} for xy in marks]
        assert set().union(*holding) == set(range(len(place.plot.parts)))
        x, y = place.sign.icon_xy
        assert icon / 2 <= x <= drawn.size_wh[0] - icon / 2 and icon / 2 <= y <= drawn.size_wh[1] - icon / 2


def test_icons_are_off_the_centre_and_clear_of_each_other():
    away, overlaps, pairs = [], 0, 0
    for drawn in SCENES:
        icon = icon_size(drawn.layout.unit)
        boxes = []
        for place in drawn.places:
            centre = place.plot.extent.centroid
            away.append(shapely.distance(centre, shapely.Point(place.sign.icon_xy)) / place.plot.extent.area**0.5)
            (x, y), (_, _, _, bottom) = place.sign.icon_xy, bar_box(place.sign.icon_xy, icon)
            boxes.append(shapely.box(x - icon / 2, y - icon / 2, x + icon / 2, bottom))
        for index, box in enumerate(boxes):
            pairs += index
            overlaps += sum(box.intersection(other).area > 4.0 for other in boxes[:index])
    assert np.median(away) > 0.2 and np.percentile(away, 5) > 0.1
    assert overlaps / pairs < 0.01


@pytest.mark.parametrize("drawn", SCENES)
def test_a_place_never_fills_its_block_and_no_function_is_twice_in_one(drawn):
    for number, block in enumerate(drawn.layout.blocks):
        inside = [place for place in drawn.places if place.plot.block == number]
        functions = [place.sign.place_class.function for place in inside]
        assert len(set(functions)) == len(functions)
        assert all(len(place.plot.parts) < len(block.cells) for place in inside)


@pytest.mark.parametrize("drawn", SCENES)
def test_every_question_s_mask_has_one_region_for_each_place(drawn):
    for question in drawn.questions():
        assert len(geometry.mask_boxes(drawn.mask(question.places))) == len(question.places)
    names = [question for question in drawn.questions() if question.level == "name"]
    assert len(names) == len(drawn.places) and all(len(question.places) == 1 for question in names)


def test_questions_mean_every_place_of_their_class_or_function():
    for drawn in SCENES:
        for question in drawn.questions():
            attribute = {
                "name": lambda sign: sign.name,
                "class": lambda sign: sign.place_class.name,
                "function": lambda sign: sign.place_class.function.name,
            }[question.level]
            means = [index for index, place in enumerate(drawn.places) if attribute(place.sign) == question.text]
            assert list(question.places) == means


def test_parts_are_of_different_surfaces_and_fill_the_place_but_for_the_strips_between():
    for drawn in SCENES:
        for index, place in enumerate(drawn.places):
            surfaces = [part.surface for part in place.plot.parts]
            assert len(set(surfaces)) == len(surfaces)
            parts_phw, mask_hw = drawn.part_masks(index), drawn.mask([index])
            assert parts_phw.dtype == np.bool_ and parts_phw.shape == (len(surfaces), *mask_hw.shape)
            assert parts_phw.sum(axis=0).max() == 1, "parts do not overlap"
            assert not (parts_phw.any(axis=0) & ~mask_hw).any()
            assert parts_phw.any(axis=0).sum() > 0.85 * mask_hw.sum()


def test_the_ground_does_not_tell_which_cells_belong_together():
    """Two cells of one place are as far apart as two neighbours of different places."""
    within, between = [], []
    for drawn in SCENES[:25]:
        cells = [(index, part) for index, place in enumerate(drawn.places) for part in place.plot.parts]
        for number, (owner, part) in enumerate(cells):
            for other_owner, other in cells[:number]:
                gap = part.polygon.distance(other.polygon) / drawn.layout.unit
                if drawn.places[owner].plot.block == drawn.places[other_owner].plot.block and gap < 4.0:
                    (within if owner == other_owner else between).append(gap)
    assert len(within) > 20 and len(between) > 20
    assert abs(np.median(within) - np.median(between)) < 0.1


def test_boxes_of_several_parts_leave_much_open():
    fills = []
    for drawn in SCENES:
        for place in drawn.places:
            if len(place.plot.parts) > 1:
                x1, y1, x2, y2 = place.plot.extent.bounds
                fills.append(place.plot.extent.area / ((x2 - x1) * (y2 - y1)))
    assert np.mean(fills) < 0.75


@pytest.mark.parametrize("size_wh", [(56, 56), (140, 140), (224, 168), (96, 300), (224, 56), (512, 512)])
@pytest.mark.parametrize("region", ["home", "new"])
def test_any_size_from_56_px_that_is_not_too_narrow_gives_a_scene(size_wh, region):
    for seed in range(3):
        drawn = scene((8, seed), size_wh, region)
        assert drawn.satellite().size == drawn.map().size == size_wh
        assert drawn.satellite().mode == drawn.map("atlas").mode == "RGB"
        assert 3 <= len(drawn.places) <= 18
        assert all(drawn.mask([index]).sum() > 40 for index in range(len(drawn.places)))


def test_a_larger_image_shows_more_places_and_larger_ones():
    def measured(side: int) -> tuple[float, float]:
        drawn = [scene((9, index), (side, side)) for index in range(8)]
        areas = [place.plot.extent.area for one in drawn for place in one.places]
        return float(np.mean([len(one.places) for one in drawn])), float(np.mean(areas))

    small, large = measured(112), measured(280)
    assert large[0] > small[0] and large[1] > small[1]


@pytest.mark.parametrize("size_wh", [(55, 140), (140, 0), (-1, 140), (140,)])
def test_a_size_too_small_is_an_error(size_wh):
    with pytest.raises(ValueError, match="size_wh"):
        scene(0, size_wh)


@pytest.mark.parametrize("size_wh", [(56, 600), (225, 56), (2000, 499)])
def test_a_size_too_narrow_is_an_error(size_wh):
    with pytest.raises(ValueError, match=r"size_wh = .*neither is more than 4 times the other\. Fix: "):
        scene(0, size_wh)


def test_an_unknown_region_is_an_error():
    with pytest.raises(ValueError, match="must be one of home, new"):
        scene(0, region="moon")


def test_an_unknown_map_style_is_an_error():
    with pytest.raises(ValueError, match=r"style = 'night': must be one of day, atlas\. Fix: "):
        scene(0).map("night")


def test_coverage_is_cut_to_the_image():
    window, covered_hw = coverage(shapely.box(-5, 2, 4, 6), (10, 8))
    assert covered_hw.shape == (window[0].stop - window[0].start, window[1].stop - window[1].start)
    mask_hw = mask_of([shapely.box(-5, 2, 4, 6)], (10, 8))
    expected_hw = np.zeros((8, 10), dtype=bool)
    expected_hw[2:6, 0:4] = True
    assert (mask_hw == expected_hw).all()
    assert not mask_of([shapely.box(20, 2, 30, 6), shapely.Polygon()], (10, 8)).any()
