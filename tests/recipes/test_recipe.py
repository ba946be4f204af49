import copy
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from verl_socio.answer import Grammar, Prompt, Status, describe, parse
from verl_socio.recipes import Recipe
from verl_socio.recipes.recipe import IMAGES
from verl_socio.rewards import TermSpec

RECIPES = sorted((Path(__file__).parents[2] / "configs" / "recipe").glob("*.yaml"))


def plain() -> dict[str, Any]:
    """The shipped two-stage recipe as a user edits it."""
    config = OmegaConf.to_container(OmegaConf.load(RECIPES[0].parent / "socioreasoner.yaml"), resolve=True)
    assert isinstance(config, dict)
    return config


def changed(path: str, value: Any) -> dict[str, Any]:
    config = copy.deepcopy(plain())
    *parents, last = path.split(".")
    place = config
    for name in parents:
        place = place[name]
    place[last] = value
    return config


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_is_built(path: Path) -> None:
    recipe = Recipe.from_config(OmegaConf.to_container(OmegaConf.load(path), resolve=True))
    assert recipe.name == path.stem
    assert all(stage.reward.terms for stage in recipe.stages)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_example_in_a_prompt_is_written_as_its_grammar_reads_it(path: Path) -> None:
    recipe = Recipe.from_config(OmegaConf.to_container(OmegaConf.load(path), resolve=True))
    for stage in recipe.stages:
        text = stage.ask(question="Zoo", previous="[]", size_wh=(140, 140))
        example = text[text.rindex("<think>") :]
        # Words stand for numbers: left, top, x, y.
        numbers = map(str, range(1, 100))
        numbered = re.sub(r"(?<=[\[ ])[a-z]+(?=[,\]])", lambda _, numbers=numbers: next(numbers), example)
        answer = parse(numbered, stage.grammar)
        assert answer.status is Status.OK, numbered
        assert answer.think_format
        assert answer.item_exact == (True,)


def test_socioreasoner_is_the_published_method() -> None:
    recipe = Recipe.from_config(plain())
    first, second = recipe.stages
    assert (first.images, second.images) == (("map", "satellite"), ("map", "satellite"))
    assert (first.feedback, second.feedback) == (False, True)
    assert (first.segment_with, second.segment_with) == (("boxes",), ("boxes", "points"))
    assert first.grammar == Grammar(box="bbox_2d")
    assert second.grammar == Grammar(box="bbox_2d", points="points")
    assert [line.term for line in first.reward.terms] == ["think_format", "item_format", "box_accuracy", "box_count"]
    assert [line.term for line in second.reward.terms] == ["think_format", "refine_format", "mask_iou", "point_count"]
    assert first.reward.terms[2] == TermSpec("box_accuracy", 1.0, {"iou_threshold": 0.5, "l1_px": 10.0})
    assert recipe.refine_from == "each"
    assert recipe.feedback.box_rgb == (0, 0, 255)
    assert recipe.feedback.mask_rgb == (255, 0, 0)
    assert recipe.needs_map


def test_two_points_in_the_prompt_of_the_second_stage() -> None:
    # The published prompt shows three points where the reward wants two.
    grammar = Recipe.from_config(plain()).stages[1].grammar
    text = describe([Prompt((1.0, 2.0, 30.0, 40.0), ((5.0, 6.0), (7.0, 8.0)), (1, 1))], grammar)
    assert text == '[{"bbox_2d": [1, 2, 30, 40], "points": [[5, 6], [7, 8]]}]'


def test_a_recipe_without_the_map_does_not_need_it() -> None:
    config = plain()
    for stage in config["stages"].values():
        stage["images"] = ["satellite"]
    assert not Recipe.from_config(config).needs_map


def test_the_order_of_the_images_is_the_users() -> None:
    recipe = Recipe.from_config(changed("stages.localise.images", ["satellite", "map"]))
    assert recipe.stages[0].images == ("satellite", "map")


def test_a_term_set_to_null_is_switched_off() -> None:
    recipe = Recipe.from_config(changed("stages.localise.reward.terms.box_count", None))
    assert [line.term for line in recipe.stages[0].reward.terms] == ["think_format", "item_format", "box_accuracy"]


def test_the_l1_term_is_switched_off_by_null() -> None:
    recipe = Recipe.from_config(changed("stages.localise.reward.terms.box_accuracy.params.l1_px", None))
    assert recipe.stages[0].reward.terms[2].params["l1_px"] is None


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("stages", {}, r"recipe\.stages = \{\}: must hold at least one stage"),
        ("stages", [1], r"recipe\.stages = \[1\]: must be a mapping"),
        ("stages.localise", 3, r"recipe\.stages\.localise = 3: must be a mapping"),
        ("stages.localise", None, r"recipe\.stages\.refine = 'feedback': shows an earlier answer"),  # switched off
        ("colour", "red", r"recipe\.colour = .*is not a known key"),
        ("stages.localise.colour", 1, r"recipe\.stages\.localise\.colour = .*is not a known key"),
        ("stages.localise.images", [], r"recipe\.stages\.localise\.images = \(\): must be one or both of map, sat"),
        ("stages.localise.images", ["map", "map"], r"localise\.images = .*must be one or both"),
        ("stages.localise.images", ["radar"], r"localise\.images = .*must be one or both"),
        ("stages.localise.images", "map", r"localise\.images = 'map': must be a list"),
        ("stages.localise.images", [["map"]], r"localise\.images = .*must be str"),
        ("stages.localise.feedback", True, r"recipe\.stages\.localise = .*none before the first stage"),
        ("stages.refine.feedback", "false", r"refine\.feedback = 'false': must be bool"),
        ("stages.localise.prompt", "socioreasoner_refine.jinja", r"recipe\.stages\.localise = .*none before the first"),
        ("stages.localise.prompt", "gone.jinja", r"prompt = 'gone\.jinja': must be a file"),
        ("stages.localise.prompt", None, r"localise\.prompt = None: must be str"),
        ("stages.localise.segment_with", [], r"localise\.segment_with = \(\): must be boxes, points or both"),
        ("stages.localise.segment_with", ["masks"], r"localise\.segment_with = .*must be boxes, points or both"),
        ("stages.localise.grammar", {"boxes": "b"}, r"localise\.grammar\.boxes = .*is not a known key"),
        ("stages.localise.grammar", {"point_keys": "ab"}, r"grammar\.point_keys = 'ab': must be a list"),
        ("stages.localise.grammar", {"max_items": "9"}, r"grammar\.max_items = '9': must be int"),
        ("stages.localise.grammar", {"box": 3}, r"grammar\.box = 3: must be str or null"),
        ("stages.localise.grammar", {"box": None}, r"grammar = .*must name a box or points"),
        ("stages.localise.reward", {}, r"localise\.reward\.terms = None: is missing"),
        ("stages.localise.reward", None, r"localise\.reward\.terms = None: is missing"),
        ("stages.localise.reward.terms", None, r"localise\.reward\.terms = None: must be a mapping"),
        ("stages.localise.reward.terms.luck", {}, r"reward\.term = 'luck': must be one of "),
        ("stages.localise.reward.terms.box_count", 2.0, r"terms\.box_count = 2\.0: must be a mapping"),
        ("stages.localise.reward.terms.box_count.weight", "2", r"box_count\.weight = '2': must be float"),
        ("stages.localise.reward.terms.box_count.weight", float("nan"), r"box_count\.weight = nan: must be a finite"),
        ("stages.localise.reward.terms.box_count.params", {"mu": 2}, r"reward\.box_count\.params = 'mu'"),
        ("stages.localise.reward.terms.box_count.params", [2], r"box_count\.params = \[2\]: must be a mapping"),
        ("stages.localise.reward.gate", ["mask_iou"], r"reward\.gate = 'mask_iou': must be one of the listed terms"),
        ("stages.localise.reward.gate", "think_format", r"reward\.gate = 'think_format': must be a list"),
        ("stages.localise.reward.terms.box_count.weight", -1, r"box_count\.weight = -1: must not be negative"),
        ("stages.localise.segment_with", ["points"], r"segment_with = .*the grammar has no key for points"),
        ("stages.localise.thin_iou", 2, r"localise\.thin_iou = 2: must lie in 0\.\.1"),
        ("stages.localise.thin_iou", "0.5", r"localise\.thin_iou = '0\.5': must be float or null"),
        (
            "stages.localise.grammar",
            {"box": "</answer>"},
            r"localise\.grammar = .*must read back what is written by it",
        ),
        ("stages.refine.grammar", {"points": "p", "max_points": 1}, r"refine\.grammar = .*able to hold an item with 2"),
        ("max_pixels", 0, r"recipe\.max_pixels = 0: must be 1 or more"),
        ("max_pixels", 840.0, r"recipe\.max_pixels = 840\.0: must be int or null"),
        ("no_target", 1, r"recipe\.no_target = 1: must be bool"),
        ("frame", "map", r"recipe\.frame = 'map': must be model or image"),
        ("data", 3, r"recipe\.data = 3: must be str or null"),
        ("sampling", {"temperature": 0}, r"recipe\.sampling\.temperature = 0: must be above 0"),
        ("sampling", {"top_p": 1.5}, r"recipe\.sampling\.top_p = 1\.5: must be above 0 and at most 1"),
        ("sampling", {"top_k": 0}, r"recipe\.sampling\.top_k = 0: must be 1 or more"),
        ("sampling", {"seed": 0}, r"recipe\.sampling\.seed = .*is not a known key"),
        ("refine_from", "worst", r"recipe\.refine_from = 'worst': must be one of each, best"),
        ("feedback", {"mask_alpha": 2.0}, r"feedback\.mask_alpha = 2\.0: must lie in 0\.\.1"),
        ("feedback", {"box_rgb": "blue"}, r"feedback\.box_rgb = 'blue': must be a list"),
        ("feedback", {"alpha": 1}, r"recipe\.feedback\.alpha = .*is not a known key"),
    ],
)
def test_a_mistake_names_its_place_and_the_fix(path: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message + ".*Fix: "):
        Recipe.from_config(changed(path, value))


@pytest.mark.parametrize("missing", ["name", "stages", "stages.localise.images", "stages.localise.prompt"])
def test_a_missing_key_is_named(missing: str) -> None:
    config = plain()
    *parents, last = missing.split(".")
    place = config
    for name in parents:
        place = place[name]
    del place[last]
    with pytest.raises(ValueError, match=rf"recipe\.{re.escape(missing)} = None: is missing"):
        Recipe.from_config(config)


def places(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        found += [place for name, part in value.items() for place in places(part, (*path, name))]
    return found


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(IMAGES)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(scalars, inner, max_size=3), max_leaves=5
)


@settings(max_examples=150, deadline=None)
@given(place=st.sampled_from(places(plain())), value=anything)
def test_whatever_a_user_writes_makes_a_recipe_or_a_clear_error(place: tuple[str, ...], value: Any) -> None:
    config = changed(".".join(place), value)
    try:
        recipe = Recipe.from_config(config)
    except ValueError as error:
        assert "Fix: " in str(error)
    else:
        assert recipe.stages


@given(value=anything)
def test_whatever_a_recipe_file_holds_is_refused_clearly(value: Any) -> None:
    with pytest.raises(ValueError, match="Fix: "):
        Recipe.from_config(value)
