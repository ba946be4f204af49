from pathlib import Path

import pytest

import verl_socio
from verl_socio.embedded.made_by import made_by

COUNTS = {
    "city/signs.py": True,
    "embedded/corpus.txt": True,
    "embedded/warm_start/train.py": True,
    "embedded/weights/sam2/model.safetensors": False,
    "report/make.py": False,
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in COUNTS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("as it was")
    monkeypatch.setattr(verl_socio, "__file__", str(tmp_path / "__init__.py"))
    return tmp_path


def test_settings_are_part_of_the_mark() -> None:
    assert made_by(1, "a") == made_by(1, "a") != made_by(2, "a")
    assert len(made_by()) == 8


@pytest.mark.parametrize(("name", "counts"), COUNTS.items())
def test_what_makes_weights_is_part_of_the_mark_and_nothing_else(package: Path, name: str, counts: bool) -> None:
    before = made_by()
    (package / name).write_text("and another line")
    assert (made_by() != before) == counts


def test_a_room_can_count_alone(package: Path) -> None:
    before = made_by(rooms=("city",))
    (package / "embedded" / "corpus.txt").write_text("and another line")
    assert made_by(rooms=("city",)) == before
    (package / "city" / "signs.py").write_text("and another line")
    assert made_by(rooms=("city",)) != before
