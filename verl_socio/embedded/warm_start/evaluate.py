"""What a warm-started model can do: how it answers both stages on the city's val split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from transformers import Qwen2_5_VLForConditionalGeneration

from verl_socio.answer import Answer, Status, describe, parse
from verl_socio.chat import ChatModel
from verl_socio.embedded.warm_start.feedback import likely_mask
from verl_socio.embedded.warm_start.scenes import Shot
from verl_socio.embedded.warm_start.silence import placeholders
from verl_socio.episode import Turn
from verl_socio.geometry import best_pairs, box_iou
from verl_socio.recipes import Recipe
from verl_socio.render import draw_feedback

_BATCH = 50
_LONGEST = 192


@dataclass(frozen=True)
class Figures:
    """Means over the questions, each 0 to 1.

    Attributes:
        localise_parsed: Answers of the first stage in exactly the form that was asked for.
        localise_iou: Box IoU of the first stage: boxes matched one to one, over the larger of the two counts.
        refine_parsed: Answers of the second stage in exactly the form that was asked for.
        refine_kept: Boxes of the second stage that are those of the first, to the pixel.
        refine_hits: Points of the second stage that lie on the target.
        placeholders: Largest probability that all placeholders of images and videos together ever had. Servers never
            sample them, so a policy that used them would be another one in training.
        tokens: Length of an answer of the first stage.
    """

    localise_parsed: float
    localise_iou: float
    refine_parsed: float
    refine_kept: float
    refine_hits: float
    placeholders: float
    tokens: float


def measure(
    model: Qwen2_5_VLForConditionalGeneration,
    chat: ChatModel,
    recipe: Recipe,
    shots: Sequence[Shot],
    sample: bool,
    seed: int = 0,
) -> Figures:
    """Ask each scene's own question in both stages; the second follows on the model's own first answer.

    Args:
        model: The model, in evaluation mode.
        chat: Its processor.
        recipe: Two stages with prompts and grammars.
        shots: Scenes.
        sample: Draw answers at temperature 1 from the whole distribution; otherwise take the likeliest token.
        seed: Seed of the draws and of the first answers' masks.
    """
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    first, second = recipe.stages
    turns = [_turn(recipe, 0, shot, np.zeros((0, 4)), None) for shot in shots]
    said, mass = _answers(model, chat, turns, sample)
    found = [parse(text, first.grammar) for text in said]
    drawn, masks, told = [], [], []
    for shot, answer in zip(shots, found, strict=True):
        boxes = np.array([prompt.box_xyxy for prompt in answer.prompts]).reshape(-1, 4)
        mask_hw = likely_mask(shot, np.clip(boxes, 0, shot.cells_hw.shape[0]).astype(int), rng)
        drawn.append(boxes)
        masks.append(mask_hw)
        told.append(describe(answer.prompts, first.grammar))
    turns = [_turn(recipe, 1, *each) for each in zip(shots, drawn, masks, told, strict=True)]
    again, mass_again = _answers(model, chat, turns, sample)
    refined = [parse(text, second.grammar) for text in again]
    hits = [_hits(shot, answer) for shot, answer in zip(shots, refined, strict=True)]
    return Figures(
        localise_parsed=float(np.mean([_exact(answer) for answer in found])),
        localise_iou=float(np.mean([_iou(shot, boxes) for shot, boxes in zip(shots, drawn, strict=True)])),
        refine_parsed=float(np.mean([_exact(answer) for answer in refined])),
        refine_kept=float(np.mean([_kept(*pair) for pair in zip(drawn, refined, strict=True)])),
        refine_hits=float(np.mean(np.concatenate([[0.0] if not hit else hit for hit in hits]))),
        placeholders=max(mass, mass_again),
        tokens=float(np.mean([len(chat.tokenizer(text)["input_ids"]) for text in said])),
    )


def _turn(
    recipe: Recipe,
    index: int,
    shot: Shot,
    boxes_xyxy: np.ndarray,
    mask_hw: np.ndarray | None,
    told: str = "",
) -> Turn:
    stage = recipe.stages[index]
    pictures = {"map": shot.map_hw3, "satellite": shot.satellite_hw3}
    images = [Image.fromarray(pictures[name]) for name in stage.images]
    if stage.feedback:
        images = [draw_feedback(image, boxes_xyxy, mask_hw, recipe.feedback) for image in images]
    return Turn(index, tuple(images), stage.ask(question=shot.asked, previous=told, size_wh=images[0].size))


@torch.no_grad()
def _answers(
    model: Qwen2_5_VLForConditionalGeneration, chat: ChatModel, turns: Sequence[Turn], sample: bool
) -> tuple[list[str], float]:
    """The answers' texts, and the largest probability of the images' placeholders at any of their tokens."""
    tokenizer = chat.tokenizer
    vision = placeholders(chat)
    texts: list[str] = []
    largest = 0.0
    for start in range(0, len(turns), _BATCH):
        part = turns[start : start + _BATCH]
        inputs = chat.processor(
            text=[chat.text_of(turn) for turn in part],
            images=[list(turn.images) for turn in part],
            padding=True,
            padding_side="left",
            return_tensors="pt",
        )
        chosen = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0} if sample else {"do_sample": False}
        result = model.generate(
            **inputs, **chosen, max_new_tokens=_LONGEST, output_logits=True, return_dict_in_generate=True
        )
        written = result.sequences[:, inputs["input_ids"].shape[1] :]
        for ids, logits in zip(written, torch.stack(result.logits, dim=1), strict=True):
            ends = (ids == tokenizer.eos_token_id).nonzero()
            length = int(ends[0]) + 1 if len(ends) else len(ids)
            largest = max(largest, float(logits[:length].softmax(dim=-1)[:, vision].sum(dim=-1).max()))
            texts.append(tokenizer.decode(ids[:length], skip_special_tokens=True))
    return texts, largest


def _exact(answer: Answer) -> bool:
    return answer.status is not Status.UNPARSEABLE and answer.think_format and all(answer.item_exact)


def _iou(shot: Shot, boxes_xyxy: np.ndarray) -> float:
    wanted = np.stack([shot.spots[place].box_xyxy for place in shot.questions()[shot.asked]])
    if not len(boxes_xyxy):
        return 0.0
    overlap = box_iou(boxes_xyxy, wanted)
    return float(overlap[best_pairs(overlap)].sum()) / float(max(overlap.shape))


def _kept(boxes_xyxy: np.ndarray, refined: Answer) -> bool:
    kept = np.array([prompt.box_xyxy for prompt in refined.prompts]).reshape(-1, 4)
    return len(kept) > 0 and kept.shape == boxes_xyxy.shape and bool(np.all(np.abs(kept - boxes_xyxy) <= 1.0))


def _hits(shot: Shot, refined: Answer) -> list[bool]:
    cells = [cell for place in shot.questions()[shot.asked] for cell in shot.spots[place].cells]
    height, width = shot.cells_hw.shape
    points = [xy for prompt in refined.prompts for xy in prompt.positive_xy]
    return [0 <= x < width and 0 <= y < height and shot.cells_hw[int(y), int(x)] in cells for x, y in points]
