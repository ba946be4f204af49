import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from verl_socio.evaluate.pictures import Pictures, file_name, picture, save_strip


@given(st.integers(0, 10**6), st.text())
def test_any_id_gives_a_plain_file_name(index, name):
    made = file_name(index, name)
    assert Path(made).name == made and made.isascii() and len(made) < 120
    assert made.startswith(f"{index:05d}_") and made.endswith(".jpg")


@given(st.integers(1, 300), st.integers(0, 300))
def test_as_many_as_wanted_are_chosen_spread_over_the_set(samples, wanted):
    chosen = Pictures(Path("unused"), samples, min(samples, wanted))._chosen
    assert len(chosen) == min(samples, wanted)
    assert all(0 <= index < samples for index in chosen)


@pytest.mark.parametrize("boxes", [[[10, 20, 50, 60]], []])
def test_a_picture_shows_inputs_feedback_masks_and_target(
    samples, evaluate, recipe, monkeypatch, boxes, scripted, answer
):
    seen = []
    monkeypatch.setattr(Pictures, "draw", lambda self, *arguments: seen.append(arguments))
    evaluate(samples[:1], scripted(lambda turn: answer(boxes, points=True)))
    [(_, episode, target_hw, row, _)] = seen
    image = picture(episode, target_hw, row, recipe)
    pixels = np.asarray(image).astype(int)
    # Two inputs, coarse, two rendered, final, target: seven tiles in rows of four.
    assert image.width >= 4 * 64 and image.height >= 2 * 48
    # Inside the target's rim.
    left, top, right, bottom = 6, 11, 24, 29
    satellite = np.asarray(episode.scene.images["satellite"]).astype(int)
    red = np.rint(0.6 * satellite[top:bottom, left:right] + 0.4 * np.array((255, 0, 0))).astype(int)
    found = [
        (y, x)
        for y in range(image.height - red.shape[0] + 1)
        for x in range(image.width - red.shape[1] + 1)
        if (pixels[y, x] == red[0, 0]).all() and (pixels[y : y + red.shape[0], x : x + red.shape[1]] == red).all()
    ]
    assert len(found) >= 1, "the target is drawn as the mask it is"


def test_a_strip_holds_every_tile_and_says_which(tmp_path):
    tiles = [(name, Image.new("RGB", (400, 200), colour)) for name, colour in (("map", "red"), ("target: 0.5", "blue"))]
    save_strip(tiles, 100, tmp_path / "strip.jpg")
    with Image.open(tmp_path / "strip.jpg") as strip:
        assert json.loads(strip.info["comment"]) == ["map", "target: 0.5"]
        assert strip.size == (200, 50)
        left, right = (strip.convert("RGB").getpixel((x, 25)) for x in (50, 150))
    assert left[0] > 240 > 15 > left[2] and right[2] > 240 > 15 > right[0]
    save_strip(tiles, 4000, tmp_path / "strip.jpg")
    with Image.open(tmp_path / "strip.jpg") as strip:
        assert strip.size == (800, 200), "nothing is enlarged"


def test_every_sample_gets_a_strip_of_what_the_picture_shows(samples, evaluate, tmp_path, scripted, answer):
    evaluate(samples, scripted(lambda turn: answer([[10, 20, 50, 60]])), strip_px=16)
    files = sorted((tmp_path / "pictures" / "small").iterdir())
    assert [path.name for path in files] == [file_name(index, sample.id) for index, sample in enumerate(samples)]
    with Image.open(files[0]) as strip:
        names = json.loads(strip.info["comment"])
        assert strip.size == (16 * len(names), 12)
    shown = ["shown to refine"] * 2
    assert names == ["map", "satellite", "localise: IoU 1.00", *shown, "refine: IoU 1.00", "target"]
