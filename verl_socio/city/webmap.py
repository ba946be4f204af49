"""The map of a layout. Nothing here knows of an extent: marks and streets alone tell, roughly, where a place ends."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aggdraw
import numpy as np
import shapely
from PIL import Image, ImageDraw, ImageFont
from shapely import Point, Polygon

from verl_socio.city.catalog import Rgb
from verl_socio.city.drawing import disc, fill, stroke
from verl_socio.city.layout import Layout
from verl_socio.city.signs import Sign, bar_box, dot_size, icon_size
from verl_socio.errors import invalid


@dataclass(frozen=True)
class MapStyle:
    """How one provider draws its tiles.

    Attributes:
        ground: Land.
        blocks: Tints of the land between roads, chosen without regard to what stands there.
        road: Roads.
        main_road: Main roads.
        casing: The roads' edges.
        water: Water.
        rim: The edge around an icon, a dot and a bar.
        text: Labels.
        casing_width: Of the roads' edges, in pixels at an image size of 140.
        icon_scale: Size of an icon beside the usual one.
        tone: Brightness of the marks' colours.
        wash: Share of the ground's colour mixed into the marks' colours.
    """

    ground: Rgb
    blocks: tuple[Rgb, ...]
    road: Rgb
    main_road: Rgb
    casing: Rgb
    water: Rgb
    rim: Rgb
    text: Rgb
    casing_width: float = 0.8
    icon_scale: float = 1.0
    tone: float = 1.0
    wash: float = 0.0


MAP_STYLES: Mapping[str, MapStyle] = {
    "day": MapStyle(
        ground=(238, 237, 230),
        blocks=((243, 242, 236), (239, 238, 232), (245, 241, 230), (236, 238, 238)),
        road=(255, 255, 255),
        main_road=(253, 226, 147),
        casing=(214, 212, 204),
        water=(170, 211, 233),
        rim=(255, 255, 255),
        text=(60, 64, 67),
    ),
    "atlas": MapStyle(
        ground=(218, 224, 208),
        blocks=((226, 231, 217), (220, 227, 212), (230, 230, 214)),
        road=(250, 246, 236),
        main_road=(236, 152, 130),
        casing=(150, 146, 138),
        water=(124, 164, 206),
        rim=(52, 48, 46),
        text=(40, 34, 30),
        casing_width=1.1,
        icon_scale=0.92,
        tone=0.92,
        wash=0.12,
    ),
}

# Text below this height in pixels is not legible, so it is not drawn; the marks say the same.
_LEAST_TEXT = 8.0


def render(layout: Layout, signs: Sequence[Sign], size_wh: tuple[int, int], style: str = "day") -> Image.Image:
    """Draw the map.

    Args:
        layout: Roads and water.
        signs: What to tell of each place.
        size_wh: Width and height of the image.
        style: A key of `MAP_STYLES`.

    Returns:
        An RGB image.

    Raises:
        ValueError: There is no such style.
    """
    if style not in MAP_STYLES:
        raise invalid("style", style, f"must be one of {', '.join(MAP_STYLES)}", "use one of them")
    look = MAP_STYLES[style]
    image = Image.new("RGB", size_wh, look.ground)
    draw = aggdraw.Draw(image)
    for block in layout.blocks:
        # A tint that follows from the block alone, so that it tells nothing and survives a change of the places.
        fill(draw, block.outline, look.blocks[int(block.outline.area) % len(look.blocks)])
    if layout.water is not None:
        fill(draw, layout.water, look.water)
    _roads(draw, layout, look)
    icon = icon_size(layout.unit)
    for sign in signs:
        _sign(draw, sign, icon, look)
    draw.flush()
    text_size = 0.62 * icon
    if text_size >= _LEAST_TEXT:
        _labels(image, signs, icon, text_size, look)
    return image


def _roads(draw: aggdraw.Draw, layout: Layout, look: MapStyle) -> None:
    ordered = sorted(layout.roads, key=lambda road: road.main)
    for road in ordered:
        stroke(draw, road.line, look.casing, road.width + 2.0 * look.casing_width * layout.unit)
    for road in ordered:
        rgb = look.main_road if road.main else look.road
        stroke(draw, road.line, rgb, road.width)
        for x, y in shapely.get_coordinates(road.line)[[0, -1]].tolist():
            disc(draw, (x, y), road.width / 2.0, rgb)


def _sign(draw: aggdraw.Draw, sign: Sign, icon: float, look: MapStyle) -> None:
    rgb = _inked(sign.place_class.function.rgb, look)
    rim = max(1.0, 0.11 * icon)
    for x, y in sign.dots_xy:
        radius = 0.5 * dot_size(icon) * look.icon_scale
        disc(draw, (x, y), radius + 0.8 * rim, look.rim)
        disc(draw, (x, y), radius, rgb)
    x, y = sign.icon_xy
    half = 0.5 * icon * look.icon_scale
    outline = sign.place_class.kind.outline_xy
    if outline:
        shape = Polygon([(x + half * dx, y + half * dy) for dx, dy in outline])
        fill(draw, shape.buffer(rim, join_style="mitre", mitre_limit=1.6), look.rim)
        fill(draw, shape, rgb)
    else:
        disc(draw, (x, y), half + rim, look.rim)
        disc(draw, (x, y), half, rgb)
    bar = shapely.box(*bar_box(sign.icon_xy, icon))
    fill(draw, bar.buffer(0.6 * rim, join_style="mitre"), look.rim)
    fill(draw, bar, _inked(sign.marker.rgb, look))


def _inked(rgb: Rgb, look: MapStyle) -> Rgb:
    mixed = (1.0 - look.wash) * look.tone * np.asarray(rgb) + look.wash * np.asarray(look.ground)
    red, green, blue = (int(value) for value in np.clip(mixed + 0.5, 0.0, 255.0))
    return red, green, blue


def _labels(image: Image.Image, signs: Sequence[Sign], icon: float, size: float, look: MapStyle) -> None:
    """Write each name where it hides the least: below its icon, to the right, to the left or above."""
    draw = ImageDraw.Draw(image)
    font = _font(round(size))
    taken = [_sign_box(sign, icon) for sign in signs]
    taken += [Point(dot_xy).buffer(0.4 * icon) for sign in signs for dot_xy in sign.dots_xy]
    halo = max(1, round(0.16 * size))
    for sign in signs:
        width = draw.textlength(sign.name, font=font) + 2.0 * halo
        x, y = sign.icon_xy
        far = 0.75 * icon
        corners = (
            (x - width / 2.0, y + 1.02 * icon),
            (x + far, y - 0.6 * size),
            (x - far - width, y - 0.6 * size),
            (x - width / 2.0, y - 0.62 * icon - 1.2 * size),
        )
        boxes = [shapely.box(left, top, left + width, top + 1.15 * size) for left, top in corners]
        frame = shapely.box(0, 0, *image.size)
        hidden = [sum(box.intersection(other).area for other in taken) + box.difference(frame).area for box in boxes]
        best = int(np.argmin(np.asarray(hidden) + 0.2 * np.arange(4)))
        taken.append(boxes[best])
        corner = (corners[best][0] + halo, corners[best][1])
        draw.text(corner, sign.name, look.text, font=font, stroke_width=halo, stroke_fill=look.ground)


def _sign_box(sign: Sign, icon: float) -> Polygon:
    y = sign.icon_xy[1]
    left, _, right, bottom = bar_box(sign.icon_xy, icon)
    return shapely.box(left, y - 0.62 * icon, right, bottom)


@functools.lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    # Pillow's own typeface: the same glyphs on every machine.
    return ImageFont.load_default(size)
