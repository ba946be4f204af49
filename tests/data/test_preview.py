import numpy as np
import pytest
from PIL import Image

from verl_socio.data import load_samples
from verl_socio.data.preview import preview, sample_tiles


def test_a_contact_sheet_shows_every_sample(figure_folder, tmp_path):
    assert preview(str(figure_folder), "test", tmp_path / "sheets" / "a.png") == 4
    assert preview(str(figure_folder), None, tmp_path / "b.png", samples=2) == 2
    large, small = (Image.open(tmp_path / name).size for name in ("sheets/a.png", "b.png"))
    assert large[0] == small[0] >= 6 * 240 and large[1] > 2 * 240 > small[1]


def test_the_outline_follows_the_target_and_leaves_the_rest(figure_folder):
    sample = load_samples(str(figure_folder))[0]
    (caption, outlined), (_, map_image), (_, satellite) = sample_tiles(sample)
    assert caption == "Express Delivery (class)"
    assert map_image.size == satellite.size == outlined.size
    changed_hw = (np.asarray(outlined) != np.asarray(satellite)).any(axis=-1)
    mask_hw = sample.target_mask()
    assert 0 < changed_hw.sum() < 0.2 * mask_hw.size
    assert not changed_hw[~mask_hw].all() and (changed_hw & mask_hw).any()


def test_bad_arguments_are_errors(figure_folder, tmp_path):
    (tmp_path / "there.png").write_text("x")
    for path, samples, message in (
        (tmp_path / "there.png", 4, "must not exist yet"),
        (tmp_path / "new.xyz", 4, "must end as a picture does"),
        (tmp_path / "new.psd", 4, "must end as a picture does"),
        (tmp_path / "new.png", 0, "samples"),
    ):
        with pytest.raises(ValueError, match=message):
            preview(str(figure_folder), "test", path, samples)
    assert (tmp_path / "there.png").read_text() == "x" and not (tmp_path / "new.png").exists()
