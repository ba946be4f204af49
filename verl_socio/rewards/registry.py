"""Reward terms by name, and the weighted sum of them that a recipe asks for."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any, get_args

from verl_socio.errors import invalid
from verl_socio.rewards.outcome import Outcome

TermFunction = Callable[..., float]


@dataclass(frozen=True)
class Term:
    """A registered term: its name, its range and the pure function `f(outcome, **params) -> float`."""

    name: str
    low: float
    high: float
    function: TermFunction

    @property
    def parameters(self) -> dict[str, Any]:
        """Names and annotated types of the settings that a recipe may give."""
        parameters = inspect.signature(self.function, eval_str=True).parameters
        return {name: parameter.annotation for name, parameter in list(parameters.items())[1:]}


TERMS: dict[str, Term] = {}


def term(name: str, low: float, high: float) -> Callable[[TermFunction], TermFunction]:
    """Register a reward term under a name that recipes use.

    Args:
        name: Name in recipes and logs.
        low: Lowest value it can take.
        high: Highest value it can take; where the range depends on a parameter, with the default parameters.

    Returns:
        A decorator that leaves the function as it is.

    Raises:
        ValueError: If the name is taken.
    """

    def register(function: TermFunction) -> TermFunction:
        if name in TERMS:
            raise invalid("reward term", name, "is registered already", "choose another name")
        TERMS[name] = Term(name, low, high, function)
        return function

    return register


@dataclass(frozen=True)
class TermSpec:
    """One line of a recipe's reward.

    Attributes:
        term: Name of a registered term.
        weight: Factor of the term's value in the total.
        params: The term's settings.

    Raises:
        ValueError: If the term or a setting is unknown, a setting is of another type than the term's annotation says,
            a number is not finite, or the weight is negative.
    """

    term: str
    weight: float = 1.0
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check names here, before a model starts, rather than at the first reward."""
        if self.term not in TERMS:
            raise invalid("reward.term", self.term, f"must be one of {', '.join(sorted(TERMS))}", "correct the name")
        if isinstance(self.weight, bool) or not isinstance(self.weight, int | float) or not math.isfinite(self.weight):
            raise invalid(f"reward.{self.term}.weight", self.weight, "must be a finite number", "use 1.0")
        if self.weight < 0:
            fix = "write a term that is high for what you want, or null to switch this one off"
            raise invalid(f"reward.{self.term}.weight", self.weight, "must not be negative", fix)
        known = TERMS[self.term].parameters
        for key, value in self.params.items():
            if key not in known:
                rule = f"{self.term} takes " + (", ".join(known) if known else "no settings")
                raise invalid(f"reward.{self.term}.params", key, rule, "correct or remove it")
            if not _fits(value, known[key]):
                kind = getattr(known[key], "__name__", str(known[key]))
                raise invalid(f"reward.{self.term}.{key}", value, f"must be a finite {kind}", "correct the value")


def _fits(value: object, annotation: Any) -> bool:
    """Whether a value from a file is of a plain annotated type; other annotations are the term's own business."""
    kinds = get_args(annotation) or (annotation,)
    if not set(kinds) <= {bool, int, float, str, NoneType}:
        return True
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return type(value) in kinds or (type(value) is int and float in kinds)


@dataclass(frozen=True)
class RewardSpec:
    """A recipe's reward: a weighted sum of terms.

    Attributes:
        terms: The terms, each at most once.
        gate: Terms that must reach their highest value, or the total is 0 (the SocioReasoner paper's rule for format);
            empty for a plain sum (its code's rule).

    Raises:
        ValueError: If a term is listed twice, or the gate names one that is not listed.
    """

    terms: tuple[TermSpec, ...]
    gate: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a reward whose parts cannot be told apart or whose gate can never open."""
        names = [spec.term for spec in self.terms]
        if not names:
            raise invalid("reward.terms", names, "must list a term", f"choose from {', '.join(sorted(TERMS))}")
        for name in names:
            if names.count(name) > 1:
                raise invalid("reward.terms", name, "each term may be listed once", "give one line the summed weight")
        for name in self.gate:
            if name not in names:
                raise invalid("reward.gate", name, f"must be one of the listed terms {', '.join(names)}", "list it")


@dataclass(frozen=True)
class Reward:
    """A score: `total`, and the unweighted value of each term by name in `parts`."""

    total: float
    parts: dict[str, float]


def score(outcome: Outcome, spec: RewardSpec) -> Reward:
    """Score a stage.

    Args:
        outcome: What the stage led to.
        spec: The recipe's reward.

    Returns:
        Sum of weight times value, 0 if a gate term is below its highest value; and all parts, gated or not.

    Raises:
        ValueError: If the outcome lacks what a term needs, or a term leaves its registered range.
    """
    parts: dict[str, float] = {}
    for line in spec.terms:
        known = TERMS[line.term]
        value = float(known.function(outcome, **line.params))
        if not known.low <= value <= known.high:
            rule = f"must lie in {known.low:g}..{known.high:g}, the term's registered range"
            raise invalid(f"reward.{line.term}", value, rule, "correct the term or its range")
        parts[line.term] = value
    if any(parts[name] < TERMS[name].high for name in spec.gate):
        return Reward(0.0, parts)
    return Reward(math.fsum(line.weight * parts[line.term] for line in spec.terms), parts)
