"""What a warm-started model can do: how it answers both stages on the city's val split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from transformers import Qwen2_5_VLForConditionalGeneration

from verl_socio.answer import Answer, Status, parse
from verl_socio.chat import ChatModel
from verl_socio.data.sample import ImageRef, Sample
from verl_socio.embedded.warm_start.feedback import likely_mask
from verl_socio.embedded.warm_start.scenes import Shot
from verl_socio.embedded.warm_start.silence import placeholders
from verl_socio.episode import Reply, Scene, StageResult, Turn, told_answer, turn_of
from verl_socio.geometry import Frame, best_pairs, box_iou
from verl_socio.recipes import Recipe, Stage

_BATCH = 50
_LONGEST = 192


@dataclass(frozen=True)
class Figures:
    """What a model does. Shares and IoUs are 0 to 1, and means over the questions where nothing else is said.

    Attributes:
        localise_parsed: Answers of the first stage in exactly the form that was asked for.
        localise_iou: Box IoU of the first stage: boxes matched one to one, over the larger of the two counts.
        refine_parsed: Answers of the second stage in exactly the form that was asked for.
        refine_kept: Answers of the second stage whose boxes are those that it was told, to the pixel.
        refine_hits: Of all points of the second stage those on the target; an answer without points counts as a miss.
        placeholders: Largest probability that all placeholders of images and videos together ever had. Servers never
            sample them, so a policy that used them would be another one in training.
        tokens: Mean length of an answer of the first stage.
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
        shots: Scenes, all of one size.
        sample: Draw answers at temperature 1 from the whole distribution; otherwise take the likeliest token.
        seed: Seed of the draws and of the first answers' masks.
    """
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    first, second = recipe.stages
    scenes = [_scene(shot) for shot in shots]
    frame, image_frame = chat.frame_of(scenes[0].size_wh), Frame.of_image(scenes[0].size_wh)

    def read(texts: Sequence[str], stage: Stage) -> list[Answer]:
        return [parse(text, stage.grammar).moved(frame, image_frame) for text in texts]

    turns = [turn_of(scene, recipe, 0, None, frame, "") for scene in scenes]
    said, mass = _answers(model, chat, turns, sample)
    found = read(said, first)
    told, more_turns = [], []
    for shot, scene, turn, text, answer in zip(shots, scenes, turns, said, found, strict=True):
        mask_hw = likely_mask(shot, np.clip(_boxes(answer), 0, shot.cells_hw.shape[0]).astype(int), rng)
        looked = StageResult(turn, Reply(text), answer, np.zeros(0), mask_hw, None)
        told.append(told_answer(scene, recipe, 1, looked, frame))
        more_turns.append(turn_of(scene, recipe, 1, looked, frame, told[-1]))
    said_again, mass_again = _answers(model, chat, more_turns, sample)
    refined = read(said_again, second)
    hits = [_hits(*each) for each in zip(shots, refined, strict=True)]
    return Figures(
        localise_parsed=float(np.mean([_exact(answer) for answer in found])),
        localise_iou=float(np.mean([_iou(*each) for each in zip(shots, found, strict=True)])),
        refine_parsed=float(np.mean([_exact(answer) for answer in refined])),
        refine_kept=float(np.mean([_kept(*each) for each in zip(read(told, first), refined, strict=True)])),
        refine_hits=float(np.mean(np.concatenate([hit or [False] for hit in hits]))),
        placeholders=max(mass, mass_again),
        tokens=float(np.mean([len(chat.tokenizer(text)["input_ids"]) for text in said])),
    )


def _scene(shot: Shot) -> Scene:
    """A shot as an episode has it. Its pictures are drawn: they lie in no file."""
    nowhere = ImageRef("")
    images = {"map": Image.fromarray(shot.map_hw3), "satellite": Image.fromarray(shot.satellite_hw3)}
    return Scene(Sample("shot", shot.asked, nowhere, nowhere, None, None), images, None)


def _boxes(answer: Answer) -> np.ndarray:
    return np.array([prompt.box_xyxy for prompt in answer.prompts]).reshape(-1, 4)


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


def _iou(shot: Shot, found: Answer) -> float:
    wanted = np.stack([shot.spots[place].box_xyxy for place in shot.questions()[shot.asked]])
    if not found.prompts:
        return 0.0
    overlap = box_iou(_boxes(found), wanted)
    return float(overlap[best_pairs(overlap)].sum()) / float(max(overlap.shape))


def _kept(before: Answer, refined: Answer) -> bool:
    return len(refined.prompts) > 0 and np.array_equal(_boxes(refined), _boxes(before))


def _hits(shot: Shot, refined: Answer) -> list[bool]:
    cells = [cell for place in shot.questions()[shot.asked] for cell in shot.spots[place].cells]
    height, width = shot.cells_hw.shape
    points = [xy for prompt in refined.prompts for xy in prompt.positive_xy]
    return [0 <= x < width and 0 <= y < height and shot.cells_hw[int(y), int(x)] in cells for x, y in points]
