import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from verl_socio.data import load_samples, validate
from verl_socio.data.write import check_new, new_folder, write_hub, write_parquet, write_raw_sample


def test_a_folder_appears_only_when_it_is_whole(tmp_path):
    with new_folder(tmp_path / "deep" / "out") as folder:
        (folder / "x").write_text("1")
        assert not (tmp_path / "deep" / "out").exists()
    assert (tmp_path / "deep" / "out" / "x").read_text() == "1"
    assert [child.name for child in (tmp_path / "deep").iterdir()] == ["out"]


def test_a_failure_leaves_nothing_behind(tmp_path):
    with pytest.raises(RuntimeError), new_folder(tmp_path / "out") as folder:
        (folder / "x").write_text("1")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_may_be_filled_and_a_full_one_not(tmp_path):
    (tmp_path / "out").mkdir()
    with new_folder(tmp_path / "out") as folder:
        (folder / "x").write_text("1")
    with pytest.raises(ValueError, match="must be new or empty"), new_folder(tmp_path / "out"):
        pass
    assert (tmp_path / "out" / "x").read_text() == "1"
    with pytest.raises(ValueError, match="must be new or empty"), new_folder(tmp_path / "out" / "x"):
        pass


@pytest.mark.parametrize("kind", ["here", "link", "under a folder that may not be written to"])
def test_an_empty_folder_that_cannot_be_replaced_is_filled(tmp_path, monkeypatch, kind):
    parent = tmp_path / "parent"
    empty = parent / "empty"
    empty.mkdir(parents=True)
    number, out = empty.stat().st_ino, empty
    if kind == "here":
        monkeypatch.chdir(empty)
        out = Path()
    elif kind == "link":
        out = tmp_path / "link"
        out.symlink_to(empty)
    else:
        parent.chmod(0o555)
    with new_folder(out) as folder:
        (folder / "x").write_text("1")
        (folder / "deep").mkdir()
        assert {child.name for child in empty.iterdir()} <= {folder.parent.name}, "nothing shows until it is whole"
    parent.chmod(0o755)
    assert sorted(child.name for child in empty.iterdir()) == ["deep", "x"]
    assert empty.stat().st_ino == number, "the folder itself stays"
    with pytest.raises(ValueError, match=r"must be new or empty, and holds (deep|x)\."):
        check_new(out)


def test_a_failure_leaves_an_empty_folder_empty_and_a_dead_link_is_refused(tmp_path):
    with pytest.raises(RuntimeError), new_folder(tmp_path) as folder:
        (folder / "x").write_text("1")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="must be new or empty"), new_folder(tmp_path / "link"):
        pass


def test_a_folder_is_open_to_whom_the_system_opens_new_ones(tmp_path):
    (tmp_path / "usual").mkdir()
    with new_folder(tmp_path / "out"):
        pass
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_raw_sample_reads_back(tmp_path):
    mask_hw = np.zeros((20, 30), dtype=bool)
    mask_hw[5:12, 6:20] = True
    picture = Image.new("RGB", (30, 20), (1, 2, 3))
    folder = tmp_path / "raw" / "val" / "a"
    write_raw_sample(folder, "Zoo “Ü” 动物园", "name", picture, picture, mask_hw)
    (one,) = load_samples(str(tmp_path / "raw"), "val")
    assert (one.question, one.level) == ("Zoo “Ü” 动物园", "name")
    assert (one.target_mask() == mask_hw).all()
    assert validate(str(tmp_path / "raw")) == []
    with pytest.raises(ValueError, match="must not exist yet"):
        write_raw_sample(folder, "Zoo", "name", picture, picture, mask_hw)


def test_a_raw_sample_of_mixed_sizes_or_unknown_level_is_refused(tmp_path):
    picture = Image.new("RGB", (30, 20))
    with pytest.raises(ValueError, match="must be the same"):
        write_raw_sample(tmp_path / "a", "Zoo", "name", picture, picture, np.zeros((30, 20), dtype=bool))
    with pytest.raises(ValueError, match="level"):
        write_raw_sample(tmp_path / "a", "Zoo", "town", picture, picture, np.zeros((20, 30), dtype=bool))
    assert not (tmp_path / "a").exists()


def test_a_table_is_never_overwritten_and_never_empty(figure_folder, tmp_path):
    samples = load_samples(str(figure_folder))
    write_parquet(samples, tmp_path / "t.parquet")
    with pytest.raises(ValueError, match="must not exist yet"):
        write_parquet(samples, tmp_path / "t.parquet")
    with pytest.raises(ValueError, match="at least one"):
        write_parquet([], tmp_path / "u.parquet")


def test_the_hubs_layout_loads_with_datasets_as_pictures(figure_folder, tmp_path):
    import datasets

    write_hub({"test": load_samples(str(figure_folder))}, tmp_path / "hub")
    table = datasets.load_dataset(str(tmp_path / "hub"), split="test", cache_dir=str(tmp_path / "cache"))
    assert table.column_names == ["id", "problem", "level", "map_image", "sat_image", "mask_label"]
    assert table[0]["sat_image"].size == (240, 240)
    original = json.loads((figure_folder / "test" / table[0]["id"] / "question.json").read_text())
    assert table[0]["problem"] == original["problem"]
