from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from verl_socio.study.plan import Study
from verl_socio.study.reading import load


def test_a_plan_is_read_with_its_defaults(study: Study, tmp_path: Path) -> None:
    trained = study.variants["trained"]
    assert (trained.seeds, trained.also_at, trained.first, trained.train) == ((0, 1), (2,), True, ())
    assert study.claims["improves"].comparisons[1].at_least == 8
    assert study.claims["improves"].variants == ("start", "trained"), "what is compared with comes before"
    assert study.claims["improves"].evaluations == ("test", "sampled")
    assert study.claims["second"].variants == ("other", "trained")
    assert study.runs == tmp_path / "runs"


def changed(values: Any, place: str, value: object) -> None:
    *path, last = place.split(".")
    for key in path:
        values = values[int(key)] if isinstance(values, list) else values[key]
    if value is None:
        del values[last]
    else:
        values[last] = value


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("variants.trained.city", "rome", r"variants\.trained\.city = 'rome': must be one of plain"),
        ("variants.trained.training", "sft", r"variants\.trained\.training = 'sft': must be one of rl"),
        ("variants.trained.seeds", [], r"variants\.trained\.seeds = \(\): must hold a seed"),
        ("variants.trained.seeds", [0, 0], r"variants\.trained\.seeds = \[0, 0\]: must name each entry once"),
        ("variants.trained.seeds", [-1], r"variants\.trained\.seeds\[0\] = -1: must be a whole number"),
        ("variants.trained.seeds", [True], r"variants\.trained\.seeds\[0\] = True: must be a whole number"),
        ("variants.trained.seeds", "0,1", r"variants\.trained\.seeds = '0,1': must be a list"),
        ("variants.trained.first", "yes please", r"variants\.trained\.first = .*must be true or false"),
        ("variants.trained.begins_as", "nobody", r"variants\.trained\.begins_as = 'nobody': must be one of"),
        ("variants.trained.overrides", [], r"variants\.trained\.overrides = \[\]: is not a known key"),
        ("variants.trained.about", None, r"variants\.trained\.about = None: is missing"),
        ("variants.start.train", ["a=1"], r"variants\.start\.train = .*names no training"),
        ("variants.Bad Name", {"about": "x"}, r"variants\.Bad Name = 'Bad Name': must be small letters"),
        ("variants", [], r"variants = \[\]: must be a mapping"),
        ("cities.plain.size", 1.5, r"cities\.plain\.size = 1\.5: must be a whole number"),
        ("evaluations.test.seeded", [1], r"evaluations\.test\.seeded\[0\] = 1: must be text"),
        ("evaluations.test.split", None, r"evaluations\.test\.split = None: is missing"),
        ("evaluations.test.split", "a,b", r"evaluations\.test\.split = 'a,b': must be letters, digits"),
        (
            "evaluations.test.overrides",
            ["split=val"],
            r"evaluations\.test\.overrides = 'split=val': is a key of its own",
        ),
        ("evaluations.twin", {"split": "test"}, r"evaluations\.twin = 'test': asks what test asks"),
        ("baselines.true_boxes.evaluations", ["x"], r"baselines\.true_boxes\.evaluations = 'x': must be one of"),
        ("claims.improves.comparisons.0.of", "x", r"claims\.improves\.comparisons\[0\]\.of = 'x': must be one of"),
        ("claims.improves.comparisons.0.mask", "third", r"mask = 'third': must be one of first, last"),
        ("claims.improves.comparisons.0.at_least", "much", r"at_least = 'much': must be a number"),
        ("claims.improves.comparisons.0.evaluation", "x", r"evaluation = 'x': must be one of test, sampled"),
        ("claims.improves.fall_from", "x", r"fall_from = 'x': must be one of"),
        ("claims.second.also", None, r"variants\.other = 'other': belongs to no claim"),
        ("curves", ["x"], r"curves = 'x': must be one of"),
        ("runs", None, r"plan\.runs = None: is missing"),
        ("more", 1, r"plan\.more = 1: is not a known key"),
    ],
)
def test_a_mistake_is_named(
    plan_values: dict, read_plan: Callable[[object], Study], place: str, value: object, message: str
) -> None:
    changed(plan_values, place, value)
    with pytest.raises(ValueError, match=message + ".*Fix: "):
        read_plan(plan_values)


def test_variants_on_other_data_are_not_compared(plan_values: dict, read_plan: Callable[[object], Study]) -> None:
    plan_values["cities"]["wide"] = {"samples": 10, "seed": 1, "size": 72}
    plan_values["variants"]["start"]["city"] = "wide"
    with pytest.raises(ValueError, match=r"trained': has other data than start .*Fix: "):
        read_plan(plan_values)


@pytest.mark.parametrize("text", ["", "- 1", "a: [", "\x00", "a: &a [*a]", "[" * 3000])
def test_a_file_that_is_no_plan_is_refused(read_plan: Callable[[object], Study], text: str) -> None:
    with pytest.raises(ValueError, match=r"plan.*Fix: "):
        read_plan(text)


def test_a_plan_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"plan = .*nowhere\.yaml.*Fix: "):
        load(tmp_path / "nowhere.yaml")


PLACES = ("variants.trained", "variants.trained.seeds", "claims.improves.comparisons", "cities", "curves", "runs",
          "evaluations.test.overrides", "trainings.rl", "baselines.true_boxes.points", "template")  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), parts, max_size=3),
    max_leaves=5,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(PLACES), value=VALUES)
def test_whatever_stands_in_a_plan_it_is_read_or_refused(
    plan_values: dict, read_plan: Callable[[object], Study], place: str, value: object
) -> None:
    values = yaml.safe_load(yaml.safe_dump(plan_values, sort_keys=False))
    changed(values, place, value)
    try:
        study = read_plan(values)
    except ValueError as error:
        assert "Fix: " in str(error)
    else:
        assert study.variants
