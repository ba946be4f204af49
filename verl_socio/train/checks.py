"""What has to hold before Ray or a model is started."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, ListConfig, OmegaConf

from verl_socio.chat import ChatModel
from verl_socio.data import load_samples, validate
from verl_socio.data.sample import Sample
from verl_socio.episode import target_of
from verl_socio.errors import invalid
from verl_socio.recipes import Recipe
from verl_socio.rehearsal import rehearse
from verl_socio.segment import SegmenterConfig, locate
from verl_socio.teacher import right_answer
from verl_socio.train.ranks import check_epochs, check_ranks
from verl_socio.train.settings import is_supervised, model_key

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_SHOWN = 10


def check(config: DictConfig) -> None:
    """Check a run's settings, model folder and data.

    Raises:
        ValueError: The first rule that is broken, with field, value, rule and fix.
    """
    recipe = Recipe.from_config(OmegaConf.to_container(config.recipe, resolve=True))
    if not is_supervised(config):
        _check_reinforcement(config, recipe)
    _check_segmenter(OmegaConf.to_container(config.segmenter, resolve=True))
    _check_model(model_key(config), str(OmegaConf.select(config, model_key(config))))
    check_ranks(config)
    training, validation = _check_data(config, recipe)
    chat = _load_chat(config)
    _check_budget(config, recipe, chat, training + validation)
    if is_supervised(config):
        _check_answers(config, recipe, chat, training, "train_max_samples")
        _check_answers(config, recipe, chat, validation, "val_max_samples")


def _check_reinforcement(config: DictConfig, recipe: Recipe) -> None:
    allowed = config.trainer.max_segmenter_failures
    if isinstance(allowed, bool) or not isinstance(allowed, int | float) or not 0 <= allowed <= 1:
        rule = "must be a share of the episodes, 0 to 1"
        raise invalid("trainer.max_segmenter_failures", allowed, rule, "0.1 lets a tenth of a step's episodes fail")
    if config.algorithm.filter_groups is not None and config.algorithm.filter_groups.enable and len(recipe.stages) > 1:
        rule = f"compares a question's rewards over all {len(recipe.stages)} stages, so that it would filter nothing"
        raise invalid("algorithm.filter_groups.enable", True, rule, "leave it off, or take a recipe of one stage")


def _check_segmenter(settings: Any) -> None:
    known = [field.name for field in fields(SegmenterConfig)]
    for key in settings:
        if key not in known:
            raise invalid(f"segmenter.{key}", settings[key], "is not a known setting", f"use {', '.join(known)}")
    locate(SegmenterConfig(**settings))


def _check_model(field: str, path: str) -> None:
    folder = Path(path)
    if not folder.exists():
        if path.startswith((".", "/")) or path.count("/") != 1:
            rule = "must be a model folder or a Hub id such as Qwen/Qwen2.5-VL-3B-Instruct"
            raise invalid(field, path, rule, "correct the path")
        return
    if not (folder / "config.json").is_file():
        raise invalid(field, path, "must hold config.json", "give the folder of a Hugging Face model")
    if not any(found for pattern in _WEIGHTS for found in folder.glob(pattern)):
        fix = "merge the checkpoint first: python3 training_scripts/model_merger.py"
        raise invalid(field, path, "must hold weights (*.safetensors)", fix)


def _check_data(config: DictConfig, recipe: Recipe) -> tuple[list[Sample], list[Sample]]:
    """The samples of training and of validation, each of them sound."""
    data = config.data
    training = _load(data.train_files, data.train_split, "data.train_files", recipe)
    validation = _load(data.val_files, data.val_split, "data.val_files", recipe)
    count = len(training) if data.train_max_samples < 0 else min(len(training), data.train_max_samples)
    rows, having = count, f"{count} training samples"
    if is_supervised(config):
        rows = count * len(recipe.stages)
        having = f"{rows} rows of {having}"
    check_epochs(config, rows)
    if rows < data.train_batch_size:
        rule = f"must not exceed the {having}"
        raise invalid("data.train_batch_size", data.train_batch_size, rule, "lower it or give more samples")
    return training, validation


def _load(sources: str | ListConfig, split: str, field: str, recipe: Recipe) -> list[Sample]:
    samples: list[Sample] = []
    for source in [sources] if isinstance(sources, str) else sources:
        problems = validate(source, split, recipe.needs_map, need_target=not recipe.no_target)
        if problems:
            listed = "".join(f"\n  {problem}" for problem in problems[:_SHOWN])
            maps = "--need-map" if recipe.needs_map else "--no-need-map"
            fix = f"see them all with: verl-socio data validate {source} --split {split} {maps}"
            raise invalid(field, source, f"has {len(problems)} faults:{listed}", fix)
        samples += load_samples(source, split)
    return samples


def _check_budget(config: DictConfig, recipe: Recipe, chat: ChatModel, samples: list[Sample]) -> None:
    """Every prompt must fit, and with its answer into what the engine holds."""
    data = config.data
    rehearse(samples, recipe, chat, data.max_prompt_length, "data.max_prompt_length", with_target=True)
    if is_supervised(config):
        return
    rollout, total = config.actor_rollout_ref.rollout, data.max_prompt_length + data.max_response_length
    if rollout.max_model_len is not None and total > rollout.max_model_len:
        rule = f"must hold data.max_prompt_length + data.max_response_length = {total}"
        field = "actor_rollout_ref.rollout.max_model_len"
        raise invalid(field, rollout.max_model_len, rule, f"raise it to {total}")


def _check_answers(config: DictConfig, recipe: Recipe, chat: ChatModel, samples: list[Sample], most: str) -> None:
    """Write every right answer that will be taught: each must fit."""
    budget, count = config.data.max_response_length, config.data[most]
    for sample in samples if count < 0 else samples[:count]:
        target = target_of(sample)
        frame = chat.frame_of(recipe.shown_wh(sample.satellite.size_wh))
        for stage in recipe.stages:
            answer = right_answer(target, stage, frame, stage.grammar.max_items, np.random.default_rng(0))
            needed = len(chat.answer_ids(answer))
            if needed > budget:
                rule = f"is too small: the right answer of stage {stage.name} of sample {sample.id} has {needed} tokens"
                raise invalid("data.max_response_length", budget, rule, "raise it")


def _load_chat(config: DictConfig) -> ChatModel:
    path = OmegaConf.select(config, model_key(config))
    try:
        return ChatModel.load(path, config.frame)
    except OSError as error:  # what transformers raises where the Hub has no such model, or cannot be reached
        rule = f"must hold a processor and a configuration ({str(error).splitlines()[0]})"
        raise invalid(model_key(config), path, rule, "correct the path or the Hub id") from error
