"""Figures of the SocioSeg paper, to be set beside one's own; nothing of them was measured here."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import DictConfig

SOURCE = "arXiv 2601.10477"
SOCIOSEG = "vvangfaye/SocioSeg"


@dataclass(frozen=True)
class Published:
    """A row of the paper's tables on SocioSeg's whole test split.

    Attributes:
        level: "all", or a level.
        name: The method.
        ciou: In percent.
        giou: In percent.
        f1: In percent; the paper states no IoU threshold.
    """

    level: str
    name: str
    ciou: float
    giou: float
    f1: float


PUBLISHED = (
    Published("all", "SocioReasoner-3B", 47.9, 52.8, 59.7),
    Published("all", "SocioReasoner-3B, stage 1", 46.4, 50.8, 57.5),
    Published("all", "VisionReasoner, retrained", 44.0, 48.5, 54.3),
    Published("all", "RemoteReasoner", 43.2, 47.7, 53.3),
    Published("all", "SegEarth-R1", 38.3, 44.1, 48.4),
    Published("all", "two-stage SFT", 47.1, 51.4, 57.8),
    Published("all", "UNet", 11.7, 10.7, 10.0),
    Published("name", "SocioReasoner-3B", 52.6, 55.7, 64.6),
    Published("class", "SocioReasoner-3B", 47.6, 52.8, 60.1),
    Published("function", "SocioReasoner-3B", 40.6, 46.9, 50.3),
)


def is_whole_test(config: DictConfig) -> bool:
    """Whether the published figures belong beside these: the data are SocioSeg's whole test split."""
    return bool(config.data == SOCIOSEG and config.split == "test" and config.max_samples is None)
