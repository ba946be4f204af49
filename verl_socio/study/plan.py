"""A study's plan: which trainings, on which data, how they are evaluated, and what they are to show.

A plan is a YAML file such as `configs/study/city.yaml`. Reading it checks names and kinds; `checks.py` asks the verbs
themselves whether they would take the settings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from verl_socio.errors import invalid
from verl_socio.train.settings import ROOT

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_SEE = "see configs/study/city.yaml"
MASKS = ("first", "last")

Part = TypeVar("Part")


@dataclass(frozen=True)
class City:
    """Generated data: `verl-socio data city --samples --seed --size`; samples are those of train, val and test."""

    name: str
    samples: int
    seed: int
    size: int


@dataclass(frozen=True)
class Training:
    """What the variants of one kind share.

    Attributes:
        name: What variants call it.
        config: The configuration that `verl-socio train` starts from.
        overrides: Settings as key=value.
        seeded: The keys that are set to the seed.
    """

    name: str
    config: str
    overrides: tuple[str, ...] = ()
    seeded: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of every model.

    Attributes:
        name: Word for it in records and tables.
        overrides: Settings of `verl-socio evaluate` as key=value.
        seeded: The keys that are set to the seed; without any, a model has one result whatever the seed.
        along: Whether the checkpoints that a variant names (`also_at`) are evaluated too.
    """

    name: str
    overrides: tuple[str, ...]
    seeded: tuple[str, ...] = ()
    along: bool = False


@dataclass(frozen=True)
class Baseline:
    """What the segmenter does with the true boxes: `verl_socio/study/true_boxes.py`.

    Attributes:
        name: Word for it in records.
        city: Its data.
        split: Of the data.
        points: Numbers of points to add to each box; 0 is the box alone.
        evaluations: Beside which evaluations it is shown: those that ask the same questions about the same satellite
            images.
    """

    name: str
    city: str
    split: str
    points: tuple[int, ...]
    evaluations: tuple[str, ...]


@dataclass(frozen=True)
class Variant:
    """One line of the study: a training, or none, with every seed.

    Attributes:
        name: Word for it in folders and tables.
        about: What it is, for the page.
        seeds: The seeds, in the order in which they are run.
        city: Its data.
        training: What it is trained by; None: the start is evaluated as it is.
        train: Settings of the training on top of the shared ones.
        evaluate: Settings of every evaluation on top of that evaluation's own.
        begins_as: The variant without a training that it begins as, for the curves.
        also_at: Steps before the last whose checkpoints are evaluated where an evaluation asks for it.
        first: Whether it is run before those that are not.
    """

    name: str
    about: str
    seeds: tuple[int, ...]
    city: str
    training: str | None = None
    train: tuple[str, ...] = ()
    evaluate: tuple[str, ...] = ()
    begins_as: str | None = None
    also_at: tuple[int, ...] = ()
    first: bool = False


@dataclass(frozen=True)
class Comparison:
    """Two figures to be set against each other.

    Attributes:
        of: The variant that is said to be better.
        against: The other one; it may be the same where the masks differ.
        evaluation: The evaluation.
        mask: Which of its masks: the "first" stage's or the "last".
        against_mask: Which of the other's masks.
        at_least: Points of gIoU (0..100) that it has to be better by; None: shown without a claim.
    """

    of: str
    against: str
    evaluation: str
    mask: str = "last"
    against_mask: str = "last"
    at_least: float | None = None


@dataclass(frozen=True)
class Claim:
    """What the study is to show.

    Attributes:
        name: Word for it in the page's template.
        text: The claim in words.
        comparisons: What has to hold for it.
        also: Variants shown in its table that no comparison names.
        fall_from: An evaluation; the table then says how much less there is in the others. None: it does not.
    """

    name: str
    text: str
    comparisons: tuple[Comparison, ...]
    also: tuple[str, ...] = ()
    fall_from: str | None = None

    @property
    def variants(self) -> tuple[str, ...]:
        """Every variant in it, once, in order: what is compared with before what is compared."""
        named = [name for each in self.comparisons for name in (each.against, each.of)]
        return tuple(dict.fromkeys((*self.also, *named)))

    @property
    def evaluations(self) -> tuple[str, ...]:
        """Every evaluation in it, once, in order."""
        return tuple(dict.fromkeys(each.evaluation for each in self.comparisons))


@dataclass(frozen=True)
class Study:
    """A whole plan.

    Attributes:
        path: The file it was read from.
        runs: Folder of the runs.
        results: Folder of the records that stay; the page lies beside it, `<results>.md`.
        template: The page's template.
        cities: Data by name.
        trainings: What variants are trained by, by name.
        evaluations: Evaluations by name, in order.
        variants: Variants by name, in order.
        claims: Claims by name, in order.
        baselines: What the segmenter reaches from the truth, by name.
        curves: Variants whose trainings are drawn.
    """

    path: Path
    runs: Path
    results: Path
    template: Path
    cities: Mapping[str, City]
    trainings: Mapping[str, Training]
    evaluations: Mapping[str, Evaluation]
    variants: Mapping[str, Variant]
    claims: Mapping[str, Claim]
    baselines: Mapping[str, Baseline]
    curves: tuple[str, ...]


def load(path: Path) -> Study:
    """Read a plan.

    Args:
        path: A YAML file. Folders in it are below the project's root, unless absolute.

    Returns:
        The plan, every name in it known.

    Raises:
        ValueError: The file cannot be read, lacks something, or holds something unknown; the message says where.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        text = " ".join(str(error).split())
        raise invalid("plan", str(path), f"must be a YAML file ({text})", f"correct the file; {_SEE}") from error
    values = _mapping("plan", content)
    _known("plan", values, {field.name for field in fields(Study)} - {"path"}, required=True)
    study = Study(
        path=Path(path),
        runs=ROOT / _text("runs", values["runs"]),
        results=ROOT / _text("results", values["results"]),
        template=ROOT / _text("template", values["template"]),
        cities=_named("cities", values, City),
        trainings=_named("trainings", values, Training),
        evaluations=_named("evaluations", values, Evaluation),
        variants=_named("variants", values, Variant),
        claims=_named("claims", values, Claim),
        baselines=_named("baselines", values, Baseline),
        curves=_list(_text)("curves", values["curves"]),
    )
    _check(study)
    return study


def _named(key: str, values: Mapping[str, Any], kind: type[Part]) -> dict[str, Part]:
    return {name: _part(f"{key}.{name}", kind, part, name) for name, part in _mapping(key, values[key]).items()}


def _part(where: str, kind: type[Any], value: Any, name: str | None = None) -> Any:
    values = dict(_mapping(where, value))
    if name is not None and not _NAME.fullmatch(name):
        raise invalid(where, name, "must be small letters, digits and underscores", "choose another name")
    listed = {field.name: field for field in fields(kind) if name is None or field.name != "name"}
    _known(where, values, set(listed), required=False)
    for key, field in listed.items():
        if key not in values and field.default is MISSING:
            raise invalid(f"{where}.{key}", None, "is missing", f"set it; {_SEE}")
    read = {key: _READERS[str(listed[key].type)](f"{where}.{key}", entry) for key, entry in values.items()}
    return kind(**read) if name is None else kind(name=name, **read)


def _known(where: str, values: Mapping[str, Any], known: set[str], *, required: bool) -> None:
    if unknown := sorted(values.keys() - known):
        rule = "is not a known key"
        raise invalid(f"{where}.{unknown[0]}", values[unknown[0]], rule, f"use {', '.join(sorted(known))}")
    if required and (missing := sorted(known - values.keys())):
        raise invalid(f"{where}.{missing[0]}", None, "is missing", f"set it; {_SEE}")


def _mapping(where: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not value or not all(isinstance(key, str) for key in value):
        raise invalid(where, value, "must be a mapping that is not empty", f"write NAME: ... lines; {_SEE}")
    return value


def _text(where: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise invalid(where, value, "must be text", f"correct it; {_SEE}")
    return value


def _whole(where: str, value: Any) -> int:
    if type(value) is not int or value < 0:
        raise invalid(where, value, "must be a whole number of 0 or more", "correct it")
    return value


def _truth(where: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise invalid(where, value, "must be true or false", "correct it")
    return value


def _points(where: str, value: Any) -> float | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100):
        raise invalid(where, value, "must be a number in 0..100, or null", "give points of gIoU")
    return value


def _list(read: Callable[[str, Any], Part]) -> Callable[[str, Any], tuple[Part, ...]]:
    def reader(where: str, value: Any) -> tuple[Part, ...]:
        if not isinstance(value, list):
            raise invalid(where, value, "must be a list", "write [first, second]")
        found = tuple(read(f"{where}[{index}]", entry) for index, entry in enumerate(value))
        if len(set(found)) < len(found):
            raise invalid(where, value, "must name each entry once", "drop what is there twice")
        return found

    return reader


# How a field is read, by its annotation.
_READERS: dict[str, Callable[[str, Any], Any]] = {
    "str": _text,
    "str | None": lambda where, value: None if value is None else _text(where, value),
    "int": _whole,
    "bool": _truth,
    "float | None": _points,
    "tuple[str, ...]": _list(_text),
    "tuple[int, ...]": _list(_whole),
    "tuple[Comparison, ...]": _list(lambda where, value: _part(where, Comparison, value)),
}


def _check(study: Study) -> None:
    for variant in study.variants.values():
        _check_variant(study, variant)
    for baseline in study.baselines.values():
        _one_of(f"baselines.{baseline.name}.city", baseline.city, study.cities)
        for name in baseline.evaluations:
            _one_of(f"baselines.{baseline.name}.evaluations", name, study.evaluations)
    for claim in study.claims.values():
        _check_claim(study, claim)
    for name in study.curves:
        _one_of("curves", name, study.variants)
    shown = {name for claim in study.claims.values() for name in claim.variants}
    if unseen := [name for name in study.variants if name not in shown]:
        rule = "belongs to no claim: its results would be shown nowhere"
        raise invalid(f"variants.{unseen[0]}", unseen[0], rule, "name it in a claim's comparisons, or under `also`")


def _check_variant(study: Study, variant: Variant) -> None:
    where = f"variants.{variant.name}"
    _one_of(f"{where}.city", variant.city, study.cities)
    if variant.begins_as is not None:
        _one_of(f"{where}.begins_as", variant.begins_as, study.variants)
    if not variant.seeds:
        raise invalid(f"{where}.seeds", variant.seeds, "must hold a seed", "write [0]")
    if variant.training is not None:
        _one_of(f"{where}.training", variant.training, study.trainings)
    elif variant.train or variant.also_at:
        rule = "is set, but the variant names no training"
        raise invalid(f"{where}.train", variant.train or variant.also_at, rule, "name one, or drop these settings")


def _check_claim(study: Study, claim: Claim) -> None:
    where = f"claims.{claim.name}"
    for name in claim.also:
        _one_of(f"{where}.also", name, study.variants)
    if claim.fall_from is not None:
        _one_of(f"{where}.fall_from", claim.fall_from, study.evaluations)
    for index, each in enumerate(claim.comparisons):
        place = f"{where}.comparisons[{index}]"
        _one_of(f"{place}.of", each.of, study.variants)
        _one_of(f"{place}.against", each.against, study.variants)
        _one_of(f"{place}.evaluation", each.evaluation, study.evaluations)
        _one_of(f"{place}.mask", each.mask, MASKS)
        _one_of(f"{place}.against_mask", each.against_mask, MASKS)
        one, other = study.variants[each.of], study.variants[each.against]
        if one.city != other.city:
            rule = f"has other data than {each.against} ({one.city} and {other.city})"
            raise invalid(f"{place}.of", each.of, rule, "compare variants of one city")


def _one_of(where: str, value: str, known: Mapping[str, object] | tuple[str, ...]) -> None:
    if value not in known:
        raise invalid(where, value, f"must be one of {', '.join(known)}", "correct the name")
