"""Figures of papers, to be set beside one's own; nothing of them was measured here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from omegaconf import DictConfig

from verl_socio.errors import invalid

AUTO = "auto"
SOCIOSEG = "vvangfaye/SocioSeg"


@dataclass(frozen=True)
class Published:
    """A row of a paper's tables on a whole split.

    Attributes:
        level: "all", or a level.
        name: The method.
        figures: Shares 0..1 (or errors in objects) by the key of the protocol's column; what the paper does not print
            is left out.
    """

    level: str
    name: str
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Paper:
    """The rows of one paper on one split.

    Attributes:
        source: Where they are printed.
        rows: The rows.
        note: What else is to be said of them; begins with "; ".
    """

    source: str
    rows: tuple[Published, ...]
    note: str = ""


def _percent(level: str, name: str, **figures: float) -> Published:
    # Divided and not multiplied by 0.01, so that what is printed is what the paper prints.
    return Published(level, name, {key: value / 100 for key, value in figures.items()})


def _socioseg(level: str, name: str, ciou: float, giou: float, f1: float) -> Published:
    return _percent(level, name, ciou=ciou, giou=giou, f1=f1)


_SOCIO = "arXiv 2601.10477"
_NO_THRESHOLD = "; the paper gives no IoU threshold for F1"
_VISION = "arXiv 2505.12081"

PAPERS: dict[str, tuple[Paper, ...]] = {
    "SocioSeg/test": (
        Paper(
            _SOCIO,
            (
                _socioseg("all", "SocioReasoner-3B", 47.9, 52.8, 59.7),
                _socioseg("all", "SocioReasoner-3B, stage 1", 46.4, 50.8, 57.5),
                _socioseg("all", "SocioReasoner-3B, 1 point", 47.6, 51.2, 58.0),
                _socioseg("all", "SocioReasoner-3B, 3 points", 48.9, 52.3, 58.8),
                _socioseg("all", "VisionReasoner, retrained", 44.0, 48.5, 54.3),
                _socioseg("all", "RemoteReasoner", 43.2, 47.7, 53.3),
                _socioseg("all", "SegEarth-R1", 38.3, 44.1, 48.4),
                _socioseg("all", "two-stage SFT", 47.1, 51.4, 57.8),
                _socioseg("all", "UNet", 11.7, 10.7, 10.0),
                _socioseg("name", "SocioReasoner-3B", 52.6, 55.7, 64.6),
                _socioseg("class", "SocioReasoner-3B", 47.6, 52.8, 60.1),
                _socioseg("function", "SocioReasoner-3B", 40.6, 46.9, 50.3),
            ),
            _NO_THRESHOLD,
        ),
    ),
    "SocioSeg/map_style": (
        Paper(
            _SOCIO,
            (
                _socioseg("all", "SocioReasoner-3B", 45.1, 49.1, 57.7),
                _socioseg("all", "two-stage SFT", 39.7, 42.0, 46.9),
            ),
            _NO_THRESHOLD,
        ),
    ),
    "SocioSeg/new_region": (
        Paper(
            _SOCIO,
            (
                _socioseg("all", "SocioReasoner-3B", 40.2, 43.4, 42.9),
                _socioseg("all", "two-stage SFT", 30.1, 32.3, 31.5),
            ),
            _NO_THRESHOLD,
        ),
    ),
    "EarthReason/test": (
        Paper(
            "arXiv 2512.19302",
            (_percent("all", "Think2Seg-RS", ciou=75.60, giou=73.36),),
            "; it asks a random question an image",
        ),
    ),
    "ReasonSeg_val/test": (
        Paper(_VISION, (_percent("all", "VisionReasoner-7B", giou=66.3),)),
        Paper("arXiv 2503.06520", (_percent("all", "Seg-Zero-7B", giou=62.6),)),
    ),
    "ReasonSeg_test/test": (
        Paper(_VISION, (_percent("all", "VisionReasoner-7B", giou=63.6),)),
        Paper("arXiv 2503.06520", (_percent("all", "Seg-Zero-7B", giou=57.5),)),
    ),
    "coco_val/test": (
        Paper(_VISION, (_percent("all", "VisionReasoner-7B", ap=37.7),), "; its targets are those of COCO's own file"),
    ),
    "counting_pixmo_validation/test": (Paper(_VISION, (_percent("all", "VisionReasoner-7B", accuracy=70.1),)),),
    "counting_pixmo_test/test": (Paper(_VISION, (_percent("all", "VisionReasoner-7B", accuracy=70.7),)),),
    "counting_countbench/test": (Paper(_VISION, (_percent("all", "VisionReasoner-7B", accuracy=89.2),)),),
}
"""The papers of each set, by `<set>/<split>`."""

_HUB = {
    SOCIOSEG: "SocioSeg",
    "earth-insights/EarthReason": "EarthReason",
    **{
        f"Ricky06662/{name}": name
        for name in (
            "ReasonSeg_val", "ReasonSeg_test", "coco_val", "counting_pixmo_validation", "counting_pixmo_test",
            "counting_countbench",
        )
    },
}  # fmt: skip


def published_for(chosen: str | None, data: str, split: str, *, whole: bool) -> tuple[Paper, ...]:
    """Find the papers whose figures belong beside an evaluation's.

    Args:
        chosen: A name of `PAPERS`; "auto" for that of the data; None for none.
        data: The data: only an id of the Hub says surely what it is.
        split: The split.
        whole: Whether all of the split was evaluated; part of one is compared only where the user says so.

    Returns:
        The papers; none where nothing is known of these data.

    Raises:
        ValueError: There is no such name.
    """
    if chosen is None:
        return ()
    if chosen == AUTO:
        return PAPERS.get(f"{_HUB.get(data)}/{split}", ()) if whole else ()
    if chosen not in PAPERS:
        raise invalid("published", chosen, f"must be {AUTO}, null or one of {', '.join(PAPERS)}", "use one of them")
    return PAPERS[chosen]


def papers_of(config: DictConfig) -> tuple[Paper, ...]:
    """Find the papers of an evaluation's settings, as `published_for` does."""
    return published_for(config.published, config.data, config.split, whole=config.max_samples is None)
