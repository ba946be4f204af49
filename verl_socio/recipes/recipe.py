"""A recipe: how many stages an episode has and what happens in each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from verl_socio.answer import Grammar, Prompt, describe, parse
from verl_socio.errors import invalid
from verl_socio.recipes.template import Template
from verl_socio.render import FeedbackStyle
from verl_socio.rewards import RewardSpec, TermSpec, load_terms

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
        thin_iou: Of two boxes that overlap by more than this IoU only the larger one is sent to the segmenter
            (Think2Seg-RS: 0.5); None sends all. The answer itself, and what is rewarded of it, stays whole.
    """

    name: str
    images: tuple[str, ...]
    feedback: bool
    prompt: Template
    grammar: Grammar
    segment_with: tuple[str, ...]
    reward: RewardSpec
    points: int = 2
    thin_iou: float | None = None

    def __post_init__(self) -> None:
        """Check the stage.

        Raises:
            ValueError: An unknown image, none at all, nothing to send to the segmenter, a prompt that does not fit, or
                a grammar of which an answer cannot be read back.
        """
        where = f"recipe.stages.{self.name}"
        if not self.images or len(set(self.images)) != len(self.images) or not set(self.images) <= set(IMAGES):
            rule = f"must be one or both of {', '.join(IMAGES)}"
            raise invalid(f"{where}.images", self.images, rule, "list each once")
        if not self.segment_with or not set(self.segment_with) <= {"boxes", "points"}:
            rule = "must be boxes, points or both"
            raise invalid(f"{where}.segment_with", self.segment_with, rule, "name what the segmenter gets")
        has = {"boxes": self.grammar.box is not None, "points": self.grammar.has_points}
        if missing := [name for name in self.segment_with if not has[name]]:
            rule = f"must be in the answer, but the grammar has no key for {missing[0]}"
            raise invalid(f"{where}.segment_with", self.segment_with, rule, "add the key or send something else")
        if self.points < 1:
            raise invalid(f"{where}.points", self.points, "must be 1 or more", "raise it")
        if self.thin_iou is not None and not 0.0 <= self.thin_iou <= 1.0:
            raise invalid(f"{where}.thin_iou", self.thin_iou, "must lie in 0..1", "use 0.5, or null to send every box")
        _check_read_back(f"{where}.grammar", self.grammar, self.num_points)
        self.prompt.try_out(self.images)

    @property
    def num_points(self) -> int:
        """Points on the object that an item has which is written as asked."""
        return len(self.grammar.point_keys) + (self.points if self.grammar.points is not None else 0)

    def ask(self, *, question: str, previous: str, size_wh: tuple[float, float]) -> str:
        """The prompt's text; arguments as for `Template.__call__`, which is told what this stage shows."""
        return self.prompt(
            question=question, images=self.images, previous=previous, points=self.points, size_wh=size_wh
        )


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn in training; a configuration may say otherwise.

    Attributes:
        temperature: Above 0: without differences between its answers a group teaches nothing.
        top_p: Share of the probability that is drawn from, above 0 and at most 1.
        top_k: Tokens that are drawn from; -1 for all.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ValueError: A value is out of its range.
        """
        if not 0.0 < self.temperature < math.inf:
            raise invalid("recipe.sampling.temperature", self.temperature, "must be above 0", "use 1.0")
        if not 0.0 < self.top_p <= 1.0:
            raise invalid("recipe.sampling.top_p", self.top_p, "must be above 0 and at most 1", "use 1.0 for all")
        if self.top_k < 1 and self.top_k != -1:
            raise invalid("recipe.sampling.top_k", self.top_k, "must be 1 or more, or -1", "use -1 for all")


@dataclass(frozen=True)
class Recipe:
    """A method.

    Attributes:
        name: For logs and result files.
        stages: At least one; the mask of the last is the episode's result.
        feedback: How boxes and masks are drawn for a stage with feedback.
        refine_from: "each": every rollout goes on from its own stage-1 answer, as soon as its mask is there.
            "best": every rollout of a group goes on from the group's best stage-1 answer, which waits for the group.
        told_items: How many items of an answer the next prompt repeats, each with no more points than were asked for;
            it bounds that prompt whatever was answered.
        max_pixels: Pixels of a picture that the model is shown at most, width times height; larger ones are reduced,
            both sides alike. None: whatever the model's processor takes.
        no_target: Whether samples without any target belong to the method; else such a mask is a fault of the data.
        data: The data set that the method was published with, for a configuration that names none.
        frame: Coordinates the model speaks in: "model", the frame of its family, or "image", the image's own pixels.
        sampling: How answers are drawn in training.
        terms_file: A Python file with reward terms of one's own; None for the package's alone.
    """

    name: str
    stages: tuple[Stage, ...]
    feedback: FeedbackStyle
    refine_from: str = "each"
    told_items: int = 8
    max_pixels: int | None = None
    no_target: bool = False
    data: str | None = None
    frame: str = "model"
    sampling: Sampling = Sampling()
    terms_file: str | None = None

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
        if self.max_pixels is not None and self.max_pixels < 1:
            raise invalid("recipe.max_pixels", self.max_pixels, "must be 1 or more", "raise it, or null for no limit")
        if self.frame not in ("model", "image"):
            raise invalid("recipe.frame", self.frame, "must be model or image", "use model")

    def shown_wh(self, size_wh: tuple[int, int]) -> tuple[int, int]:
        """The width and height in pixels at which an image of `size_wh` is handed to the model's processor."""
        width, height = size_wh
        if self.max_pixels is None or width * height <= self.max_pixels:
            return size_wh
        scale = math.sqrt(self.max_pixels / (width * height))
        return max(1, round(width * scale)), max(1, round(height * scale))

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
        terms_file = _of_kind("recipe.terms_file", config.get("terms_file"), str | None)
        if terms_file is not None:  # before the stages, which name its terms
            load_terms(terms_file)
        stages = _mapping("recipe.stages", config["stages"])
        return cls(
            name=str(config["name"]),
            # `stage: null` on the command line switches a stage off
            stages=tuple(_stage(str(name), stage) for name, stage in stages.items() if stage is not None),
            feedback=_build(FeedbackStyle, "recipe.feedback", config.get("feedback") or {}),
            refine_from=str(config.get("refine_from", "each")),
            told_items=_of_kind("recipe.told_items", config.get("told_items", 8), int),
            max_pixels=_of_kind("recipe.max_pixels", config.get("max_pixels"), int | None),
            no_target=_of_kind("recipe.no_target", config.get("no_target", False), bool),
            data=_of_kind("recipe.data", config.get("data"), str | None),
            frame=_of_kind("recipe.frame", config.get("frame", "model"), str),
            sampling=_build(Sampling, "recipe.sampling", config.get("sampling") or {}),
            terms_file=terms_file,
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
        thin_iou=_of_kind(f"{where}.thin_iou", config.get("thin_iou"), float | None),
    )


def _check_read_back(where: str, grammar: Grammar, num_points: int) -> None:
    """Write an item as the grammar says and read it again: what fails here no model could get right."""
    labels = (1,) * num_points
    if grammar.negative_points is not None:
        labels += (0,)
    box = None if grammar.box is None else (1.0, 2.0, 30.0, 40.0)
    item = Prompt(box, tuple((float(10 + index), 20.0) for index in range(len(labels))), labels)
    try:
        answer = parse(f"<think></think><answer>{describe([item], grammar)}</answer>", grammar)
    except ValueError as error:
        rule = f"must be able to hold an item with {num_points} points ({error})"
        raise invalid(
            where, grammar, rule, "change the grammar's keys or bounds, or recipe.stages.NAME.points"
        ) from error
    if answer.prompts != (item,) or answer.item_exact != (True,):
        rule = f"must read back what is written by it, but says: {answer.reason or 'other numbers'}"
        raise invalid(where, grammar, rule, "use plain words such as bbox_2d as keys")


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
