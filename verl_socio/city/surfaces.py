"""The surfaces that cover the ground: what a satellite sees. They know nothing of classes; any place may have any.

A surface is a texture, a function of a `Field`, and objects on it, which `satellite` draws. Lengths are in units of
design along the cell's own directions (u along its long rows, v across), colours are float RGB from 0 to 255.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Colour = tuple[float, float, float]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Palette:
    """Colours of a region.

    Attributes:
        ground: Open ground between cells.
        asphalt: Roads and car parks.
        paving: Pavements and plazas.
        grass: Lawns.
        crop: Fields.
        soil: Bare earth.
        tree: Crowns of trees.
        tiles: Tiled roofs.
        metal: Metal roofs.
        flat: Flat roofs.
        dark: Dark roofs.
        water: Water.
    """

    ground: Colour
    asphalt: Colour
    paving: Colour
    grass: Colour
    crop: Colour
    soil: Colour
    tree: Colour
    tiles: Colour
    metal: Colour
    flat: Colour
    dark: Colour
    water: Colour


PALETTES: Mapping[str, Palette] = {
    "home": Palette(
        ground=(104, 112, 88),
        asphalt=(112, 113, 116),
        paving=(176, 172, 162),
        grass=(98, 128, 66),
        crop=(142, 148, 84),
        soil=(158, 134, 104),
        tree=(52, 84, 44),
        tiles=(160, 88, 66),
        metal=(86, 120, 168),
        flat=(190, 188, 184),
        dark=(84, 84, 90),
        water=(58, 84, 96),
    ),
    "new": Palette(
        ground=(190, 166, 130),
        asphalt=(136, 128, 120),
        paving=(212, 200, 178),
        grass=(138, 146, 88),
        crop=(120, 142, 76),
        soil=(196, 152, 108),
        tree=(88, 106, 60),
        tiles=(190, 112, 78),
        metal=(196, 204, 206),
        flat=(226, 220, 208),
        dark=(122, 104, 94),
        water=(66, 112, 112),
    ),
}


@dataclass(frozen=True)
class Field:
    """A window of the image in the directions of a cell.

    Attributes:
        u_hw: Along the rows, in units, 0 at the cell's centre.
        v_hw: Across the rows, in units, 0 at the cell's centre.
        half_uv: Half of the cell's extent along u and v.
        fine_hw: Noise of pixels, mean 0, deviation 1.
        coarse_hw: Noise of a few units, mean 0, deviation about 1.
        palette: Colours of the region.
        rng: Source of chance for this cell.
    """

    u_hw: Array
    v_hw: Array
    half_uv: tuple[float, float]
    fine_hw: Array
    coarse_hw: Array
    palette: Palette
    rng: np.random.Generator


Texture = Callable[[Field], Array]


@dataclass(frozen=True)
class Surface:
    """One kind of surface.

    Attributes:
        texture: Gives float RGB (h, w, 3) for a field.
        objects: What stands on it: a key of `objects.DRAWERS`, or nothing.
        height: How far its shadow reaches, in units; 0 for what lies flat.
    """

    texture: Texture
    objects: str = ""
    height: float = 0.0


def _plain(field: Field, colour: Colour, coarse: float, fine: float, spread: float = 8.0) -> Array:
    """One colour, a little different for each cell, with noise of two sizes."""
    shade = field.rng.uniform(-spread, spread) + field.rng.uniform(-spread, spread, 3) / 3.0
    light_hw = coarse * field.coarse_hw + fine * field.fine_hw
    return np.asarray(np.asarray(colour) + shade + light_hw[..., None])


def _wave(across: Array, period: float, phase: float = 0.0) -> Array:
    return np.asarray(np.sin(2.0 * np.pi * (across / period + phase)))


def _lines(across: Array, period: float, width: float, soft: float = 0.5) -> Array:
    """1 on lines of some width that come every `period`, 0 between them, with soft edges."""
    away = np.abs((across / period + 0.5) % 1.0 - 0.5) * period
    return np.asarray(np.clip((width / 2.0 + soft / 2.0 - away) / soft, 0.0, 1.0))


def _mix(base: Array, colour: Colour, amount_hw: Array) -> Array:
    return np.asarray(base + (np.asarray(colour) - base) * amount_hw[..., None])


def _lawn(field: Field) -> Array:
    mown = 3.5 * np.sign(_wave(field.v_hw, field.rng.uniform(6.0, 9.0)))
    return _plain(field, field.palette.grass, 7.0, 4.0) + mown[..., None]


def _crops(field: Field) -> Array:
    rows = 13.0 * _wave(field.v_hw, field.rng.uniform(3.2, 4.4), field.rng.uniform())
    return np.asarray(_plain(field, field.palette.crop, 6.0, 4.0, 14.0) + rows[..., None] * np.array([1.0, 0.8, 0.7]))


def _soil(field: Field) -> Array:
    furrows = 5.0 * _wave(field.v_hw, field.rng.uniform(3.0, 3.8), field.rng.uniform())
    return _plain(field, field.palette.soil, 11.0, 6.0, 12.0) + furrows[..., None]


def _woods(field: Field) -> Array:
    return _plain(field, field.palette.tree, 8.0, 7.0)


def _meadow(field: Field) -> Array:
    base = _plain(field, field.palette.grass, 12.0, 6.0)
    return _mix(base, field.palette.soil, np.clip(field.coarse_hw * 0.35 + 0.22, 0.0, 0.6))


def _asphalt(field: Field) -> Array:
    return _plain(field, field.palette.asphalt, 4.0, 4.0)


def _plaza(field: Field) -> Array:
    period = field.rng.uniform(4.0, 6.0)
    joints = np.maximum(_lines(field.u_hw, period, 0.7), _lines(field.v_hw, period, 0.7))
    return _plain(field, field.palette.paving, 3.0, 3.0, 10.0) - 26.0 * joints[..., None]


def _flat_roof(field: Field) -> Array:
    base = _plain(field, field.palette.flat, 3.0, 3.0, 14.0)
    edge = np.maximum(np.abs(field.u_hw) - field.half_uv[0], np.abs(field.v_hw) - field.half_uv[1])
    return base + 14.0 * (edge > -2.2)[..., None]


def _metal_roof(field: Field) -> Array:
    ribs = 9.0 * _wave(field.u_hw, 3.0, field.rng.uniform())
    bays = _lines(field.v_hw, max(10.0, field.half_uv[1]), 1.0)
    return _plain(field, field.palette.metal, 3.0, 2.0, 14.0) + ribs[..., None] - 30.0 * bays[..., None]


def _tiled_roof(field: Field) -> Array:
    slope = np.where(field.v_hw > 0.0, 17.0, -19.0)
    hip = np.abs(field.u_hw) - field.half_uv[0] > -np.maximum(0.0, field.half_uv[1] - np.abs(field.v_hw))
    slope = np.where(hip, np.where(field.u_hw > 0.0, 8.0, -9.0), slope)
    ridge = np.clip(1.2 - np.abs(field.v_hw), 0.0, 1.0) * ~hip
    courses = 4.0 * _wave(field.v_hw, 3.0)
    base = _plain(field, field.palette.tiles, 3.0, 4.0, 12.0)
    return base + (slope + courses + 22.0 * ridge)[..., None]


def _dark_roof(field: Field) -> Array:
    base = _plain(field, field.palette.dark, 3.0, 3.0, 10.0)
    lights = _lines(field.u_hw, 7.0, 2.0) * _lines(field.v_hw, 11.0, 6.0)
    return _mix(base, (208.0, 214.0, 218.0), 0.75 * lights)


def _pitch(field: Field) -> Array:
    return _plain(field, (66.0, 132.0, 74.0), 3.0, 3.0) + 5.0 * np.sign(_wave(field.u_hw, 8.0))[..., None]


def _court(field: Field) -> Array:
    return _plain(field, (176.0, 92.0, 72.0), 2.0, 3.0, 10.0)


def _greenhouses(field: Field) -> Array:
    period = field.rng.uniform(5.0, 6.5)
    tunnels = _lines(field.v_hw, period, 0.72 * period, 1.2)
    base = _plain(field, field.palette.soil, 4.0, 4.0)
    return _mix(base, (226.0, 230.0, 228.0), 0.9 * tunnels) + (3.0 * field.coarse_hw)[..., None]


def _pond(field: Field) -> Array:
    depth = np.minimum(field.half_uv[0] - np.abs(field.u_hw), field.half_uv[1] - np.abs(field.v_hw))
    shallow = np.clip(1.0 - depth / 5.0, 0.0, 1.0)
    base = _plain(field, field.palette.water, 4.0, 1.5, 8.0)
    return _mix(base, (118.0, 146.0, 140.0), 0.6 * shallow)


def _gardens(field: Field) -> Array:
    hedges = np.maximum(_lines(field.u_hw, 9.0, 0.9), _lines(field.v_hw, 22.0, 0.9))
    base = _plain(field, field.palette.grass, 9.0, 6.0)
    return _mix(base, field.palette.tree, 0.6 * hedges)


def _estate(field: Field) -> Array:
    base = _plain(field, field.palette.paving, 4.0, 4.0, 8.0)
    return _mix(base, field.palette.grass, np.clip(0.5 + 1.5 * field.coarse_hw, 0.0, 1.0))


def _solar(field: Field) -> Array:
    rows = _lines(field.v_hw, 5.0, 3.4, 0.6)
    joints = _lines(field.u_hw, 6.0, 0.6)
    base = _plain(field, field.palette.grass, 4.0, 4.0)
    panels = _mix(base, (36.0, 46.0, 84.0), rows)
    return panels + (20.0 * joints * rows)[..., None]


def _yard(field: Field) -> Array:
    return _plain(field, (168.0, 158.0, 140.0), 8.0, 5.0, 10.0)


SURFACES: Mapping[str, Surface] = {
    "lawn": Surface(_lawn, "few trees"),
    "crops": Surface(_crops),
    "soil": Surface(_soil),
    "woods": Surface(_woods, "trees"),
    "orchard": Surface(_meadow, "orchard"),
    "car park": Surface(_asphalt, "cars"),
    "plaza": Surface(_plaza),
    "flat roof": Surface(_flat_roof, "vents", 2.2),
    "metal roof": Surface(_metal_roof, "", 1.8),
    "tiled roof": Surface(_tiled_roof, "", 2.0),
    "dark roof": Surface(_dark_roof, "vents", 2.0),
    "pitch": Surface(_pitch, "pitch"),
    "court": Surface(_court, "pitch"),
    "greenhouses": Surface(_greenhouses, "", 0.8),
    "pond": Surface(_pond),
    "houses": Surface(_gardens, "houses"),
    "estate": Surface(_estate, "slabs"),
    "solar panels": Surface(_solar),
    "yard": Surface(_yard, "stacks"),
}
