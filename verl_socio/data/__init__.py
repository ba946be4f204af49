"""Samples of a satellite image, a map, a question and a target: reading, checking, writing, looking at them."""

from verl_socio.data.formats import Choice
from verl_socio.data.problem import Problem
from verl_socio.data.readers import format_of, load_samples, split_names
from verl_socio.data.sample import LEVELS, ImageRef, Sample
from verl_socio.data.truth import Truth
from verl_socio.data.validate import validate

__all__ = [
    "LEVELS", "Choice", "ImageRef", "Problem", "Sample", "Truth", "format_of", "load_samples", "split_names",
    "validate",
]  # fmt: skip
