"""A small city from a seed: satellite images, maps, masks and questions like SocioSeg's, rendered from vectors.

The satellite shows where things end and not what they are: it is drawn from a layout and from surfaces that are dealt
out without regard to class. The map shows what places are and where they end only roughly, between their marks and
along the streets: it is drawn from the layout and from signs, an icon inside one part of the place, off its centre, and
a dot of the same colour in each other part. `readers` tells how far one picture alone can lead. Cells of one place are
no closer to each other than to those of another, so that a box around a place of several parts is ambiguous on the
satellite; only the dots tell which cells belong together.
"""

from verl_socio.city.generate import SPLITS, draw_sample, generate, split_sizes
from verl_socio.city.scene import Place, Question, Scene, scene

__all__ = ["SPLITS", "Place", "Question", "Scene", "draw_sample", "generate", "scene", "split_sizes"]
