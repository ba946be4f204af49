"""Read a study's plan: every mistake in the file is named before anything starts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from verl_socio.errors import invalid
from verl_socio.study.plan import MASKS, Baseline, City, Claim, Comparison, Evaluation, Study, Training, Variant
from verl_socio.train.settings import ROOT

_NAME = re.compile(r"[a-z][a-z0-9_]*")
# What the verb `evaluate` takes over into a folder's name as it is.
_SPLIT = re.compile(r"[A-Za-z0-9._]+")
_SEE = "see configs/study/city.yaml"

Part = TypeVar("Part")


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
    _check_evaluations(study)
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


def _check_evaluations(study: Study) -> None:
    seen: dict[object, str] = {}
    for name, evaluation in study.evaluations.items():
        where = f"evaluations.{name}"
        if not _SPLIT.fullmatch(evaluation.split):
            rule = "must be letters, digits, dots and underscores"
            raise invalid(f"{where}.split", evaluation.split, rule, "give one split's name")
        if given := [override for override in evaluation.overrides if override.startswith("split=")]:
            raise invalid(f"{where}.overrides", given[0], "is a key of its own", "write `split: NAME` beside them")
        twin = seen.setdefault((evaluation.split, evaluation.settings), name)
        if twin != name:
            raise invalid(where, evaluation.split, f"asks what {twin} asks", "drop one of the two")


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
