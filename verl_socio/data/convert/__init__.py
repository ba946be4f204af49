"""From others' annotations to training tables: a picture, a question, a mask, and a box and points for each object."""

from verl_socio.data.convert.table import STYLES, convert

__all__ = ["STYLES", "convert"]
