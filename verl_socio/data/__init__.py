"""Samples of a satellite image, a map, a question and a target: reading, checking, writing, looking at them."""

from verl_socio.data.problem import Problem
from verl_socio.data.readers import load_samples, split_names
from verl_socio.data.sample import LEVELS, ImageRef, Sample
from verl_socio.data.validate import validate

__all__ = ["LEVELS", "ImageRef", "Problem", "Sample", "load_samples", "split_names", "validate"]
