"""The stages of training: to see, where the icons are, how far places reach, the real prompts and answers, a habit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import Qwen2_5_VLForConditionalGeneration

from verl_socio.embedded.made_by import made_by
from verl_socio.embedded.qwen2_5_vl import MERGE_SIZE, PATCH_SIZE
from verl_socio.embedded.warm_start.batch import collate
from verl_socio.embedded.warm_start.heads import Heads, words_of
from verl_socio.embedded.warm_start.network import Runner, tie_queries_to_keys
from verl_socio.embedded.warm_start.rows import Row, RowMaker
from verl_socio.embedded.warm_start.scenes import Shot
from verl_socio.embedded.warm_start.settings import Phase, Progress, Settings, Taken
from verl_socio.embedded.warm_start.silence import placeholders, silence
from verl_socio.recipes import Template

# Scenes whose answers show which tokens never belong there.
_SILENCED = 256


def train(
    model: Qwen2_5_VLForConditionalGeneration,
    maker: RowMaker,
    shots: Sequence[Shot],
    settings: Settings,
    seed: int,
    report: Callable[[Progress], None],
    checkpoints: Path | None = None,
) -> dict[str, Taken]:
    """Train a model in place.

    A phase depends on the weights it begins with, its number and the seed, and on nothing else.

    Args:
        model: The embedded model with random weights, float32.
        maker: Writes the rows.
        shots: Scenes to train on, all of one size.
        settings: How to.
        seed: Seed of order, questions, mirrors and first answers, and of the heads.
        report: Called after every step.
        checkpoints: Folder for the weights after each phase; a phase whose weights are there is not trained again.
            Phases are told by number and name alone: a folder for each `resume_mark`.

    Returns:
        What each phase took.
    """
    tie_queries_to_keys(model)
    heads = _new_heads(model, maker, shots[0], seed)
    trained = torch.nn.ModuleDict({"model": model, "heads": heads})
    taken = {}
    for number, phase in enumerate(settings.phases):
        path = checkpoints / f"{number}_{phase.name}.safetensors" if checkpoints is not None else None
        if path is not None and path.is_file():
            trained.load_state_dict(load_file(path))
            with safe_open(path, framework="pt") as file:
                noted = file.metadata()
            taken[phase.name] = Taken(int(noted["steps"]), float(noted["seconds"]))
            continue
        begun = time.process_time()
        steps = _train_phase(model, heads, maker, shots, settings, number, seed, report)
        taken[phase.name] = Taken(steps, time.process_time() - begun)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial")
            save_file(
                trained.state_dict(),
                partial,
                metadata={key: str(value) for key, value in asdict(taken[phase.name]).items()},
            )
            partial.replace(path)
    model.eval()
    _silence(model, maker, shots, seed)
    return taken


def resume_mark(settings: Settings, maker: RowMaker) -> str:
    """Hash what the weights after a phase rest on, beside seed and scenes.

    Returns:
        8 hexadecimal digits.
    """
    # A prompt counts by its text and not by its file: that lies elsewhere in another clone.
    recipes = [
        replace(recipe, stages=tuple(replace(stage, prompt=Template(stage.prompt.source)) for stage in recipe.stages))
        for recipe in (maker.recipe, maker.single)
    ]
    return made_by(settings, recipes, sorted(maker.chat.tokenizer.get_vocab().items()))


@torch.no_grad()
def _silence(model: Qwen2_5_VLForConditionalGeneration, maker: RowMaker, shots: Sequence[Shot], seed: int) -> None:
    """Take the placeholders of images out of answers like those trained on."""
    rng = np.random.default_rng(seed)
    runner = _runner(model, maker)
    states = []
    for shot in shots[:_SILENCED]:
        for row in (maker.localise(shot, 5, rng), maker.one_stage(shot, 5, rng), maker.refine(shot, rng)):
            batch = collate([row], model.config.image_token_id)
            states.append(runner.read(batch, runner.see(batch.images))[0])
    with torch.enable_grad():
        silence(model, torch.cat(states), placeholders(maker.chat))


def _runner(model: Qwen2_5_VLForConditionalGeneration, maker: RowMaker) -> Runner:
    image_processor = maker.chat.processor.image_processor
    return Runner(model, image_processor.image_mean, image_processor.image_std, model.config.image_token_id)


def _train_phase(
    model: Qwen2_5_VLForConditionalGeneration,
    heads: Heads,
    maker: RowMaker,
    shots: Sequence[Shot],
    settings: Settings,
    number: int,
    seed: int,
    report: Callable[[Progress], None],
) -> int:
    """Train one phase and return its steps."""
    phase = settings.phases[number]
    rng = np.random.default_rng((seed, number))
    runner = _runner(model, maker)
    model.train()
    vision = [*model.model.visual.parameters(), *heads.parameters()]
    text = [*model.model.language_model.parameters(), *model.lm_head.parameters()]
    groups = [{"params": text, "lr": settings.text_lr}, {"params": vision, "lr": settings.vision_lr}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: phase.rate(step, settings.warm_up))
    order = _endless(len(shots), rng)
    averages = np.full(3, np.nan)
    for step in range(phase.steps):
        weight = settings.heads_weight * ((1.0 - step / phase.steps) if phase.fades else 1.0)
        batch = [_drawn(shots, next(order), rng) for _ in range(phase.scenes + phase.refinements)]
        if phase.name == "sight":
            total, *parts = _sight_step(runner, heads, batch)
        else:
            total, *parts = _step(runner, heads, maker, phase, batch, weight, rng)
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_([*text, *vision], 1.0)
        optimizer.step()
        schedule.step()
        values = np.array([float(part) for part in parts])
        averages = np.where(np.isnan(averages), values, 0.96 * averages + 0.04 * values)
        report(Progress(phase.name, step, *averages.tolist()))
        if phase.enough is not None and averages[0] < phase.enough:
            break
    return step + 1


def _new_heads(model: Qwen2_5_VLForConditionalGeneration, maker: RowMaker, shot: Shot, seed: int) -> Heads:
    tokenizer = maker.chat.tokenizer
    height, width = (side // (PATCH_SIZE * MERGE_SIZE) for side in shot.cells_hw.shape)
    words = words_of(lambda text: tokenizer(text)["input_ids"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Heads(model.config.text_config.hidden_size, (height, width), words)


def _sight_step(
    runner: Runner, heads: Heads, batch: Sequence[Shot]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The loss of one batch that is seen and not read; no digits and no words are told."""
    pictures = [picture for shot in batch for picture in (shot.map_hw3, shot.satellite_hw3)]
    seen = runner.see(torch.from_numpy(np.stack(pictures)))
    told = heads.loss(seen[0::2], seen[1::2], batch, runner.model.model.language_model.embed_tokens.weight)
    none = torch.tensor(0.0)
    return told, none, none, told.detach()


def _step(
    runner: Runner,
    heads: Heads,
    maker: RowMaker,
    phase: Phase,
    batch: Sequence[Shot],
    heads_weight: float,
    rng: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The loss of one batch, and its parts: leading digits, all else, heads."""
    plain, drawn = batch[: phase.scenes], batch[phase.scenes :]
    rows = [_row(maker, phase, number, shot, rng) for number, shot in enumerate(plain)]
    image_token = runner.model.config.image_token_id
    parts = [collate(rows, image_token)]
    if drawn:
        parts.append(collate([maker.refine(shot, rng, phase.repeat_weight) for shot in drawn], image_token))
    seen = runner.see(torch.cat([part.images for part in parts])).split([len(part.images) for part in parts])
    read = [runner.read(part, visual) for part, visual in zip(parts, seen, strict=True)]
    logits = runner.model.lm_head(torch.cat([part for part, *_ in read]))
    targets = torch.cat([part.targets for part in parts])
    weights = torch.cat([part.weights for part in parts])
    each = functional.cross_entropy(logits, targets, reduction="none")
    told = torch.zeros(())
    if heads_weight > 0:
        order = [maker.recipe.stages[0].images.index(name) for name in ("map", "satellite")]
        map_tokens, satellite_tokens = (seen[0][index::2] for index in order)
        words = runner.model.model.language_model.embed_tokens.weight
        halfway = read[0][1]
        told = heads.loss(map_tokens, satellite_tokens, plain, words) + heads.place_loss(halfway)
        told = told + sum(look for *_, look in read) / len(read)
        told = told + heads.ends_loss(halfway[order[1] :: 2], plain)
    total = (each * weights).sum() / weights.sum() + heads_weight * told
    leading = torch.cat([part.leading for part in parts])
    return total, each[leading].mean().detach(), each[~leading].mean().detach(), told.detach()


def _row(maker: RowMaker, phase: Phase, number: int, shot: Shot, rng: np.random.Generator) -> Row:
    if phase.name in ("marks", "boxes"):
        return maker.captions(shot, phase.name == "boxes", phase.questions, rng)
    # Of four scenes, one is asked for points at once and one has first answers to repeat.
    if number % 4 == 2:
        return maker.one_stage(shot, phase.questions, rng, phase.overlooked)
    if number % 4 == 3:
        return maker.repeat(shot, phase.questions, rng, phase.repeat_weight)
    return maker.localise(shot, phase.questions, rng, phase.overlooked)


def _drawn(shots: Sequence[Shot], index: int, rng: np.random.Generator) -> Shot:
    return shots[index].mirrored() if rng.random() < 0.5 else shots[index]


def _endless(count: int, rng: np.random.Generator) -> Iterator[int]:
    while True:
        yield from rng.permutation(count).tolist()
