import hashlib
import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from verl_socio.city import SPLITS, draw_sample, generate, split_sizes
from verl_socio.data import load_samples, split_names, validate


def digests(folder) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    folder = tmp_path_factory.mktemp("city") / "city"
    assert generate(folder, samples=10, seed=3, workers=1) == split_sizes(10)
    return folder


def test_the_same_seed_gives_the_same_bytes_however_many_workers(city, tmp_path):
    generate(tmp_path / "again", samples=10, seed=3, workers=2)
    assert digests(tmp_path / "again") == digests(city)


def test_another_seed_gives_other_bytes(city, tmp_path):
    generate(tmp_path / "other", samples=3, seed=4, workers=1)
    same = [name for name, digest in digests(tmp_path / "other").items() if digests(city).get(name) == digest]
    assert not [name for name in same if name.endswith(".png")]


def test_a_sample_does_not_depend_on_how_many_there_are(city, tmp_path):
    generate(tmp_path / "fewer", samples=3, seed=3, workers=1)
    assert digests(tmp_path / "fewer").items() <= digests(city).items()


def test_the_city_is_in_socioseg_s_raw_layout_and_sound(city):
    assert split_names(str(city)) == sorted(SPLITS)
    assert validate(str(city)) == []
    sizes = split_sizes(10)
    for split in SPLITS:
        samples = load_samples(str(city), split)
        assert len(samples) == sizes[split]
        for sample in samples:
            drawn, question = draw_sample(split, int(sample.id.rsplit("_", 1)[1]), 3)
            assert (sample.question, sample.level) == (question.text, question.level)
            assert (sample.target_mask() == drawn.mask(question.places)).all()
            assert set(np.unique(Image.open(sample.target.uri))) == {0, 255}
    question = json.loads((city / "train" / "train_000000" / "question.json").read_text())
    assert set(question) == {"problem", "level"}


def test_the_other_map_style_is_the_test_set_again_but_for_the_map(city):
    for index in range(split_sizes(10)["test"]):
        test = city / "test" / f"test_{index:06d}"
        style = city / "map_style" / f"map_style_{index:06d}"
        for file in ("sat.png", "mask.png", "question.json"):
            assert (test / file).read_bytes() == (style / file).read_bytes()
        assert (test / "map.png").read_bytes() != (style / "map.png").read_bytes()


def test_shares_of_levels_instances_and_parts_are_as_in_socioseg():
    levels, several, parts, count = Counter(), 0, 0, 400
    for index in range(count):
        drawn, question = draw_sample("train", index, 0)
        levels[question.level] += 1
        several += len(question.places) > 1
        parts += any(len(drawn.places[place].plot.parts) > 1 for place in question.places)
        assert all(place.sign.place_class.trained for place in drawn.places)
    assert all(levels[level] > count / 4 for level in ("name", "class", "function"))
    assert 0.06 < several / count < 0.14
    assert 0.3 < parts / count < 0.55


def test_the_new_region_asks_by_class_and_often_for_one_never_trained_on():
    trained = Counter()
    for index in range(120):
        drawn, question = draw_sample("new_region", index, 0)
        assert question.level == "class" and drawn.region == "new"
        trained[drawn.places[question.places[0]].sign.place_class.trained] += 1
    assert min(trained.values()) > 30


def test_splits_share_no_scene():
    seen = {draw_sample(split, 0, 0)[0].satellite().tobytes() for split in SPLITS if split != "map_style"}
    assert len(seen) == 4


@pytest.mark.parametrize("samples", [-1, 0, 2])
def test_too_few_samples_are_an_error(tmp_path, samples):
    with pytest.raises(ValueError, match="samples"):
        generate(tmp_path / "out", samples)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "field"), [({"size_wh": (40, 140)}, "size_wh"), ({"seed": -1}, "seed"), ({"workers": 0}, "workers")]
)
def test_a_bad_argument_is_an_error_that_names_it(tmp_path, arguments, field):
    with pytest.raises(ValueError, match=field):
        generate(tmp_path / "out", 3, **arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("split", "index", "told"),
    [("tset", 0, "split = 'tset': must be one of train, "), ("test", -1, "index = -1: must be")],
)
def test_a_sample_that_there_is_not_is_an_error(split, index, told):
    with pytest.raises(ValueError, match=f"^{told}.*Fix: "):
        draw_sample(split, index, 0)


def test_a_folder_that_is_not_empty_is_left_as_it_is(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    with pytest.raises(ValueError, match="must be new or empty"):
        generate(tmp_path / "out", 3)
    assert [child.name for child in tmp_path.rglob("*")] == ["out", "mine.txt"]


def test_other_sizes_are_written(tmp_path):
    generate(tmp_path / "out", 3, size_wh=(84, 112), workers=1)
    assert load_samples(str(tmp_path / "out"), "val")[0].satellite.size_wh == (84, 112)
