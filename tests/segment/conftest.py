import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from verl_socio.data.sample import ImageRef


@pytest.fixture
def picture(tmp_path: Path) -> Callable[..., ImageRef]:
    """Writes a seeded picture of the given size and gives its reference."""

    def write(seed: int = 0, size_wh: tuple[int, int] = (96, 64)) -> ImageRef:
        path = tmp_path / f"{seed}_{size_wh[0]}x{size_wh[1]}.png"
        pixels = np.random.default_rng(seed).integers(0, 256, (size_wh[1], size_wh[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        return ImageRef(str(path))

    return write


@pytest.fixture(autouse=True)
def _random_weights_are_meant(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, logger="verl_socio.segment")
