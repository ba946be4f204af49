"""The satellite image of a layout. Nothing here knows of a class or a name: the picture cannot depend on them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import aggdraw
import numpy as np
import shapely
from PIL import Image, ImageFilter
from shapely import affinity

from verl_socio.city.catalog import Rgb
from verl_socio.city.drawing import coverage, disc, stroke
from verl_socio.city.layout import Layout
from verl_socio.city.objects import Site, draw_objects, draw_tree
from verl_socio.city.plots import Part
from verl_socio.city.surfaces import PALETTES, SURFACES, Colour, Field, Palette


def render(layout: Layout, parts: Sequence[Part], size_wh: tuple[int, int], region: str, seed: int) -> Image.Image:
    """Draw the ground as seen from above.

    Args:
        layout: Roads and water.
        parts: Every cell with its surface, whether it is a place's or not, in any order.
        size_wh: Width and height of the image.
        region: "home" or "new": the palette.
        seed: Seed of all that is not a part's own: noise, light, trees, cars on the roads.

    Returns:
        An RGB image.
    """
    rng = np.random.default_rng(seed)
    palette = PALETTES[region]
    sun = np.array([0.75, 0.66]) * layout.unit
    fine_hw = rng.standard_normal((size_wh[1], size_wh[0]), dtype=np.float32)
    coarse_hw = _smooth_noise(rng, size_wh, 7.0 * layout.unit) + 0.6 * _smooth_noise(rng, size_wh, 3.0 * layout.unit)
    picture = _ground(layout, size_wh, palette, fine_hw, coarse_hw, rng)
    ordered = sorted(parts, key=lambda part: part.seed)
    for part in ordered:
        _shade(picture, part, sun, size_wh)
    for part in ordered:
        _cover(picture, part, layout.unit, palette, fine_hw, coarse_hw, size_wh)
    image = _image(picture)
    draw = aggdraw.Draw(image)
    for part in ordered:
        site = Site(part.polygon, part.angle, layout.unit)
        draw_objects(draw, np.random.default_rng((part.seed, 1)), site, SURFACES[part.surface].objects, palette, sun)
    _street_trees(draw, rng, layout, ordered, size_wh, palette, sun)
    draw.flush()
    return _finished(image, rng)


def _smooth_noise(rng: np.random.Generator, size_wh: tuple[int, int], period: float) -> np.ndarray:
    """Noise (H, W) of deviation about 1 whose features are `period` pixels wide."""
    grid_wh = tuple(max(4, math.ceil(side / period) + 2) for side in size_wh)
    grid = rng.standard_normal((grid_wh[1], grid_wh[0]), dtype=np.float32)
    return np.asarray(Image.fromarray(grid).resize(size_wh, Image.Resampling.BICUBIC)) * 1.3


def _ground(
    layout: Layout,
    size_wh: tuple[int, int],
    palette: Palette,
    fine_hw: np.ndarray,
    coarse_hw: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Open ground, water and roads, float RGB (H, W, 3)."""
    noise_hw = 7.0 * coarse_hw + 4.0 * fine_hw
    picture = np.asarray(palette.ground) + rng.uniform(-8.0, 8.0, 3) + noise_hw[..., None]
    if layout.water is not None:
        _lay(picture, layout.water.buffer(1.6 * layout.unit), np.asarray(palette.soil) + noise_hw[..., None], size_wh)
        _lay(picture, layout.water, np.asarray(palette.water) + 0.5 * noise_hw[..., None], size_wh)
    image = _image(picture)
    draw = aggdraw.Draw(image)
    asphalt, paving = _rgb(palette.asphalt), _rgb(np.asarray(palette.paving) * 0.94)
    for road in layout.roads:
        stroke(draw, road.line, paving, road.width + 1.6 * layout.unit)
    for road in layout.roads:
        stroke(draw, road.line, asphalt, road.width)
        ends = shapely.get_coordinates(road.line)[[0, -1]]
        for x, y in ends.tolist():
            disc(draw, (x, y), road.width / 2.0, asphalt)
    for road in layout.roads:
        if road.main:
            stroke(draw, road.line, _rgb(np.asarray(palette.asphalt) + 62.0), max(0.6, 0.55 * layout.unit), 170)
    _cars(draw, rng, layout, size_wh)
    draw.flush()
    return np.asarray(image).astype(np.float64) + 3.0 * fine_hw[..., None]


def _cars(draw: aggdraw.Draw, rng: np.random.Generator, layout: Layout, size_wh: tuple[int, int]) -> None:
    """Cars on the roads, in the lane of their direction."""
    frame = shapely.box(0, 0, *size_wh)
    for road in layout.roads:
        along = float(rng.uniform(0.0, 20.0)) * layout.unit
        while along < road.line.length:
            start, end = road.line.interpolate(along), road.line.interpolate(along + 3.4 * layout.unit)
            lane = road.width * 0.24 * (1.0 if rng.random() < 0.5 else -1.0)
            tone = int(rng.choice([36, 96, 190, 236]))
            along += float(rng.uniform(8.0, 60.0)) * layout.unit
            if frame.contains(start) and start.distance(end) > 0.0:
                car = shapely.LineString([start, end]).offset_curve(lane)
                stroke(draw, car, (tone, tone, min(255, tone + 8)), 1.7 * layout.unit)


def _shade(picture: np.ndarray, part: Part, sun: np.ndarray, size_wh: tuple[int, int]) -> None:
    height = SURFACES[part.surface].height
    if height:
        shadow = affinity.translate(part.polygon, *(sun * height))
        window, covered_hw = coverage(shadow, size_wh)
        picture[window] *= 1.0 - 0.5 * (covered_hw / 255.0)[..., None]


def _cover(
    picture: np.ndarray,
    part: Part,
    unit: float,
    palette: Palette,
    fine_hw: np.ndarray,
    coarse_hw: np.ndarray,
    size_wh: tuple[int, int],
) -> None:
    window, covered_hw = coverage(part.polygon, size_wh)
    if not covered_hw.size:
        return
    site = Site(part.polygon, part.angle, unit)
    rows, columns = window
    y, x = np.mgrid[rows, columns].astype(np.float64) + 0.5
    u_hw, v_hw = site.to_local(x, y)
    rng = np.random.default_rng((part.seed, 0))
    field = Field(u_hw, v_hw, site.half_uv, fine_hw[window], coarse_hw[window], palette, rng)
    texture = SURFACES[part.surface].texture(field)
    picture[window] += (texture - picture[window]) * (covered_hw / 255.0)[..., None]


def _lay(picture: np.ndarray, shape: shapely.Polygon, colours: np.ndarray, size_wh: tuple[int, int]) -> None:
    window, covered_hw = coverage(shape, size_wh)
    picture[window] += (colours[window] - picture[window]) * (covered_hw / 255.0)[..., None]


def _street_trees(
    draw: aggdraw.Draw,
    rng: np.random.Generator,
    layout: Layout,
    parts: Iterable[Part],
    size_wh: tuple[int, int],
    palette: Palette,
    sun: np.ndarray,
) -> None:
    """Trees on open ground, none of which hides more than the rim of a cell."""
    streets = [road.line.buffer(road.width / 2.0) for road in layout.roads]
    water = [layout.water] if layout.water is not None else []
    taken = shapely.union_all([*(part.polygon for part in parts), *streets, *water])
    count = int(size_wh[0] * size_wh[1] / (13.0 * layout.unit) ** 2)
    xy = rng.uniform((0, 0), size_wh, (count, 2))
    radius = rng.uniform(1.0, 2.1, count) * layout.unit
    away = shapely.distance(taken, shapely.points(xy))
    for index in np.flatnonzero(away > 0.55 * radius).tolist():
        draw_tree(draw, rng, xy[index], float(radius[index]), palette, sun)


def _finished(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The optics: a trace of blur, the light of the day, the sensor's noise."""
    blurred = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.25, 0.5))))
    picture = np.asarray(blurred).astype(np.float64)
    light = rng.uniform(0.93, 1.05) * rng.uniform(0.975, 1.025, 3)
    picture = (picture - 118.0) * rng.uniform(0.98, 1.14) + 118.0
    return _image(picture * light + 2.0 * rng.standard_normal(picture.shape, dtype=np.float32))


def _image(picture: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(picture + 0.5, 0.0, 255.0).astype(np.uint8))


def _rgb(colour: Colour | np.ndarray) -> Rgb:
    red, green, blue = (int(min(255.0, max(0.0, float(value)))) for value in colour)
    return red, green, blue
