import json
import os
from pathlib import Path

import pytest
from PIL import Image

from verl_socio.infer.requests import Request, gather
from verl_socio.infer.router import QUESTION, Routed
from verl_socio.infer.writer import Writer
from verl_socio.train.settings import shipped_recipe


@pytest.fixture
def request_of_odd_name(tmp_path: Path) -> Request:
    """An image whose file's name is no UTF-8."""
    path = os.path.join(tmp_path, os.fsdecode(b"caf\xe9.png"))
    Image.new("RGB", (8, 6)).save(path)
    return gather(path, "School", None)[0]


def test_an_image_whose_name_is_no_utf8_keeps_its_answer(request_of_odd_name: Request, tmp_path: Path) -> None:
    writer = Writer(tmp_path / "out", shipped_recipe("one_stage"))
    writer.folder.mkdir()
    [file] = writer.write_words(request_of_odd_name, Routed(QUESTION, "rules"), "a school \ud83d")
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["image"] == request_of_odd_name.sample.satellite.uri
    assert found["answer"] == "a school \ud83d"
    assert [path for path in writer.folder.iterdir()] == [file]
