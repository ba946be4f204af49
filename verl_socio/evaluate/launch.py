"""The verb `evaluate`: settle the settings, look at the data, run what is missing, show the tables."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.markup import escape

from verl_socio.data import Choice, Sample, format_of, load_samples
from verl_socio.errors import invalid
from verl_socio.evaluate.checks import checked
from verl_socio.evaluate.fingerprint import Fingerprint, fingerprint
from verl_socio.evaluate.intervals import intervals
from verl_socio.evaluate.plan import Case, plan
from verl_socio.evaluate.protocols import PROTOCOLS, check_samples, protocol_of
from verl_socio.evaluate.published import papers_of
from verl_socio.evaluate.results import Results
from verl_socio.evaluate.scores import summarise
from verl_socio.evaluate.session import progress, run
from verl_socio.evaluate.settings import AUTO, model_of
from verl_socio.evaluate.station import VLLM, Evaluation
from verl_socio.evaluate.subject import Subject, subject_of
from verl_socio.evaluate.summary import summary_values
from verl_socio.evaluate.survey import Survey, survey, without_map
from verl_socio.evaluate.table import table, timing_table
from verl_socio.evaluate.timing import timings
from verl_socio.evaluate.vllm_host import prepare_environment
from verl_socio.recipes import Recipe
from verl_socio.report.make import make
from verl_socio.report.overview import Shown, overview
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
    cases = plan(overrides)
    if dry_run:
        settings = "---\n".join(OmegaConf.to_yaml(case.config) for case in cases)
        console.print(settings, markup=False, highlight=False, soft_wrap=True)
        return
    recipes = [checked(case.config) for case in cases]
    first = cases[0].config
    subject = subject_of(model_of(first), Path(first.output_root))
    of_our_own = first.host == VLLM
    if of_our_own:
        prepare_environment()
    make_importable()
    data = _Data()
    looked = [data.look(case.config, recipe) for case, recipe in zip(cases, recipes, strict=True)]
    model = subject.folder(weights=of_our_own)
    prepared = [_prepare(*each, subject, model) for each in zip(cases, recipes, looked, strict=True)]
    waiting = [evaluation for evaluation in prepared if _announce(evaluation)]
    finished: dict[str, Shown] = {}

    def finish(evaluation: Evaluation) -> None:
        finished[evaluation.title] = _finish(evaluation)

    if waiting:
        run(waiting, model, console, finish)
    shown = [finished.get(evaluation.title) or _finish(evaluation) for evaluation in prepared]
    if not any(evaluation.way for evaluation in prepared):
        for evaluation, each in zip(prepared, shown, strict=True):
            _show(evaluation, each, subject)
    if len(shown) > 1:
        console.print(overview(shown, escape(f"{subject.title} on {first.data}")))
    for each in shown:
        pages = {"A line a sample": each.folder / "results.jsonl", "The report": each.folder / "report.html"}
        told = "\n".join(f"{name}: {page}" for name, page in pages.items() if page.is_file())
        console.print(told, markup=False, highlight=False, soft_wrap=True)


class _Data:
    """The splits of a start, each read and looked at once."""

    def __init__(self) -> None:
        self._samples = lru_cache(self._load)
        self._surveys = lru_cache(self._survey)

    def look(self, config: DictConfig, recipe: Recipe) -> tuple[list[Sample], Survey]:
        """The samples of a split as the recipe shows them, and what is known of them."""
        source = str(embedded_city(Path(config.output_root))) if config.data == EMBEDDED else str(config.data)
        config.data_format = format_of(source, config.data_format)
        protocol = protocol_of(config.protocol, config.data_format)
        config.protocol = protocol.name
        choice = Choice(config.question, config.question_seed, config.annotations)
        which = (source, config.split, config.max_samples, config.data_format, choice)
        samples = self._samples(*which)
        check_samples(protocol, samples)
        if config.best_of > 1 and not protocol.needs_masks:
            rule = f"chooses by the segmenter's estimate of masks, which protocol {protocol.name} does not ask for"
            raise invalid("best_of", config.best_of, rule, "set best_of=1")
        _check_maps(recipe, samples)
        seen = self._surveys(*which, recipe.needs_map)
        return samples if recipe.needs_map else [without_map(sample) for sample in samples], seen

    def _load(self, source: str, split: str, most: int | None, data_format: str, choice: Choice) -> list[Sample]:
        return load_samples(source, split, data_format, choice)[:most]

    def _survey(
        self, source: str, split: str, most: int | None, data_format: str, choice: Choice, need_map: bool
    ) -> Survey:
        samples = self._samples(source, split, most, data_format, choice)
        with progress(console) as bar:
            task = bar.add_task("reading the data", total=len(samples))
            return survey(samples, need_map=need_map, seen=lambda: bar.advance(task))


def _check_maps(recipe: Recipe, samples: Sequence[Sample]) -> None:
    """A set without maps is told once, not for each of its samples."""
    shown = [stage.name for stage in recipe.stages if "map" in stage.images]
    if shown and not any(sample.map is not None for sample in samples):
        rule = f"shows the map in stage {' and '.join(shown)}, but none of the {len(samples)} samples has one"
        raise invalid("recipe", recipe.name, rule, "add images=[satellite], or choose a recipe that shows no map")


def _prepare(
    case: Case, recipe: Recipe, looked: tuple[list[Sample], Survey], subject: Subject, model: Path
) -> Evaluation:
    samples, seen = looked
    size = len(samples)
    mark = fingerprint(case.config, recipe, data_sha256=seen.sha256, samples=size, model=model, command=sys.argv)
    folder = subject.run_dir / "eval" / _name(case.config, subject, mark)
    return Evaluation(case.config, case.way, recipe, samples, seen.target_share, folder, mark)


def _name(config: DictConfig, subject: Subject, mark: Fingerprint) -> str:
    if config.name != AUTO:
        return str(config.name)
    words = (subject.name, Path(str(config.data)).name, str(config.split), mark.sha256[:8])
    return "-".join(re.sub(r"[^A-Za-z0-9._]", "_", word) for word in words)


def _announce(evaluation: Evaluation) -> bool:
    """Make the evaluation's folder or go on with it; tell how far it is, and whether something is left to run."""
    config, size = evaluation.config, len(evaluation.samples)
    with Results(evaluation.folder, evaluation.mark) as results:
        if config.retry_failed:
            results.drop_failed()
        results.check_failures(size, config.max_failures)
        results.write("config.yaml", OmegaConf.to_yaml(config))
        done = len(results.done)
        if done < size:
            results.reopen()
    state = "complete: nothing to run" if done == size else f"{done} samples done already"
    way = f", {evaluation.way}" if evaluation.way else ""
    console.print(
        f"Evaluation of {config.model} on {config.data}, split {config.split} ({size} samples, "
        f"recipe {config.recipe.name}{way}, segmenter {config.segmenter.weights}): "
        f"{state if done else 'from the start'}\n"
        f"Everything it writes: {evaluation.folder}",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip
    return done < size


def _finish(evaluation: Evaluation) -> Shown:
    """Write what follows from the rows: the summary and the report."""
    stages = [stage.name for stage in evaluation.recipe.stages]
    with Results(evaluation.folder, evaluation.mark) as results:
        protocol = PROTOCOLS[evaluation.config.protocol]
        summary, found = summarise(results.rows(), stages, protocol), intervals(results.rows(), stages, protocol)
        times = timings(results.rows())
        results.finish(json.dumps(summary_values(summary, found, times), indent=1) + "\n")
    # The report shows masks.
    if protocol.needs_masks:
        make(evaluation.folder)
    return Shown(str(evaluation.config.split), evaluation.way, evaluation.folder, summary, found, times)


def _show(evaluation: Evaluation, shown: Shown, subject: Subject) -> None:
    config = evaluation.config
    title = escape(f"{subject.title} on {config.data}, split {config.split}")
    console.print(table(shown.summary, title, papers_of(config), shown.intervals))
    console.print(timing_table(shown.timings))
