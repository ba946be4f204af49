"""RefSegRS: phrases about aerial tiles (LGCE, arXiv 2306.08625).

`images/<id>.tif`, `masks/<id>.tif` whose first channel is above 0 on the target, `output_phrase_<split>.txt` with
`<id> <phrase>` in a line.
"""

from __future__ import annotations

from verl_socio.data.sets.phrases import Phrases
from verl_socio.data.truth import Truth

FORMAT = Phrases(
    images="images",
    masks="masks",
    file_of=lambda name: f"{name}.tif",
    layout="images/*.tif, masks/*.tif and output_phrase_<split>.txt",
    truth=Truth(mask_channel=0),
    hub_id="JessicaYuan/RefSegRS",
).format()
