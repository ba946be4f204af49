"""A recipe: how many stages an episode has and what happens in each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from verl_socio.answer import Grammar
from verl_socio.errors import invalid
from verl_socio.recipes.template import Template
from verl_socio.render import FeedbackStyle
from verl_socio.rewards import RewardSpec, TermSpec

IMAGES = ("map", "satellite")
REFINE_FROM = ("each", "best")


@dataclass(frozen=True)
class Stage:
    """One look and one answer.

    Attributes:
        name: For logs and result files.
        images: What is shown, in this order: "map", "satellite".
        feedback: Draw the boxes and the mask of the stage before onto the images.
        prompt: The text under the images.
        points: How many points an item shall have, for the prompt; the reward has its own idea of it (`point_count`).
        grammar: How the answer is written.
        segment_with: What of the answer is sent to the segmenter: "boxes", "points" or both.
        reward: The terms that score this stage.
    """

    name: str
    images: tuple[str, ...]
    feedback: bool
    prompt: Template
    grammar: Grammar
    segment_with: tuple[str, ...]
    reward: RewardSpec
    points: int = 2

    def __post_init__(self) -> None:
        """Check the stage.

        Raises:
            ValueError: An unknown image, none at all, nothing to send to the segmenter, or a prompt that does not fit.
        """
        where = f"recipe.stages.{self.name}"
        if not self.images or len(set(self.images)) != len(self.images) or not set(self.images) <= set(IMAGES):
            rule = f"must be one or both of {', '.join(IMAGES)}"
            raise invalid(f"{where}.images", self.images, rule, "list each once")
        if not self.segment_with or not set(self.segment_with) <= {"boxes", "points"}:
            rule = "must be boxes, points or both"
            raise invalid(f"{where}.segment_with", self.segment_with, rule, "name what the segmenter gets")
        if self.points < 1:
            raise invalid(f"{where}.points", self.points, "must be 1 or more", "raise it")
        self.prompt.try_out(self.images)

    def ask(self, *, question: str, previous: str, size_wh: tuple[float, float]) -> str:
        """The prompt's text; arguments as for `Template.__call__`, which is told what this stage shows."""
        return self.prompt(
            question=question, images=self.images, previous=previous, points=self.points, size_wh=size_wh
        )


@dataclass(frozen=True)
class Recipe:
    """A method.

    Attributes:
        name: For logs and result files.
        stages: At least one; the mask of the last is the episode's result.
        feedback: How boxes and masks are drawn for a stage with feedback.
        refine_from: "each": every rollout goes on from its own stage-1 answer, as soon as its mask is there.
            "best": every rollout of a group goes on from the group's best stage-1 answer, which waits for the group.
        told_items: How many items of an answer the next prompt repeats; it bounds that prompt whatever was answered.
    """

    name: str
    stages: tuple[Stage, ...]
    feedback: FeedbackStyle
    refine_from: str = "each"
    told_items: int = 8

    def __post_init__(self) -> None:
        """Check the whole.

        Raises:
            ValueError: No stage, feedback before anything was answered, or an unknown `refine_from`.
        """
        if not self.stages:
            raise invalid("recipe.stages", {}, "must hold at least one stage", "add a stage")
        first = self.stages[0]
        if first.feedback or first.prompt.uses("previous"):
            rule = "shows an earlier answer, but there is none before the first stage"
            fix = "set feedback: false and drop {{ previous }}"
            raise invalid(f"recipe.stages.{first.name}", "feedback", rule, fix)
        if self.refine_from not in REFINE_FROM:
            raise invalid("recipe.refine_from", self.refine_from, f"must be one of {', '.join(REFINE_FROM)}", "use one")
        if self.told_items < 1:
            raise invalid("recipe.told_items", self.told_items, "must be 1 or more", "raise it")

    @property
    def needs_map(self) -> bool:
        """Whether any stage shows the map."""
        return any("map" in stage.images for stage in self.stages)

    @classmethod
    def from_config(cls, config: Any) -> Recipe:
        """Build a recipe from a plain mapping, as `configs/recipe/*.yaml` holds it.

        Raises:
            ValueError: An unknown key, a missing one, or a value that breaks a rule, with the field's full path.
        """
        _known_keys("recipe", config, {field.name for field in fields(cls)}, required={"name", "stages"})
        stages = _mapping("recipe.stages", config["stages"])
        return cls(
            name=str(config["name"]),
            # `stage: null` on the command line switches a stage off
            stages=tuple(_stage(str(name), stage) for name, stage in stages.items() if stage is not None),
            feedback=_build(FeedbackStyle, "recipe.feedback", config.get("feedback") or {}),
            refine_from=str(config.get("refine_from", "each")),
            told_items=_of_kind("recipe.told_items", config.get("told_items", 8), int),
        )


def _stage(name: str, config: Any) -> Stage:
    where = f"recipe.stages.{name}"
    _known_keys(where, config, {field.name for field in fields(Stage)} - {"name"}, required={"images", "prompt"})
    return Stage(
        name=name,
        images=_of_kind(f"{where}.images", config["images"], tuple[str, ...]),
        feedback=_of_kind(f"{where}.feedback", config.get("feedback", False), bool),
        prompt=Template.load(_of_kind(f"{where}.prompt", config["prompt"], str)),
        grammar=_build(Grammar, f"{where}.grammar", config.get("grammar") or {}),
        segment_with=_of_kind(f"{where}.segment_with", config.get("segment_with", ["boxes"]), tuple[str, ...]),
        reward=_reward(f"{where}.reward", config.get("reward") or {}),
        points=_of_kind(f"{where}.points", config.get("points", 2), int),
    )


def _reward(where: str, config: Any) -> RewardSpec:
    _known_keys(where, config, {"gate", "terms"}, required={"terms"})
    terms = []
    for name, settings in _mapping(f"{where}.terms", config["terms"]).items():
        if settings is None:  # `term: null` on the command line switches a term off
            continue
        place = f"{where}.terms.{name}"
        _known_keys(place, settings, {"weight", "params"}, required=set())
        params = _mapping(f"{place}.params", settings.get("params") or {})
        weight = _of_kind(f"{place}.weight", settings.get("weight", 1.0), float)
        terms.append(TermSpec(term=str(name), weight=weight, params={str(key): params[key] for key in params}))
    return RewardSpec(terms=tuple(terms), gate=_of_kind(f"{where}.gate", config.get("gate") or [], tuple[str, ...]))


def _build(kind: type[Any], where: str, config: Any) -> Any:
    kinds = get_type_hints(kind)
    _known_keys(where, config, set(kinds), required=set())
    return kind(**{str(key): _of_kind(f"{where}.{key}", value, kinds[str(key)]) for key, value in config.items()})


def _of_kind(where: str, value: Any, kind: Any) -> Any:
    """The value if it is of an annotated type; a list becomes a tuple."""
    if get_origin(kind) is tuple:
        part = get_args(kind)[0]
        if isinstance(value, list | tuple):
            return tuple(_of_kind(where, entry, part) for entry in value)
        raise invalid(where, value, "must be a list", "write [first, second]")
    kinds = get_args(kind) or (kind,)
    # True is an int to Python; a whole number is a number.
    if type(value) in kinds or (type(value) is int and float in kinds):
        return value
    names = " or ".join("null" if each is NoneType else str(each.__name__) for each in kinds)
    raise invalid(where, value, f"must be {names}", "correct the value")


def _mapping(where: str, value: Any) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise invalid(where, value, "must be a mapping", "write one `name: ...` a line")
    return value


def _known_keys(where: str, config: Any, known: set[str], required: set[str]) -> None:
    keys = set(_mapping(where, config))
    if unknown := sorted(map(str, keys - known)):
        raise invalid(f"{where}.{unknown[0]}", None, "is not a known key", f"use {', '.join(sorted(known))}")
    if missing := sorted(required - keys):
        raise invalid(f"{where}.{missing[0]}", None, "is missing", "set it")
