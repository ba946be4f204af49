"""The verb `evaluate`: settle the settings, look at the data, run what is missing, show the table."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from verl_socio.chat import ChatModel
from verl_socio.data import Sample, load_samples
from verl_socio.errors import invalid
from verl_socio.evaluate.evaluator import Evaluator
from verl_socio.evaluate.fingerprint import Fingerprint, fingerprint
from verl_socio.evaluate.pictures import Pictures
from verl_socio.evaluate.results import Results
from verl_socio.evaluate.rows import SampleRow
from verl_socio.evaluate.scores import summarise
from verl_socio.evaluate.settings import AUTO, SOCIOSEG, model_of, resolve
from verl_socio.evaluate.subject import Subject, subject_of
from verl_socio.evaluate.survey import check_prompts, survey
from verl_socio.evaluate.table import F1_RULE, table
from verl_socio.evaluate.vllm_host import Limits, Sampling, VllmHost, prepare_environment
from verl_socio.guard import Guard
from verl_socio.recipes import Recipe
from verl_socio.segment import SegmenterConfig, create
from verl_socio.torchvision_cpu import make_importable
from verl_socio.train.prepare import EMBEDDED, embedded_city

console = Console()


def launch(overrides: Sequence[str], *, dry_run: bool) -> None:
    """Evaluate a model, or go on with an evaluation that was stopped.

    Args:
        overrides: `key=value` on top of `configs/evaluate/eval.yaml`.
        dry_run: Print the settings and stop: nothing is made, read or started.

    Raises:
        ValueError: A setting, the model or the data break a rule; nothing was started.
    """
    config = resolve(overrides)
    if dry_run:
        console.print(OmegaConf.to_yaml(config), markup=False, highlight=False, soft_wrap=True)
        return
    recipe = Recipe.from_config(OmegaConf.to_container(config.recipe, resolve=True))
    _check_numbers(config)
    subject = subject_of(model_of(config), Path(config.output_root))
    prepare_environment()
    make_importable()
    samples = _samples(config)
    with _progress() as progress:
        task = progress.add_task("reading the data", total=len(samples))
        seen = survey(samples, need_map=recipe.needs_map, seen=lambda: progress.advance(task))
    model = subject.folder()
    mark = fingerprint(config, recipe, data_sha256=seen.sha256, model=model, command=sys.argv)
    folder = subject.run_dir / "eval" / _name(config, subject, mark)
    with Results(folder, mark) as results:
        results.write("config.yaml", OmegaConf.to_yaml(config))
        _announce(config, folder, len(results.done), len(samples))
        if len(results.done) < len(samples):
            _evaluate(config, recipe, samples, model, seen.target_share, results)
        _show(config, subject, recipe, results)


def _check_numbers(config: DictConfig) -> None:
    least = {"concurrency": 1, "pictures": 0, "max_prompt_length": 1, "max_response_length": 1}
    for key, low in {**least, **({} if config.max_samples is None else {"max_samples": 1})}.items():
        if not isinstance(config[key], int) or config[key] < low:
            raise invalid(key, config[key], f"must be a whole number of {low} or more", f"set {key}={low} or more")
    _build(SegmenterConfig, "segmenter", config.segmenter)
    _build(Sampling, "sampling", config.sampling)


def _build(kind: type[Any], where: str, values: Mapping[Any, Any]) -> Any:
    known = {field.name for field in fields(kind)}
    if unknown := sorted(set(map(str, values)) - known):
        fix = f"use {', '.join(sorted(known))}"
        raise invalid(f"{where}.{unknown[0]}", values[unknown[0]], "is not a known key", fix)
    return kind(**values)


def _samples(config: DictConfig) -> list[Sample]:
    source = str(embedded_city(Path(config.output_root))) if config.data == EMBEDDED else str(config.data)
    return load_samples(source, config.split)[: config.max_samples]


def _name(config: DictConfig, subject: Subject, mark: Fingerprint) -> str:
    if config.name != AUTO:
        return str(config.name)
    words = (subject.name, Path(str(config.data)).name, str(config.split), mark.sha256[:8])
    return "-".join(re.sub(r"[^A-Za-z0-9._]", "_", word) for word in words)


def _announce(config: DictConfig, folder: Path, done: int, samples: int) -> None:
    state = "complete: nothing to run" if done == samples else f"{done} samples done already"
    console.print(
        f"Evaluation of {config.model} on {config.data}, split {config.split} ({samples} samples, "
        f"recipe {config.recipe.name}, segmenter {config.segmenter.weights}): {state if done else 'from the start'}\n"
        f"Everything it writes: {folder}",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip


def _evaluate(
    config: DictConfig, recipe: Recipe, samples: list[Sample], model: Path, target_share: float, results: Results
) -> None:
    chat = ChatModel.load(model, config.frame)
    check_prompts(samples, recipe, chat, config.max_prompt_length)
    images = max(len(stage.images) for stage in recipe.stages)
    lengths = {key: config[key] for key in ("max_prompt_length", "max_response_length")}
    limits = _build(Limits, "vllm", {**config.vllm, **lengths, "images": images})
    log = results.folder / "vllm.log"
    console.print(f"Starting vLLM; its log: {log}", markup=False, highlight=False, soft_wrap=True)

    async def run() -> None:
        # vLLM first: it measures how much of the GPU is free.
        host = VllmHost.start(model, chat, _build(Sampling, "sampling", config.sampling), limits, log)
        try:
            segmenter = create(_build(SegmenterConfig, "segmenter", config.segmenter))
            try:
                pictures = Pictures(results.folder / "pictures", len(samples), min(config.pictures, len(samples)))
                evaluator = Evaluator(recipe, host, segmenter, chat.frame_of, target_share, results, pictures)
                await _with_bar(evaluator, samples, config.concurrency)
            finally:
                segmenter.close()
        finally:
            host.close()

    try:
        with Guard():
            asyncio.run(run())
    finally:
        if len(results.done) < len(samples):
            console.print(f"Stopped after {len(results.done)} of {len(samples)}; the same command goes on there.")


async def _with_bar(evaluator: Evaluator, samples: list[Sample], concurrency: int) -> None:
    with _progress() as progress:
        task = progress.add_task("evaluating", total=len(samples), completed=len(evaluator.results.done))

        def finished(row: SampleRow) -> None:
            progress.advance(task)
            if row.failure is not None:
                progress.console.print(f"[red]failed[/red] {escape(row.id)}: {escape(row.failure)}", highlight=False)

        await evaluator.run(samples, min(concurrency, len(samples)), finished)


def _show(config: DictConfig, subject: Subject, recipe: Recipe, results: Results) -> None:
    summary = summarise(results.rows(), [stage.name for stage in recipe.stages])
    results.write("summary.json", json.dumps({**asdict(summary), "f1_rule": F1_RULE}, indent=1) + "\n")
    whole_test = config.data == SOCIOSEG and config.split == "test" and config.max_samples is None
    title = f"{subject.name} on {config.data}, split {config.split}"
    console.print(table(summary, escape(title), published=whole_test))
    console.print(f"A line a sample: {results.folder / 'results.jsonl'}", markup=False, highlight=False, soft_wrap=True)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
        console=console,
    )  # fmt: skip
