from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from verl_socio.data.sample import ImageRef, Sample, label_array


def sample(folder: Path, **changes: object) -> Sample:
    values: dict[str, object] = {
        "id": "a",
        "question": "Zoo",
        "satellite": ImageRef(str(folder / "sat.png")),
        "map": ImageRef(str(folder / "map.png")),
        "target": ImageRef(str(folder / "mask.png")),
        "level": "class",
    }
    return Sample(**(values | changes))  # type: ignore[arg-type]


def test_a_real_picture_opens_as_rgb_and_its_mask_keeps_its_labels(figure_folder):
    folder = figure_folder / "test" / "fig_name_0"
    assert ImageRef(str(folder / "sat.png")).open().mode == "RGB"
    assert ImageRef(str(folder / "sat.png")).size_wh == (240, 240)
    assert set(np.unique(label_array(ImageRef(str(folder / "mask.png"))))) == {0, 255}
    mask_hw = sample(folder).target_mask()
    assert mask_hw.dtype == np.bool_ and mask_hw.shape == (240, 240)
    assert mask_hw.sum() == (np.asarray(Image.open(folder / "mask.png")) > 0).sum() > 0


def test_a_missing_image_names_the_path_and_the_fix(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.png.*Fix: restore"):
        ImageRef(str(tmp_path / "gone.png")).open()
    with pytest.raises(ValueError, match=r"gone\.png"):
        _ = ImageRef(str(tmp_path / "gone.png")).size_wh


def test_a_cut_off_image_is_an_error_and_not_a_picture(figure_folder, tmp_path):
    whole = (figure_folder / "test" / "fig_name_0" / "sat.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.png.*readable image.*Fix: replace"):
        ImageRef(str(tmp_path / "cut.png")).open()


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    Image.new("L", (300, 300)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    with pytest.raises(ValueError, match=r"bomb\.png.*decompression bomb"):
        ImageRef(str(tmp_path / "bomb.png")).open()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 80_000)
    with (
        pytest.warns(Image.DecompressionBombWarning),
        pytest.raises(ValueError, match="300x300 px is above the limit of 80000 px"),
    ):
        _ = ImageRef(str(tmp_path / "bomb.png")).size_wh


def test_transparent_parts_are_white_and_not_black(tmp_path):
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert np.asarray(ImageRef(str(tmp_path / "clear.png")).open()).min() == 255


def test_sixteen_bit_pictures_are_refused_and_sixteen_bit_masks_kept(tmp_path):
    Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match="convert the file to 8 bits"):
        ImageRef(str(tmp_path / "deep.png")).open()
    assert label_array(ImageRef(str(tmp_path / "deep.png"))).max() == 40_000


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA"])
def test_a_mask_of_any_mode_marks_the_same_pixels(tmp_path, mode):
    mask_hw = np.zeros((6, 8), dtype=bool)
    mask_hw[1:4, 2:7] = True
    image = Image.fromarray(mask_hw.astype(np.uint8) * 255)
    if mode == "P":
        image = Image.fromarray(mask_hw.astype(np.uint8))
        image.putpalette([0, 0, 0, 9, 9, 9])
    elif mode == "RGBA":
        image = Image.merge("RGBA", [Image.new("L", image.size), Image.new("L", image.size), image, image])
    else:
        image = image.convert(mode)
    image.save(tmp_path / "mask.png")
    assert (label_array(ImageRef(str(tmp_path / "mask.png"))) > 0).tolist() == mask_hw.tolist()


def test_a_mask_of_another_size_is_an_error(make_raw):
    folder = make_raw("x")
    Image.new("L", (10, 10), 255).save(folder / "mask.png")
    with pytest.raises(ValueError, match="64x48 px, but has 10x10 px"):
        sample(folder).target_mask()


def test_a_sample_without_a_target_says_so(make_raw):
    with pytest.raises(ValueError, match="target of a"):
        sample(make_raw("x"), target=None).target_mask()


@pytest.mark.parametrize("field", ["id", "question", "level"])
def test_text_fields_are_checked(make_raw, field):
    with pytest.raises(ValueError, match=field):
        sample(make_raw("x"), **{field: " "})


def test_half_a_surrogate_pair_in_a_question_is_an_error_that_names_the_sample(make_raw):
    with pytest.raises(ValueError, match=r"^question of a = 'a \\ud83d b': .*half a surrogate pair.*Fix:"):
        sample(make_raw("x"), question="a \ud83d b")


@given(
    id=st.text(min_size=1).filter(str.strip),
    question=st.text(min_size=1).filter(str.strip),
    map_uri=st.none() | st.text(min_size=1),
    level=st.sampled_from(["name", "class", "function"]),
)
def test_rows_give_the_sample_back(id, question, map_uri, level):
    map_image = None if map_uri is None else ImageRef(map_uri)
    one = Sample(id, question, ImageRef("/s.png"), map_image, None, level)
    row = one.to_row()
    assert all(value is None or isinstance(value, str) for value in row.values())
    assert Sample.from_row(row | {"another": "column"}) == one


def test_a_row_without_a_column_is_an_error():
    with pytest.raises(ValueError, match="column satellite"):
        Sample.from_row({"id": "a", "question": "b", "level": "name"})


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_damaged_file_gives_an_image_or_a_value_error_and_nothing_else(tmp_path, figure_folder, data):
    kind = data.draw(st.sampled_from(["png", "jpg", "gif", "tif", "bmp", "noise"]))
    file = tmp_path / f"damaged.{kind}"
    if kind == "noise":
        content = bytearray(data.draw(st.binary(max_size=300)))
    else:
        Image.new("RGB", (24, 16), (9, 80, 200)).save(tmp_path / f"whole.{kind}")
        content = bytearray((tmp_path / f"whole.{kind}").read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        content = content[: data.draw(st.integers(0, len(content)))]
    file.write_bytes(content)
    try:
        image = ImageRef(str(file)).open()
    except ValueError as error:
        assert str(file) in str(error) and "Fix:" in str(error)
    else:
        assert image.mode == "RGB"
