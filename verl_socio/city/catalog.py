"""What can stand in the city: functions, classes, proper names, and the marks that tell them on a map.

A class is a function and a kind: "College Hall" is an Educational Hall. On the map the function is the icon's colour
and the kind its shape, so that a class is colour x shape, which is legible at ten pixels. A proper name is a marker and
a kind, "Amber Hall": the marker is the colour of the bar under the icon, because text is not legible at that size. In
the questions, too, every class is two words, each of which occurs in other classes: a class that was never trained on
("College Centre") is a new pair of known words and of known marks.
"""

from __future__ import annotations

from dataclasses import dataclass

from verl_socio.data.levels import FUNCTIONS

Rgb = tuple[int, int, int]


@dataclass(frozen=True)
class Kind:
    """The second word of a class and of a name, and the icon's outline.

    Attributes:
        word: As in "College Hall".
        outline_xy: Corners of the icon in a square from -1 to 1, y down; empty for a disc.
    """

    word: str
    outline_xy: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Function:
    """One of SocioSeg's ten functions.

    Attributes:
        name: SocioSeg's string.
        word: The first word of its classes.
        rgb: The colour of its icons.
    """

    name: str
    word: str
    rgb: Rgb


@dataclass(frozen=True)
class PlaceClass:
    """A class of places.

    Attributes:
        function: Its function.
        kind: Its kind.
        trained: Whether it occurs outside of the new region.
    """

    function: Function
    kind: Kind
    trained: bool

    @property
    def name(self) -> str:
        """The class string, as a question asks for it."""
        return f"{self.function.word} {self.kind.word}"


@dataclass(frozen=True)
class Marker:
    """The first word of a proper name and the colour of the bar under the icon."""

    word: str
    rgb: Rgb


_ARM = 0.42
KINDS = (
    Kind("Centre", ()),
    Kind("Hall", ((-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86))),
    Kind("Station", ((0.0, -1.0), (1.05, 0.88), (-1.05, 0.88))),
    Kind("Park", ((0.0, -1.12), (1.12, 0.0), (0.0, 1.12), (-1.12, 0.0))),
    Kind(
        "Court",
        (
            (-_ARM, -1.0),
            (_ARM, -1.0),
            (_ARM, -_ARM),
            (1.0, -_ARM),
            (1.0, _ARM),
            (_ARM, _ARM),
            (_ARM, 1.0),
            (-_ARM, 1.0),
            (-_ARM, _ARM),
            (-1.0, _ARM),
            (-1.0, -_ARM),
            (-_ARM, -_ARM),
        ),
    ),
)

MARKERS = (
    Marker("Amber", (255, 179, 0)),
    Marker("Coral", (244, 81, 60)),
    Marker("Jade", (0, 158, 96)),
    Marker("Azure", (0, 122, 255)),
    Marker("Violet", (150, 60, 220)),
    Marker("Onyx", (25, 25, 28)),
)

# Function word, colour, kinds that are trained on, kind that only the new region has. Every kind is trained on in six
# functions and new in two, so that neither a colour nor a shape alone tells a class.
_TABLE: tuple[tuple[str, Rgb, tuple[str, str, str], str], ...] = (
    ("Market", (222, 45, 38), ("Centre", "Hall", "Station"), "Court"),
    ("Sports", (126, 60, 190), ("Centre", "Hall", "Park"), "Court"),
    ("Civic", (24, 58, 140), ("Hall", "Station", "Court"), "Centre"),
    ("Garden", (44, 150, 60), ("Park", "Court", "Centre"), "Station"),
    ("Business", (130, 82, 38), ("Centre", "Park", "Court"), "Hall"),
    ("Transit", (24, 150, 222), ("Station", "Hall", "Centre"), "Park"),
    ("College", (246, 134, 16), ("Hall", "Park", "Station"), "Centre"),
    ("Industry", (86, 92, 102), ("Park", "Station", "Court"), "Hall"),
    ("Health", (236, 72, 152), ("Centre", "Station", "Court"), "Park"),
    ("Housing", (206, 172, 0), ("Park", "Court", "Hall"), "Station"),
)

PLACE_FUNCTIONS = tuple(Function(name, word, rgb) for name, (word, rgb, _, _) in zip(FUNCTIONS, _TABLE, strict=True))

CLASSES = tuple(
    PlaceClass(function, kind, trained=kind.word in trained)
    for function, (_, _, trained, new) in zip(PLACE_FUNCTIONS, _TABLE, strict=True)
    for kind in KINDS
    if kind.word in (*trained, new)
)
"""Forty classes: thirty that are trained on, ten that only the new region has."""
