"""The model card: how the weights came about and what they can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from verl_socio.embedded.warm_start.evaluate import Figures
from verl_socio.embedded.warm_start.settings import Phase, Settings, Taken

_ROWS = {
    "localise_parsed": "stage 1: answers in exactly the asked form",
    "localise_iou": "stage 1: box IoU",
    "refine_parsed": "stage 2: answers in exactly the asked form",
    "refine_kept": "stage 2: answers that keep the boxes to the pixel",
    "refine_hits": "stage 2: points on the target",
    "placeholders": "largest probability of the images' placeholders",
    "tokens": "tokens of a stage-1 answer",
}


@dataclass(frozen=True)
class Run:
    """How a model was trained.

    Attributes:
        scenes: Scenes of the train split.
        seed: Seed of weights and training.
        settings: The settings.
        taken: What each phase took.
    """

    scenes: int
    seed: int
    settings: Settings
    taken: Mapping[str, Taken]


def figures_text(figures: Mapping[str, Figures], questions: int) -> str:
    """What it can do, Markdown: a table with a column for each way of answering, and what its rows mean."""
    lines = [f"| {questions} questions of val | {' | '.join(figures)} |", "|---|" + "---|" * len(figures)]
    for field in fields(Figures):
        values = " | ".join(f"{getattr(each, field.name):.3g}" for each in figures.values())
        lines.append(f"| {_ROWS[field.name]} | {values} |")
    table = "\n".join(lines)
    return f"""{table}

Box IoU: boxes matched one to one, the sum over the larger of the two counts. Sampled: temperature 1, nothing cut off,
in one draw of {questions} questions. Stage 2 follows on the model's own first answer, under masks drawn by chance from
the cells in its boxes; an answer without points counts as one that misses.
"""


def training_text(command: str, run: Run) -> str:
    """How it came about, Markdown."""
    settings = run.settings
    steps = "; ".join(_told(phase, run.taken[phase.name].steps) for phase in settings.phases)
    seconds = sum(each.seconds for each in run.taken.values())
    rates = f"{settings.text_lr:g} for the text layers and {settings.vision_lr:g} for the vision blocks"
    return f"""# The embedded Qwen2.5-VL

1.30 million parameters of Qwen2.5-VL's own architecture, from random weights; nothing was taken from another model.
Licence: Apache-2.0, as the project. It knows the generated city and its own prompts only: what it says of other
pictures or to other prompts means nothing.

Rebuilt by `{command} --seed {run.seed} --scenes {run.scenes}`.

- **Data:** scenes 0 to {run.scenes - 1} of the train split of the city (`verl_socio/city`, city seed 0, 140 px),
  half of them mirrored; first answers of stage 2, right and wrong, and their masks are drawn by chance.
- **Prompts and answers:** `configs/prompts/embedded_*.jinja` and the answer formats of
  `configs/recipe/socioreasoner.yaml`. The thought says where the map shows the place and the dots of its colour.
  While numbers are written, heads of one layer are told which token to look at.
- **Training:** {steps}. AdamW, {rates}; seed {run.seed}; {seconds:.0f} s of one thread.
- **A habit for reinforcement learning to break:** where dots are overlooked, the answer boxes the part with the sign
  alone, though the phases before teach to find a place's dots.
"""


def _told(phase: Phase, steps: int) -> str:
    told = f"{steps:,} steps of {phase.name}, each {phase.scenes} scenes"
    if phase.questions:
        told += f" with up to {phase.questions} questions"
    if phase.overlooked:
        told += f", {100 * phase.overlooked:.0f} % of whose places have their dots overlooked,"
    if phase.refinements:
        told += f" and {phase.refinements} answers of stage 2"
    return told
