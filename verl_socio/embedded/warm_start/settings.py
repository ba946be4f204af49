"""What the warm start can be told, and what it tells."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Phase:
    """A stage of training.

    Attributes:
        name: "sight" for the vision blocks alone, told by the throw-away heads; "marks" and "boxes" for captions,
            without and with boxes; any other name for the real prompts and answers.
        steps: Steps at most.
        enough: Moving average of the digit loss, in nats, at which the phase ends early; None to take all steps.
        questions: Questions a scene at most.
        scenes: Scenes in a batch.
        refinements: Rows of the second stage in a batch.
        fall: Steps of linear fall of the learning rate at the phase's end.
        fades: Whether the heads' weight falls to 0 in the phase.
        overlooked: Share of the places whose dots are overlooked by answers without a first answer before them.
        repeat_weight: Added to the loss weight of the digits of boxes that the second stage repeats.
    """

    name: str
    steps: int
    enough: float | None
    questions: int = 0
    scenes: int = 8
    refinements: int = 0
    fall: int = 0
    fades: bool = False
    overlooked: float = 0.0
    repeat_weight: float = 0.0

    def rate(self, step: int, warm_up: int) -> float:
        """Factor of the learning rates: a linear rise, a plateau, a linear fall where the phase has one."""
        fall = (self.steps - step) / self.fall if self.fall else 1.0
        return min(1.0, (step + 1) / warm_up, fall)


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        phases: One after the other.
        text_lr: Learning rate of the text layers.
        vision_lr: Learning rate of the vision blocks and of the throw-away heads.
        warm_up: Steps of linear rise at the beginning of each phase.
        heads_weight: Weight of the throw-away heads beside what is written; alone, in "sight", they have no other.
    """

    phases: tuple[Phase, ...] = (
        Phase("sight", 3000, None, scenes=16, fall=1000),
        Phase("marks", 1500, 0.45, 16),
        Phase("boxes", 2400, 0.35, 8),
        Phase("answers", 1200, None, 5, refinements=6, fall=400, fades=True, repeat_weight=1.0),
        # A habit for reinforcement to break: the model can find the dots now, and is shown how not to look for them.
        Phase("glances", 400, None, 5, refinements=6, fall=300, fades=True, overlooked=0.6, repeat_weight=1.0),
    )
    text_lr: float = 1e-3
    vision_lr: float = 2e-3
    warm_up: int = 50
    heads_weight: float = 0.5


@dataclass(frozen=True)
class Taken:
    """What a phase took.

    Attributes:
        steps: Steps.
        seconds: Processor time.
    """

    steps: int
    seconds: float


@dataclass(frozen=True)
class Progress:
    """One step: its phase, its number in it, and moving averages in nats.

    Attributes:
        phase: Name.
        step: From 0.
        digits: Of the loss of leading digits.
        words: Of the loss of all else.
        heads: Of the loss of the throw-away heads.
    """

    phase: str
    step: int
    digits: float
    words: float
    heads: float
