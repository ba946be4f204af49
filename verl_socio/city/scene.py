"""A scene of the city as vectors: its places, what surrounds them, its two pictures and the questions it can answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from verl_socio.city import satellite, webmap
from verl_socio.city.catalog import CLASSES, PlaceClass
from verl_socio.city.drawing import mask_of
from verl_socio.city.layout import REGIONS, Layout, draw_layout
from verl_socio.city.plots import Part, Plot, divide
from verl_socio.city.signs import Sign, assign
from verl_socio.errors import invalid

SMALLEST = 56
"""Least width and height in pixels: two tokens of Qwen2.5-VL a side, and room for a few icons."""

NARROWEST = 4
"""The longer side over the shorter one at most. At 224 by 56 px every third layout has places enough, so of the many
that are tried one surely has; the narrower, the fewer do."""

_FEWEST, _MOST = 3, 18
_LAYOUTS_TRIED = 50


@dataclass(frozen=True)
class Place:
    """A place: its ground, which the satellite shows, and what it is, which the map shows."""

    plot: Plot
    sign: Sign


@dataclass(frozen=True)
class Question:
    """A question that a scene can answer.

    Attributes:
        text: What is asked for.
        level: "name", "class" or "function".
        places: Indices of all places that it means, at least one; each is an instance of its own in the mask.
    """

    text: str
    level: str
    places: tuple[int, ...]


@dataclass(frozen=True)
class Scene:
    """A scene. Both pictures, all masks and all questions follow from it; nothing is drawn until it is asked for.

    Attributes:
        size_wh: Width and height of the pictures.
        region: "home" or "new".
        layout: Roads, water, blocks.
        places: The places.
        rest: Cells that are no place's.
        seed: Seed of the satellite's noise, light, trees and cars.
    """

    size_wh: tuple[int, int]
    region: str
    layout: Layout
    places: tuple[Place, ...]
    rest: tuple[Part, ...]
    seed: int

    def satellite(self) -> Image.Image:
        """The satellite image: extents, and not what a place is."""
        parts = [part for place in self.places for part in place.plot.parts]
        return satellite.render(self.layout, [*parts, *self.rest], self.size_wh, self.region, self.seed)

    def map(self, style: str = "day") -> Image.Image:
        """The map: what a place is, and where it ends only as far as marks and streets tell.

        Args:
            style: "day", or "atlas" for another provider's tiles.

        Raises:
            ValueError: There is no such style.
        """
        return webmap.render(self.layout, [place.sign for place in self.places], self.size_wh, style)

    def mask(self, places: Iterable[int]) -> np.ndarray:
        """The mask of some places: bool (H, W)."""
        plots = (self.places[index].plot for index in places)
        # The parts again, so that a pixel on the edge is never a part's and not the place's.
        return mask_of(
            (shape for plot in plots for shape in (plot.extent, *(part.polygon for part in plot.parts))), self.size_wh
        )

    def part_masks(self, place: int) -> np.ndarray:
        """The mask of each part of a place: bool (P, H, W)."""
        return np.stack([mask_of([part.polygon], self.size_wh) for part in self.places[place].plot.parts])

    def questions(self) -> tuple[Question, ...]:
        """Every question about the scene: one for each name, class and function in it."""
        found: dict[tuple[str, str], list[int]] = {}
        for index, place in enumerate(self.places):
            sign = place.sign
            concepts = (
                (sign.name, "name"),
                (sign.place_class.name, "class"),
                (sign.place_class.function.name, "function"),
            )
            for concept in concepts:
                found.setdefault(concept, []).append(index)
        return tuple(Question(text, level, tuple(places)) for (text, level), places in found.items())


def scene(
    seed: int | Sequence[int],
    size_wh: tuple[int, int] = (140, 140),
    region: str = "home",
    repeats: int = 0,
) -> Scene:
    """Draw a scene.

    Args:
        seed: Seed; the same one gives the same scene. Ground, meaning and texture have streams of their own.
        size_wh: Width and height of the pictures, at least 56 px each, and neither more than 4 times the other.
        region: "home"; or "new" for another layout and palette, with classes that "home" never has.
        repeats: How many places of one class there shall be, as far as the blocks allow; 0 for none on purpose.

    Returns:
        The scene, with 3 to 18 places.

    Raises:
        ValueError: The size is too small or too narrow, or there is no such region.
    """
    check_size(size_wh)
    if region not in REGIONS:
        raise invalid("region", region, f"must be one of {', '.join(REGIONS)}", "use one of them")
    ground, meaning, texture = (np.random.default_rng(stream) for stream in np.random.SeedSequence(seed).spawn(3))
    for _ in range(_LAYOUTS_TRIED):
        layout = draw_layout(ground, size_wh, region)
        plots, rest = divide(ground, layout, size_wh)
        if len(plots) >= _FEWEST:
            break
    assert len(plots) >= _FEWEST, f"no layout with {_FEWEST} places at {size_wh}"
    if len(plots) > _MOST:
        kept = np.sort(ground.permutation(len(plots))[:_MOST]).tolist()
        unnamed = [part for index, plot in enumerate(plots) if index not in kept for part in plot.parts]
        plots, rest = tuple(plots[index] for index in kept), (*rest, *unnamed)
    signs = assign(meaning, plots, size_wh, layout.unit, _pool(meaning, region), repeats)
    places = tuple(Place(plot, sign) for plot, sign in zip(plots, signs, strict=True))
    return Scene(size_wh, region, layout, places, rest, int(texture.integers(2**31)))


def check_size(size_wh: tuple[int, int]) -> None:
    """Check the size of a picture.

    Raises:
        ValueError: It is too small or too narrow for a scene.
    """
    if len(size_wh) != 2 or min(size_wh) < SMALLEST:
        raise invalid("size_wh", size_wh, f"must be two sides of at least {SMALLEST} px", "ask for larger pictures")
    if max(size_wh) > NARROWEST * min(size_wh):
        rule = f"must be two sides of which neither is more than {NARROWEST} times the other"
        raise invalid("size_wh", size_wh, rule, "ask for pictures that are less narrow")


def _pool(rng: np.random.Generator, region: str) -> list[PlaceClass]:
    """The classes of a scene: in the new region as many never trained on as others."""
    trained = [one for one in CLASSES if one.trained]
    if region == "home":
        return trained
    new = [one for one in CLASSES if not one.trained]
    return new + [trained[index] for index in rng.permutation(len(trained))[: len(new)]]
