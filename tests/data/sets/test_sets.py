"""What holds for every published set."""

import shutil

import numpy as np
import pytest
from PIL import Image

from verl_socio.data import Sample, format_of, load_samples, split_names, validate
from verl_socio.data.preview import preview
from verl_socio.data.sets import FORMATS
from verl_socio.data.sets.earthreason import HUB_ID

IDS = {
    "earthreason": ["1000", "1001", "1002"],
    "rrsisd": ["100", "101", "102"],
    "refsegrs": ["7", "8"],
    "risbench": ["P0.png", "P1.png"],
    "referring": ["000000-40-70", "000001-41-71"],
    "detection": ["000000-40-70", "000001-41-71"],
    "counting": ["000000-40-70", "000001-41-71"],
}
WITH_MASKS = [name for name in FORMATS if name not in ("detection", "counting")]


def test_every_format_is_looked_at():
    assert IDS.keys() == FORMATS.keys()


@pytest.mark.parametrize("name", FORMATS)
def test_a_set_is_recognised_by_what_is_there_and_its_rows_hold_references_only(name, published_set):
    folder = str(published_set(name))
    assert format_of(folder) == name
    assert "test" in split_names(folder)
    samples = load_samples(folder, "test")
    assert samples == load_samples(folder, "test", data_format=name)
    assert [sample.id for sample in samples] == IDS[name]
    for sample in samples:
        assert sample.map is None and sample.level is None
        assert sample.satellite.open().size == (64, 48)
        assert Sample.from_row(sample.to_row()) == sample
    assert validate(folder, "test") == []
    assert len(validate(folder, "test", need_map=True)) == len(samples)


@pytest.mark.parametrize("name", WITH_MASKS)
def test_masks_are_the_pixels_that_were_drawn(name, published_set, rectangle_of):
    for number, sample in enumerate(load_samples(str(published_set(name)), "test")):
        left, top, right, bottom = rectangle_of(number)
        expected_hw = np.zeros((48, 64), dtype=bool)
        if not sample.truth.may_be_empty or name == "referring":
            expected_hw[top:bottom, left:right] = True
        target_hw, ignored_hw = sample.target_and_ignored()
        assert np.array_equal(target_hw, expected_hw)
        assert ignored_hw is None or not ignored_hw.any()


@pytest.mark.parametrize(
    ("name", "gone", "told"),
    [
        ("earthreason", "test/QAs", r"must hold QAs.*found there: images, labels"),
        ("earthreason", "test/QAs/1001.json", r"sample 1001 .*1001\.json.*must exist"),
        ("earthreason", "test/labels/1001.png", r"sample 1001 .*labels/1001\.png.*must exist"),
        ("earthreason", "test/images/1001.jpg", r"sample 1001 .*images/1001\.jpg.*must exist"),
        ("rrsisd", "rrsisd/refs(unc).p", r"must hold rrsisd/refs\(unc\)\.p; found there: images, rrsisd"),
        ("rrsisd", "rrsisd/instances.json", r"must hold rrsisd/instances\.json"),
        ("rrsisd", "images", r"must hold images/rrsisd/JPEGImages; found there: rrsisd"),
        ("rrsisd", "images/rrsisd/JPEGImages/00002.jpg", r"sample 101 .*00002\.jpg.*must exist"),
        ("refsegrs", "masks", r"must hold masks"),
        ("refsegrs", "masks/8.tif", r"sample 8 .*masks/8\.tif.*must exist"),
        ("refsegrs", "output_phrase_test.txt", r"split = 'test'.*found there: train"),
        ("risbench", "img_rgb", r"must hold img_rgb"),
        ("risbench", "img_rgb/P1.png", r"sample P1\.png .*img_rgb/P1\.png.*must exist"),
    ],
)
def test_what_is_missing_is_named(name, gone, told, published_set):
    folder = published_set(name)
    path = folder / gone
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    with pytest.raises(ValueError, match=told + r".*Fix:"):
        load_samples(str(folder), "test")


@pytest.mark.parametrize("name", FORMATS)
def test_a_folder_that_is_no_such_set_is_told_what_one_looks_like(name, tmp_path):
    (tmp_path / "set.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"Fix:") as caught:
        load_samples(str(tmp_path), "test", data_format=name)
    assert "set.zip" in str(caught.value) or "path that exists" in str(caught.value)


@pytest.mark.parametrize("name", ["image", "text", "image_id", "ann_id", "img_height", "img_width", "mask"])
def test_a_column_that_is_missing_is_named(name, published_set):
    import pyarrow.parquet as pq

    folder = published_set("referring")
    [file] = (folder / "data").iterdir()
    pq.write_table(pq.read_table(file).drop_columns([name]), file)
    with pytest.raises(ValueError, match=rf"must have the columns {name} too; it has .*Fix:"):
        load_samples(str(folder), "test", data_format="referring")


@pytest.mark.parametrize("name", ["referring", "detection", "counting"])
def test_a_single_file_will_do_and_a_broken_one_is_told(name, published_set):
    [file] = (published_set(name) / "data").iterdir()
    assert format_of(str(file)) == name
    samples = load_samples(str(file))
    assert [sample.id for sample in samples] == IDS[name]
    assert samples[1].satellite.open().size == (64, 48)
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"must be a readable parquet file.*Fix:"):
        load_samples(str(file))


def test_a_set_of_the_hub_is_downloaded_once_and_read_as_its_folder(published_set, monkeypatch):
    folder = published_set("earthreason")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, repo_type: {HUB_ID: str(folder)}[name])
    assert format_of(HUB_ID) == "earthreason"
    assert load_samples(HUB_ID, "test") == load_samples(str(folder), "test")


def test_a_set_that_the_hub_does_not_give_is_an_error(monkeypatch):
    def refuse(name, repo_type):
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    for name, data_format in ((HUB_ID, "auto"), ("some/set", "rrsisd"), ("JessicaYuan/RefSegRS", "auto")):
        with pytest.raises(ValueError, match=rf"data = '{name}': .*no network.*Fix:"):
            load_samples(name, "test", data_format)


def test_a_sheet_of_a_set_can_be_looked_at(published_set, tmp_path):
    for name in FORMATS:
        assert preview(str(published_set(name)), "test", tmp_path / f"{name}.png", samples=2) == 2


def test_an_unknown_format_lists_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=r"data_format = 'earth': must be auto or one of earthreason, .*raw"):
        load_samples(str(tmp_path), "test", data_format="earth")


def test_a_decompression_bomb_is_refused(published_set, monkeypatch):
    samples = load_samples(str(published_set("rrsisd")), "test")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"00001\.jpg.*decompression bomb"):
        samples[0].satellite.open()
    with pytest.raises(ValueError, match=r"64x48 px is above the limit of 1000 px"):
        samples[0].target.open(mode=None)
