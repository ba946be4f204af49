import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def cache_of_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the Arrow copies that `datasets` makes out of the user's cache."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "arrow")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "arrow"))


@pytest.fixture(scope="session")
def figure_folder() -> Path:
    """The four real samples in SocioSeg's raw layout, 240 px."""
    return Path(__file__).parents[1] / "fixtures" / "socioseg_figure"


@pytest.fixture
def make_raw(tmp_path: Path) -> Callable[..., Path]:
    """Write a small raw sample and give its folder; `tmp_path / "raw"` is the data set."""

    def make(name: str, split: str = "train", size_wh: tuple[int, int] = (64, 48)) -> Path:
        folder = tmp_path / "raw" / split / name
        folder.mkdir(parents=True)
        width, height = size_wh
        rng = np.random.default_rng(len(name))
        for file in ("sat.png", "map.png"):
            Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(folder / file)
        mask_hw = np.zeros((height, width), dtype=np.uint8)
        mask_hw[10:30, 5:25] = 255
        Image.fromarray(mask_hw).save(folder / "mask.png")
        (folder / "question.json").write_text(json.dumps({"problem": "Zoo"}))
        return folder

    return make
