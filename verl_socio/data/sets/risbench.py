"""RISBench: phrases about satellite images (CroBIM, arXiv 2410.08613).

`img_rgb/<file>`, `mask/<file>` whose values above 0 are the target, `output_phrase_<split>.txt` with `<file> <phrase>`
in a line.
"""

from __future__ import annotations

from verl_socio.data.sets.phrases import Phrases

FORMAT = Phrases(
    images="img_rgb",
    masks="mask",
    file_of=lambda name: name,
    layout="img_rgb/*, mask/* and output_phrase_<split>.txt",
).format()
