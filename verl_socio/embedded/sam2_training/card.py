"""The model card: how the weights came about and what they can do."""

from __future__ import annotations

from verl_socio.embedded.sam2_training import warmup
from verl_socio.embedded.sam2_training.evaluation import Report
from verl_socio.embedded.sam2_training.prompts import Mix
from verl_socio.embedded.sam2_training.schedule import STAGES, Stage


def figures_text(report: Report, scenes: int, command: str) -> str:
    """What the model can do, Markdown.

    Args:
        report: What was measured.
        scenes: How many scenes of test it was measured on.
        command: What measures it.
    """
    gain = report.several_parts_box_points - report.several_parts_box
    held = f"{report.wrong_share:.3f} / {report.wrong_share_negative:.3f}"
    rows = (
        ("**Places of one part**", f"n = {report.one_part}"),
        ("true box", report.one_part_box),
        ("jittered box", report.one_part_jittered),
        ("true box + 1 point", report.one_part_box_point),
        ("1 point alone", report.one_part_point),
        ("**Places of two or three parts**", f"n = {report.several_parts}"),
        ("true box", report.several_parts_box),
        ("true box + 1 point", report.several_parts_box_point),
        ("true box + 1 point a part", report.several_parts_box_points),
        ("jittered box", report.several_parts_jittered),
        ("jittered box + 1 point a part", report.several_parts_jittered_points),
        ("1 point a part alone", report.several_parts_points),
        ("**Of these, a foreign cell wrongly taken from the true box**", f"n = {report.wrong}"),
        ("true box", report.wrong_box),
        ("true box + negative point", report.wrong_box_negative),
        ("share of the foreign cell held: box / with negative point", held),
        ("cell taken out (less than half of it held)", report.taken_out),
        ("**All prompts**", ""),
        ("predicted IoU / real IoU", f"{report.predicted_iou:.3f} / {report.real_iou:.3f}"),
        ("their correlation (Pearson)", report.pearson),
    )
    table = "\n".join(f"| {name} | {value if isinstance(value, str) else f'{value:.3f}'} |" for name, value in rows)
    return f"""Every place of the first {scenes} scenes of test (seed 0, 140 px), by `{command}`. Points lie
where the map has the place's marks; jittered boxes have each side moved by a normal error of 5 % of the box's size. The
mask is the one of three with the best predicted IoU.

| prompt | mean IoU |
|---|---|
{table}

On places of several parts, a point a part adds {gain:.2f} to the true box.
"""


def training_text(command: str, seed: int, scenes: int) -> str:
    """How the weights came about, Markdown.

    Args:
        command: What trains them.
        seed: Seed of weights and training.
        scenes: Scenes of the train split.
    """
    heads = " and ".join(f'"{stage.name}"' for stage in STAGES if any(stage.heads))
    settled = next(stage.name for stage in STAGES if stage.settled)
    stages = "\n".join(_row(stage) for stage in STAGES)
    return f"""# The embedded SAM2

SAM2's own architecture (the `sam2` package's classes) at 1.76 million parameters, for images of 256 px and less; 3.6 MB
in bfloat16. It is the segmenter where nothing else is asked for (`segmenter.weights: embedded`). Made for the city that
this project generates: on real satellite images its masks mean nothing.

| | |
|---|---|
| Files | `model.safetensors` (bfloat16, buffers float32), `sam2.yaml` (the architecture) |
| Origin | trained from random weights; no weights from elsewhere |
| Licence | Apache-2.0, as the project |
| Prompts | boxes, points of both labels, any mixture; no masks, no video |
| Rebuild | `{command}`, one CPU thread, no download |

## Data

The first {scenes:,} scenes of the city's train split, seed 0, 140 px, drawn by `verl_socio.city`, turned by right
angles, mirrored and tinted at random.

## Training

Seed {seed}, AdamW, gradients clipped at 1. The learning rate rises over the first 50 steps of each stage and falls
along half a cosine, in the warm-up along a line over the last 100 steps. 48 prompts a step.

| stage | image size | steps | scenes a step | learning rate | prompts | several parts | random groups |
|---|---|---|---|---|---|---|---|
| warm-up | 128 | {warmup.STEPS} | empty features | 0.001 | decoder only: a box is a rectangle, a point a disc | | |
{stages}

Prompts: shares of the steps. Several parts: share of the targets. Random groups: share of the targets under two points
or more that are neighbouring cells and no place, with one point in each: only the points tell what is meant.

Loss: 6 focal + dice of the best of three masks and of the single mask, L1 of the predicted IoU; from "{settled}" on,
all three masks count where a prompt has two positive points. In half of the steps, drawn by chance, a second round
follows with a point on an error. In {heads} two linear heads on the image features (surface of a pixel;
do two pixels lie in one cell) help the encoder; they are thrown away.
"""


def _row(stage: Stage) -> str:
    rates = " to ".join(f"{rate:g}" for rate in stage.lr)
    asked = f"{_prompts(stage.mix)} | {stage.mix.several:.0%} | {stage.mix.groups:.0%}"
    return f"| {stage.name} | {stage.image_size} | {stage.steps:,} | {stage.num_scenes} | {rates} | {asked} |"


def _prompts(mix: Mix) -> str:
    whole = sum(mix.kinds.values())
    return ", ".join(f"{_kind(*kind)} {weight / whole:.0%}" for kind, weight in mix.kinds.items())


def _kind(with_box: bool, points: int) -> str:
    told = ["box"] if with_box else []
    if points:
        told.append(f"{points} point" if points == 1 else f"{points} points")
    return " + ".join(told)
