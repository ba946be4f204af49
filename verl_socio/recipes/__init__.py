"""What tells one published method from another, as data: stages, prompts, answer grammars and rewards."""

from verl_socio.recipes.recipe import Recipe, Stage
from verl_socio.recipes.template import Template

__all__ = ["Recipe", "Stage", "Template"]
