"""A prompt template: a text file with Jinja placeholders that a user can replace."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
from jinja2 import meta

from verl_socio.errors import invalid

PROMPTS = Path(__file__).resolve().parents[2] / "configs" / "prompts"

# question: what to find. pictures: what is shown, in order. previous: the answer of the stage before, as that stage's
# grammar writes it, in the model's coordinates. points: how many points an item shall have. width, height: the extent
# of the model's coordinates.
PLACEHOLDERS = frozenset({"question", "pictures", "previous", "points", "width", "height"})
_PICTURE_NAMES = {"map": "map", "satellite": "satellite image"}
# What expressions of a template can raise: an attribute of nothing, a division by zero, a word as a number.
UNFILLABLE = (jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
_ENVIRONMENT = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, autoescape=False)


@dataclass(frozen=True)
class Template:
    """The text of one stage's prompt.

    Attributes:
        source: The template, Jinja syntax.
        name: Where it came from, for messages.
    """

    source: str
    name: str = "prompt"
    _compiled: jinja2.Template = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the placeholders.

        Raises:
            ValueError: The template is no valid Jinja, lacks `{{ question }}`, or names something unknown.
        """
        try:
            used = meta.find_undeclared_variables(_ENVIRONMENT.parse(self.source))
            compiled = _ENVIRONMENT.from_string(self.source)
        except jinja2.TemplateSyntaxError as error:
            rule = f"must be a Jinja template ({error.message}, line {error.lineno})"
            raise invalid(self.name, self.source, rule, "correct the template's syntax") from error
        if "question" not in used:
            rule = "must contain {{ question }}, or every sample gets the same prompt"
            raise invalid(self.name, self.source, rule, "write {{ question }} where the concept belongs")
        if unknown := sorted(used - PLACEHOLDERS):
            rule = f"may only use the placeholders {', '.join(sorted(PLACEHOLDERS))}, not {', '.join(unknown)}"
            raise invalid(self.name, self.source, rule, "rename or remove the unknown placeholder")
        object.__setattr__(self, "_compiled", compiled)

    @classmethod
    def load(cls, path: str) -> Template:
        """Read a template.

        Args:
            path: A file; a relative path is looked up from the working directory, then in `configs/prompts`.

        Raises:
            ValueError: There is no such file, or it breaks a rule of `__post_init__`.
        """
        for candidate in (Path(path), PROMPTS / path):
            # os.path's test, unlike pathlib's, takes any text, such as a whole prompt, for a path that is not there.
            if os.path.isfile(candidate):
                try:
                    source = candidate.read_text(encoding="utf-8")
                except UnicodeDecodeError as error:
                    raise invalid("prompt", path, f"must be UTF-8 text ({error})", "save it as UTF-8") from error
                return cls(source.strip(), str(candidate))
        raise invalid("prompt", path, f"must be a file (also looked in {PROMPTS})", "correct the path of the template")

    def try_out(self, images: Sequence[str]) -> None:
        """Fill the template in once, before it matters.

        Args:
            images: What will be shown, in order: "map", "satellite".

        Raises:
            ValueError: An expression of the template fails, such as a second picture where one is shown.
        """
        try:
            self(question="School", images=images, previous="[]", points=2, size_wh=(100.0, 100.0))
        except UNFILLABLE as error:
            rule = f"must fill in without an error for {', '.join(images)} ({type(error).__name__}: {error})"
            raise invalid(self.name, self.source, rule, "write plain placeholders such as {{ question }}") from error

    def uses(self, placeholder: str) -> bool:
        """Whether the template names `placeholder`."""
        return placeholder in meta.find_undeclared_variables(_ENVIRONMENT.parse(self.source))

    def __call__(
        self, *, question: str, images: Sequence[str], previous: str, points: int, size_wh: tuple[float, float]
    ) -> str:
        """Fill the template in.

        Args:
            question: What is asked for.
            images: What is shown, in order: "map", "satellite".
            previous: The answer of the stage before as text; "" in the first stage.
            points: How many points an item shall have.
            size_wh: Extent of the model's coordinates.

        Returns:
            The prompt's text.
        """
        width, height = (f"{side:g}" for side in size_wh)
        pictures = [_PICTURE_NAMES[image] for image in images]
        return self._compiled.render(
            question=question, pictures=pictures, previous=previous, points=points, width=width, height=height
        )

    def __reduce__(self) -> tuple[type[Template], tuple[str, str]]:
        """Pickle the text only: a compiled template cannot travel to another process."""
        return Template, (self.source, self.name)
