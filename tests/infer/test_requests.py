import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from verl_socio.infer.requests import gather


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for place in ("a", "maps"):
        (tmp_path / place).mkdir()
        for name in ("one.png", "two.JPG"):
            Image.new("RGB", (8, 6)).save(tmp_path / place / name)
    (tmp_path / "a" / "notes.txt").write_text("no image")
    return tmp_path


def test_one_image_with_its_map(folder: Path) -> None:
    (request,) = gather(str(folder / "a" / "one.png"), " School ", str(folder / "maps" / "one.png"))
    assert request.name == "one"
    assert request.sample.question == "School"
    assert request.sample.map.uri == str(folder / "maps" / "one.png")
    assert request.sample.target is None


def test_every_image_of_a_folder(folder: Path) -> None:
    requests = gather(str(folder / "a"), "School", str(folder / "maps"))
    assert [request.name for request in requests] == ["one", "two"]
    assert [Path(request.sample.map.uri).name for request in requests] == ["one.png", "two.JPG"]


def test_lines_of_a_file_say_their_own(folder: Path) -> None:
    lines = [
        {"image": "a/one.png", "text": "Zoo", "map": "maps/one.png"},
        {"image": "maps/one.png"},
    ]
    (folder / "list.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    first, second = gather(str(folder / "list.jsonl"), "School", None)
    assert [first.sample.question, second.sample.question] == ["Zoo", "School"]
    assert second.sample.map is None
    assert [first.name, second.name] == ["1_one", "2_one"], "neither writes over the other's files"


@pytest.mark.parametrize(
    ("image", "text", "map_image", "match"),
    [
        ("no.png", "School", None, r"^image = .*must be an existing image file"),
        ("a/one.png", None, None, r"^text = None: must say what is asked"),
        ("a/one.png", "  ", None, r"^text = '  ': must say what is asked"),
        ("a/one.png", "\ud800", None, r"half a surrogate pair"),
        ("a/one.png", "School", "no.png", r"^map = .*must be an existing image file"),
        ("a", "School", "maps/one.png", r"^map = .*must be a folder"),
        ("empty", "School", None, r"^image = .*must hold an image"),
        ("list.jsonl", "School", "maps", r"^map = .*belongs to each line"),
    ],
)
def test_what_cannot_be_asked(folder: Path, image: str, text: str | None, map_image: str | None, match: str) -> None:
    (folder / "empty").mkdir()
    (folder / "list.jsonl").write_text('{"image": "a/one.png"}')
    with pytest.raises(ValueError, match=match) as raised:
        gather(str(folder / image), text, None if map_image is None else str(folder / map_image))
    assert "Fix: " in str(raised.value)


@pytest.mark.parametrize(
    "line", ["{", "[]", "3", '{"text": "x"}', '{"image": 3}', '{"image": "a/one.png", "label": "x"}']
)
def test_a_line_that_cannot_be_read_is_named(folder: Path, line: str) -> None:
    (folder / "list.jsonl").write_text('{"image": "a/one.png"}\n' + line)
    with pytest.raises(ValueError, match=r"^line 2 of .*Fix: "):
        gather(str(folder / "list.jsonl"), "School", None)


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ('{"image": "a/one.png", "text": " "}', r"text = ' ': must say what is asked"),
        ('{"image": "a/no.png"}', r"image = .*no\.png': must be an existing image file"),
        ('{"image": "a/one.png", "map": "maps/no.png"}', r"map = .*no\.png': must be an existing image file"),
    ],
)
def test_a_line_that_asks_for_what_cannot_be_is_named(folder: Path, line: str, match: str) -> None:
    (folder / "list.jsonl").write_text('{"image": "a/one.png"}\n' + line)
    with pytest.raises(ValueError, match=rf"^line 2 of .*list\.jsonl, {match}.*Fix: "):
        gather(str(folder / "list.jsonl"), "School", None)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary())
def test_any_file_is_a_list_or_a_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "list.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=r"Fix: "):
        gather(str(tmp_path / "list.jsonl"), None, None)
