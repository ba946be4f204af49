import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from verl_socio.data import load_samples
from verl_socio.evaluate.survey import survey


def look(folder, need_map=True):
    return survey(load_samples(str(folder), "test"), need_map=need_map, seen=lambda: None)


def test_the_hash_is_of_content_and_nothing_else(write_samples, tmp_path):
    folder = write_samples(["name", "class"])
    before = look(folder)
    assert before.target_share == pytest.approx(400 / (64 * 48))
    os.utime(folder / "test" / "sample_0" / "sat.png", (1, 1))
    assert look(folder) == before
    shutil.copytree(folder, tmp_path / "copy")
    assert look(tmp_path / "copy") == before


@pytest.mark.parametrize("changed", ["sat.png", "map.png", "mask.png", "question.json"])
def test_any_change_of_a_sample_changes_the_hash(write_samples, changed):
    folder = write_samples(["name", "class"])
    before = look(folder)
    path = folder / "test" / "sample_1" / changed
    if changed == "question.json":
        path.write_text(json.dumps({"problem": "Another", "level": "class"}))
    else:
        with Image.open(path) as image:
            pixels = np.array(image)
        pixels[0, 0] = 255 - pixels[0, 0]
        Image.fromarray(pixels).save(path)
    assert look(folder).sha256 != before.sha256


def test_every_fault_is_found_before_anything_starts(write_samples):
    folder = write_samples(["name"] * 6)
    place = folder / "test"
    (place / "sample_1" / "mask.png").write_bytes(b"no image")
    Image.new("L", (5, 5), 255).save(place / "sample_2" / "mask.png")
    (place / "sample_3" / "sat.png").write_bytes(b"")
    with pytest.raises(ValueError) as caught:
        look(folder)
    text = str(caught.value)
    assert "3 faults" in text and "data validate" in text
    assert all(f"\n  sample_{number}: " in text for number in (1, 2, 3))


def test_a_sample_without_a_map_is_one_only_where_the_recipe_shows_maps(write_samples):
    samples = load_samples(str(write_samples(["name"])), "test")
    without = [type(sample)(**{**vars(sample), "map": None}) for sample in samples]
    assert survey(without, need_map=False, seen=lambda: None).target_share > 0
    with pytest.raises(ValueError, match="sample_0: has no map"):
        survey(without, need_map=True, seen=lambda: None)


def test_two_samples_of_one_id_are_a_fault(write_samples):
    samples = load_samples(str(write_samples(["name"])), "test")
    with pytest.raises(ValueError, match="sample_0: 2 samples have this id"):
        survey(samples * 2, need_map=True, seen=lambda: None)


def test_a_set_without_any_target_is_an_error(write_samples):
    folder = write_samples(["name"])
    Image.new("L", (64, 48)).save(folder / "test" / "sample_0" / "mask.png")
    with pytest.raises(ValueError, match=r"a sample whose target is not empty.*Fix:"):
        look(folder)


@pytest.fixture
def bad_pictures(write_samples):
    """Of four samples the second has a satellite of 16 bits, the third one that is cut off, the last a small map."""
    folder = write_samples(["name"] * 4)
    place = folder / "test"
    Image.fromarray(np.full((48, 64), 40_000, dtype=np.uint16)).save(place / "sample_1" / "sat.png")
    with (place / "sample_2" / "sat.png").open("r+b") as file:
        file.truncate(200)
    Image.new("RGB", (5, 5)).save(place / "sample_3" / "map.png")
    return folder


def test_a_picture_that_the_model_could_not_be_shown_is_a_fault_of_the_data(bad_pictures):
    with pytest.raises(ValueError, match=r"3 faults") as caught:
        look(bad_pictures)
    assert all(f"\n  {told}" in str(caught.value) for told in ("sample_1: image", "sample_2: image", "sample_3: map"))


def test_a_map_that_no_stage_shows_is_none(bad_pictures):
    with pytest.raises(ValueError, match=r"2 faults"):
        look(bad_pictures, need_map=False)
