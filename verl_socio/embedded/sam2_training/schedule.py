"""What is trained when: the stages, and what each of them asks."""

from __future__ import annotations

from dataclasses import dataclass

from verl_socio.embedded.sam2_training.prompts import Mix


@dataclass(frozen=True)
class Stage:
    """A part of the training on images.

    Attributes:
        name: For the log and the checkpoint.
        image_size: Side in pixels.
        steps: How many.
        num_scenes: Scenes a step.
        num_prompts: Prompts a scene.
        lr: Learning rates at the start and at the end, between them half a cosine.
        heads: Weight of the thrown-away heads at the start and at the end.
        mix: What is asked.
        balanced: Weight of the balanced cross-entropy at the start; it is gone after a third of the stage.
        settled: Whether two positive points leave nothing open, so that all of the three masks have to be right.
    """

    name: str
    image_size: int
    steps: int
    num_scenes: int
    num_prompts: int
    lr: tuple[float, float]
    heads: tuple[float, float]
    mix: Mix
    balanced: float = 0.0
    settled: bool = False


_BOXES_FIRST = Mix(
    kinds={
        (True, 0): 0.4,
        (True, 1): 0.14,
        (True, 2): 0.16,
        (True, 3): 0.1,
        (False, 1): 0.08,
        (False, 2): 0.06,
        (False, 3): 0.06,
    },
    several=0.5,
)
_POINTS_MORE = Mix(
    kinds={
        (True, 0): 0.14,
        (True, 1): 0.1,
        (True, 2): 0.36,
        (True, 3): 0.28,
        (False, 1): 0.04,
        (False, 2): 0.03,
        (False, 3): 0.05,
    },
    several=0.65,
    jittered=0.4,
    groups=0.45,
)
_PARTS_MORE = Mix(
    kinds={(True, 0): 0.11, (True, 1): 0.07, (True, 2): 0.29, (True, 3): 0.43, (False, 1): 0.04, (False, 3): 0.06},
    several=0.75,
    jittered=0.4,
    negative=0.3,
    groups=0.5,
)
_GROUPS_MORE = Mix(
    kinds={(True, 0): 0.1, (True, 1): 0.06, (True, 2): 0.25, (True, 3): 0.5, (False, 1): 0.04, (False, 3): 0.05},
    several=0.8,
    jittered=0.4,
    negative=0.25,
    groups=0.6,
)

STAGES = (
    Stage("small", 128, 1500, 6, 8, (1.2e-3, 1.0e-3), (1.0, 0.5), _BOXES_FIRST, balanced=0.2),
    Stage("middle", 192, 500, 6, 8, (1.0e-3, 8.0e-4), (0.5, 0.2), _BOXES_FIRST),
    Stage("points", 192, 800, 4, 12, (8.0e-4, 3.0e-4), (0.0, 0.0), _POINTS_MORE, settled=True),
    Stage("parts", 192, 800, 4, 12, (7.0e-4, 2.0e-4), (0.0, 0.0), _PARTS_MORE, settled=True),
    Stage("groups", 192, 1300, 4, 12, (7.0e-4, 2.0e-4), (0.0, 0.0), _GROUPS_MORE, settled=True),
    Stage("full", 256, 400, 4, 12, (5.0e-4, 0.0), (0.0, 0.0), _GROUPS_MORE, settled=True),
)
