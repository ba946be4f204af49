"""What has to be done for one variant with one seed, in order, and how to tell what is done already.

<runs>/cities/<city>/                    generated data
<runs>/<variant>/seed_<n>/               a run's folder, as `verl-socio train` and `evaluate` leave it
    eval/<start>-step_<N>-<split>/       an evaluation; evaluations that differ in the split alone share a start of the
                                         model, and its name is that of the first of them in the plan
<runs>/<variant>/logs/seed_<n>-<step>.log
<runs>/baselines/<baseline>.json         what the segmenter reaches from the truth

A run that has all of its records in <results> is done too, so that a study is gone on with where the runs' folders are
not. Some of them are not enough: the others would be those of another training.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from verl_socio.checkpoints import newest_whole, step_of
from verl_socio.errors import invalid
from verl_socio.overrides import quoted
from verl_socio.study.plan import City, Evaluation, Study, Variant
from verl_socio.train.settings import ROOT

_VERB = str(Path(sys.executable).with_name("verl-socio"))
_MERGE = (sys.executable, str(ROOT / "training_scripts" / "model_merger.py"))


@dataclass(frozen=True)
class Run:
    """One variant with one seed.

    Attributes:
        variant: The variant.
        seed: One of its seeds.
        folder: What it writes.
        last_step: The step after which its training ends; 0 without a training.
    """

    variant: Variant
    seed: int
    folder: Path
    last_step: int

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.variant.name} seed {self.seed}"


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        name: For people and the log's name.
        command: Program and arguments.
        log: Where its output goes.
        results: Whether each of its results is there, by the result's column in the table: "data", "train", "merge" or
            an evaluation's name.
        needed: Whether nothing further can be done for the run where it failed.
    """

    name: str
    command: tuple[str, ...]
    log: Path
    results: Mapping[str, Callable[[], bool]]
    needed: bool

    def is_done(self) -> bool:
        """Whether all of its results are there."""
        return all(is_there() for is_there in self.results.values())


def runs_of(study: Study, last_steps: Mapping[str, int], only: Sequence[str], seeds: Sequence[int]) -> list[Run]:
    """The runs asked for, in the order in which they are done: what is marked `first` seed by seed, then the others.

    Args:
        study: The plan.
        last_steps: Each variant's last step, from `checks.settle`.
        only: Names of variants; none means all.
        seeds: Seeds; none means all.

    Raises:
        ValueError: A name or a seed that the plan does not have.
    """
    for name in only:
        if name not in study.variants:
            raise invalid("--only", name, f"must be one of {', '.join(study.variants)}", "correct the name")
    chosen = [variant for name, variant in study.variants.items() if not only or name in only]
    planned = sorted({seed for variant in chosen for seed in variant.seeds})
    for seed in seeds:
        if seed not in planned:
            raise invalid("--seeds", seed, f"must be among {', '.join(map(str, planned))}", "correct it, or the plan")
    return [
        Run(variant, seed, study.runs / variant.name / f"seed_{seed}", last_steps[variant.name])
        for first in (True, False)
        for seed in planned
        for variant in chosen
        if variant.first is first and seed in variant.seeds and (not seeds or seed in seeds)
    ]


def steps_of(study: Study, run: Run) -> list[Step]:
    """Everything that has to be done for a run: its last checkpoint first, then those on the way."""
    city, is_recorded = study.cities[run.variant.city], _is_recorded(study, run)
    steps = [_city(study, city, _log(run, f"city_{city.name}"), is_recorded)]
    if run.variant.training is not None:
        steps.append(_train(study, run, is_recorded))
    for at in (run.last_step, *run.variant.also_at):
        if run.variant.training is not None:
            steps.append(_merge(run, at, is_recorded))
        steps += [_evaluate(study, run, start, at) for start in _starts(study, run, at)]
    return steps


def train_overrides(study: Study, variant: Variant, seed: int) -> list[str]:
    """The settings of a variant's training, without where it lies."""
    assert variant.training is not None
    training = study.trainings[variant.training]
    seeded = [f"{key}={seed}" for key in training.seeded]
    return [f"data.train_files={quoted(city_folder(study, variant))}", *training.overrides, *variant.train, *seeded]


def evaluate_overrides(variant: Variant, evaluation: Evaluation, seed: int) -> list[str]:
    """The settings of an evaluation, without the model, the data, the split and where it lies."""
    return [*evaluation.overrides, *variant.evaluate, *(f"{key}={seed}" for key in evaluation.seeded)]


def wanted(study: Study, run: Run, at: int) -> list[Evaluation]:
    """The evaluations of a run's model after a step, in the plan's order, without those that another seed has."""
    return [
        evaluation
        for evaluation in study.asked(run.variant.name)
        if (at == run.last_step or evaluation.along) and shared_seed(run.variant, evaluation, run.seed) == run.seed
    ]


def city_folder(study: Study, variant: Variant) -> Path:
    """Where a variant's data lie."""
    return study.runs / "cities" / variant.city


def shared_seed(variant: Variant, evaluation: Evaluation, seed: int) -> int:
    """The seed under which a result is kept: without a training and without chance one result serves all seeds."""
    return seed if variant.training is not None or evaluation.seeded else variant.seeds[0]


def evaluation_name(study: Study, evaluation: Evaluation, at: int) -> str:
    """The name of an evaluation's folder."""
    return f"{_start_name(study, evaluation, at)}-{evaluation.split}"


def find_evaluation(study: Study, run: Run, evaluation: Evaluation, at: int) -> Path | None:
    """The folder of a finished evaluation, or None; that of a variant without a training is below its model's name."""
    place = f"eval/{evaluation_name(study, evaluation, at)}/summary.json"
    found = run.folder.glob(place if run.variant.training is not None else f"*/{place}")
    return next((path.parent for path in found), None)


def baseline_steps(study: Study) -> list[Step]:
    """What is measured once, without any model."""
    steps = []
    for baseline in study.baselines.values():
        out = study.runs / "baselines" / f"{baseline.name}.json"
        record = baseline_record(study, baseline.name)
        logs, city = out.parent / "logs", study.cities[baseline.city]
        points = [word for count in baseline.points for word in ("--points", str(count))]
        place = [str(study.runs / "cities" / baseline.city), baseline.split, str(out)]
        command = (sys.executable, "-m", "verl_socio.study.true_boxes", *place, *points)
        steps.append(_city(study, city, logs / f"city_{city.name}.log", record.is_file))
        results = {"data": _either(out.is_file, record.is_file)}
        steps.append(Step(baseline.name, command, logs / f"{baseline.name}.log", results, needed=False))
    return steps


def is_trained(run: Run) -> bool:
    """Whether a run's training has left the checkpoint of its last step."""
    newest = newest_whole(run.folder / "checkpoints")
    return newest is not None and step_of(newest) >= run.last_step


def record_folder(study: Study, run: Run) -> Path:
    """Where a run's records are kept."""
    return study.results / run.variant.name / f"seed_{run.seed}"


def evaluation_record(study: Study, run: Run, evaluation: str, at: int) -> Path:
    """The record of an evaluation."""
    return record_folder(study, run) / f"{evaluation}-step_{at}.json"


def baseline_record(study: Study, name: str) -> Path:
    """The record of a baseline."""
    return study.results / "baselines" / f"{name}.json"


def _starts(study: Study, run: Run, at: int) -> list[list[Evaluation]]:
    """The evaluations of a model, those that differ in the split alone together."""
    starts: dict[object, list[Evaluation]] = {}
    for evaluation in wanted(study, run, at):
        starts.setdefault(evaluation.settings, []).append(evaluation)
    return list(starts.values())


def _is_recorded(study: Study, run: Run) -> Callable[[], bool]:
    """Whether every evaluation of a run has its record."""
    return lambda: all(
        evaluation_record(study, run, each.name, at).is_file()
        for at in (run.last_step, *run.variant.also_at)
        for each in wanted(study, run, at)
    )


def _either(one: Callable[[], bool], other: Callable[[], bool]) -> Callable[[], bool]:
    return lambda: one() or other()


def _start_name(study: Study, evaluation: Evaluation, at: int) -> str:
    """The same whichever of the evaluations are missing, so that a new one in the plan moves no result."""
    first = next(each for each in study.evaluations.values() if each.settings == evaluation.settings)
    return f"{first.name}-step_{at}"


def _log(run: Run, name: str) -> Path:
    return run.folder.parent / "logs" / f"{run.folder.name}-{name}.log"


def _city(study: Study, city: City, log: Path, is_recorded: Callable[[], bool]) -> Step:
    folder = study.runs / "cities" / city.name
    options = {"--samples": city.samples, "--seed": city.seed, "--size": city.size}
    words = [str(word) for option in options.items() for word in option]
    command = (_VERB, "data", "city", str(folder), *words)
    return Step(f"city_{city.name}", command, log, {"data": _either(folder.is_dir, is_recorded)}, needed=True)


def _train(study: Study, run: Run, is_recorded: Callable[[], bool]) -> Step:
    variant = run.variant
    assert variant.training is not None
    config = study.trainings[variant.training].config
    place = [f"run={run.folder.name}", f"output_root={quoted(run.folder.parent)}"]

    command = (_VERB, "train", config, *place, *train_overrides(study, variant, run.seed))
    results = {"train": _either(lambda: is_trained(run), is_recorded)}
    return Step("train", command, _log(run, "train"), results, needed=True)


def _merge(run: Run, at: int, is_recorded: Callable[[], bool]) -> Step:
    checkpoint = run.folder / "checkpoints" / f"global_step_{at}"
    command, name = (*_MERGE, "--local_dir", str(checkpoint)), f"merge-step_{at}"
    # A merged model gets its name when it is whole.
    results = {"merge": _either(_model(run, at).is_dir, is_recorded)}
    return Step(name, command, _log(run, name), results, needed=True)


def _evaluate(study: Study, run: Run, evaluations: Sequence[Evaluation], at: int) -> Step:
    """One start of the model for what is missing of evaluations that share it."""
    variant, name = run.variant, _start_name(study, evaluations[0], at)
    trained = variant.training is not None
    model, root = (_model(run, at), run.folder.parent) if trained else ("embedded", run.folder)
    results = {each.name: _is_evaluated(study, run, each, at) for each in evaluations}
    # What is there is not named again: the verb would refuse it where its own code was changed since.
    asked = [each for each in evaluations if not results[each.name]()] or evaluations
    paths = {"model": model, "data": city_folder(study, variant), "output_root": root}
    place = [f"{key}={quoted(path)}" for key, path in paths.items()]
    if len(asked) > 1:
        place += [f"split=[{','.join(each.split for each in asked)}]", f"name={name}"]
    else:
        place += [f"split={asked[0].split}", f"name={evaluation_name(study, asked[0], at)}"]
    command = (_VERB, "evaluate", *place, *evaluate_overrides(variant, asked[0], run.seed))
    return Step(name, command, _log(run, name), results, needed=False)


def _is_evaluated(study: Study, run: Run, evaluation: Evaluation, at: int) -> Callable[[], bool]:
    return _either(_is_recorded(study, run), lambda: find_evaluation(study, run, evaluation, at) is not None)


def _model(run: Run, at: int) -> Path:
    return run.folder / "merged" / f"global_step_{at}"
