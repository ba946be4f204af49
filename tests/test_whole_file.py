import pytest

from verl_socio.whole_file import write_whole


def test_a_file_takes_the_place_of_the_one_before(tmp_path):
    for text in ("one", "zwei \u00fc"):
        write_whole(tmp_path / "f.json", text)
        assert (tmp_path / "f.json").read_text(encoding="utf-8") == text
    assert [path.name for path in tmp_path.iterdir()] == ["f.json"]


def test_what_cannot_be_written_leaves_the_one_before(tmp_path):
    write_whole(tmp_path / "f.json", "before")
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "f.json", "after \ud800")
    assert (tmp_path / "f.json").read_text() == "before"
