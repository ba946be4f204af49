import os
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl_socio.segment.config import SegmenterConfig
from verl_socio.segment.weights import PUBLISHED, locate


def test_the_published_models_are_those_of_sam2() -> None:
    from verl_socio.segment.library import import_sam2

    import_sam2()
    from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES

    assert {name: (yaml, file) for name, (file, yaml) in PUBLISHED.items()} == HF_MODEL_ID_TO_FILENAMES


@pytest.mark.parametrize("hub_id", sorted(PUBLISHED))
def test_every_published_model_has_its_yaml(hub_id: str) -> None:
    source = locate(SegmenterConfig(weights=hub_id))
    assert source is not None
    assert source.hub == (hub_id, PUBLISHED[hub_id][0])
    assert source.checkpoint is None
    assert str(source.model_yaml).endswith(PUBLISHED[hub_id][1])
    assert source.model_yaml.is_file()


@pytest.mark.parametrize("word", ["embedded", "boxes"])
def test_words_need_no_file(word: str) -> None:
    assert locate(SegmenterConfig(weights=word)) is None


def test_a_published_checkpoint_needs_no_yaml(tmp_path: Path) -> None:
    checkpoint = tmp_path / "sam2.1_hiera_small.pt"
    checkpoint.touch()
    (tmp_path / "model.safetensors").touch()  # the same weights for another library, as in the published repository
    for weights in (checkpoint, tmp_path):
        source = locate(SegmenterConfig(weights=str(weights)))
        assert source is not None
        assert (source.checkpoint, source.model_yaml.name) == (checkpoint, "sam2.1_hiera_s.yaml")


def test_the_yaml_beside_a_checkpoint_is_taken(tmp_path: Path) -> None:
    checkpoint, other = tmp_path / "mine.pt", tmp_path / "other.yaml"
    checkpoint.touch()
    other.touch()
    assert _yaml(checkpoint) == other
    same_stem = tmp_path / "mine.yaml"
    same_stem.touch()
    assert _yaml(checkpoint) == same_stem


@pytest.mark.parametrize("name", ["sam2_hiera_l", "sam2_hiera_l.yaml", "configs/sam2/sam2_hiera_l.yaml"])
def test_the_yaml_can_be_named(tmp_path: Path, name: str) -> None:
    checkpoint = tmp_path / "mine.pt"
    checkpoint.touch()
    assert _yaml(checkpoint, name).name == "sam2_hiera_l.yaml"


def test_the_yaml_can_be_a_file_anywhere(tmp_path: Path) -> None:
    checkpoint, elsewhere = tmp_path / "mine.pt", tmp_path / "models" / "mine.yml"
    checkpoint.touch()
    elsewhere.parent.mkdir()
    elsewhere.touch()
    assert _yaml(checkpoint, str(elsewhere)) == elsewhere


@pytest.mark.parametrize(
    ("files", "weights", "config", "message"),
    [
        ([], "", None, "segmenter.weights = .* there is none in it"),
        (["a.pt", "b.pt"], "", None, "several checkpoints: a.pt, b.pt"),
        ([], "gone.pt", None, "segmenter.weights = .*gone.pt.* an existing file or folder"),
        (["notes.txt"], "notes.txt", None, "ending in .pt, .pth, .safetensors"),
        (["a.pt"], "a.pt", None, "segmenter.config = None: is needed"),
        (["a.pt", "b.yaml", "c.yaml"], "a.pt", None, "of 2 YAML files beside it none is a.yaml"),
        (["a.pt"], "a.pt", "sam3", "segmenter.config = 'sam3': .*sam2.1_hiera_s"),
    ],
)
def test_what_is_missing_is_named(
    tmp_path: Path, files: list[str], weights: str, config: str | None, message: str
) -> None:
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=message):
        locate(SegmenterConfig(weights=str(tmp_path / weights), config=config))


@pytest.mark.parametrize("weights", ["embedded", "boxes", "facebook/sam2-hiera-tiny"])
def test_a_yaml_that_would_not_be_used_is_refused(weights: str) -> None:
    with pytest.raises(ValueError, match=r"^segmenter.config = 'x.yaml': is used with local weights only"):
        locate(SegmenterConfig(weights=weights, config="x.yaml"))


def test_a_misspelt_hub_id_lists_the_right_ones() -> None:
    with pytest.raises(ValueError, match=r"facebook/sam2\.1-hiera-base-plus"):
        locate(SegmenterConfig(weights="facebook/sam2-hiera-huge"))


@given(st.text(alphabet=string.printable + "é漢\0", min_size=1, max_size=300))
def test_any_text_is_located_or_refused(text: str) -> None:
    try:
        found = locate(SegmenterConfig(weights=text))
    except ValueError as error:
        assert "segmenter." in str(error)
    else:
        assert found is None or text in PUBLISHED or os.path.exists(os.path.expanduser(text))


@pytest.mark.parametrize("text", ["~nobody-of-this-name", "x" * 5000, "a\0b", "/root/x" * 400])
def test_odd_paths_are_paths_that_are_not_there(text: str) -> None:
    with pytest.raises(ValueError, match=r"^segmenter.weights = "):
        locate(SegmenterConfig(weights=text))


def _yaml(checkpoint: Path, config: str | None = None) -> Path:
    source = locate(SegmenterConfig(weights=str(checkpoint), config=config))
    assert source is not None
    assert source.checkpoint == checkpoint
    return source.model_yaml
