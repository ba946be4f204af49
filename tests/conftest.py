"""What several rooms' tests share: the embedded model, and a small data set in SocioSeg's raw layout."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded Qwen2.5-VL with random weights, as a Hugging Face folder; not to be written to."""
    from verl_socio.embedded.qwen2_5_vl import build

    return build(tmp_path_factory.mktemp("models") / "qwen2_5_vl")


@pytest.fixture(scope="session")
def tiny_chat(tiny_model: Path):
    from verl_socio.chat import ChatModel

    return ChatModel.load(tiny_model)


@pytest.fixture(scope="session")
def write_sample() -> Callable[..., Path]:
    """Writes one sample `<root>/<split>/<name>/` of noise with one rectangle a target, and gives its folder."""

    def write(
        root: Path,
        name: str,
        split: str = "train",
        size_wh: tuple[int, int] = (64, 48),
        boxes_xyxy: tuple[tuple[int, int, int, int], ...] = ((5, 10, 25, 30),),
        question: str = "Zoo",
    ) -> Path:
        folder = root / split / name
        folder.mkdir(parents=True)
        width, height = size_wh
        rng = np.random.default_rng([*name.encode(), *size_wh])
        for file in ("sat.png", "map.png"):
            Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(folder / file)
        mask_hw = np.zeros((height, width), dtype=np.uint8)
        for left, top, right, bottom in boxes_xyxy:
            mask_hw[top:bottom, left:right] = 255
        Image.fromarray(mask_hw).save(folder / "mask.png")
        (folder / "question.json").write_text(json.dumps({"problem": question}), encoding="utf-8")
        return folder

    return write


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory, write_sample: Callable[..., Path]) -> Path:
    """Eight training, two validation and two test samples of 64 x 48 px; not to be written to."""
    root = tmp_path_factory.mktemp("data") / "raw"
    for split, count in (("train", 8), ("val", 2), ("test", 2)):
        for index in range(count):
            write_sample(root, f"{split}_{index}", split)
    return root
