import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from verl_socio.embedded import sam2 as embedded
from verl_socio.provenance import segmenter_hash
from verl_socio.segment.config import SegmenterConfig
from verl_socio.segment.loader import load_predictor, write_random


def test_the_feature_sizes_follow_the_models_image_size() -> None:
    predictor = load_predictor(SegmenterConfig(device="cpu"))
    assert predictor._bb_feat_sizes == [(64, 64), (32, 32), (16, 16)]
    assert not predictor.model.training
    assert not any(parameter.requires_grad for parameter in predictor.model.parameters())


def test_what_the_trunk_adds_to_patches_is_computed_once_and_is_the_same() -> None:
    trunk = load_predictor(SegmenterConfig(device="cpu")).model.image_encoder.trunk
    kept = trunk._get_pos_embed((64, 64))
    assert torch.equal(kept, type(trunk)._get_pos_embed(trunk, (64, 64)))
    assert trunk._get_pos_embed((64, 64)) is kept
    assert trunk._get_pos_embed((32, 32)).shape[1:3] == (32, 32)


def test_a_torch_checkpoint_with_its_yaml_elsewhere(tmp_path: Path) -> None:
    checkpoint, model_yaml = tmp_path / "mine.pt", tmp_path / "models" / "small.yaml"
    model_yaml.parent.mkdir()
    model_yaml.write_text(embedded.CONFIG.read_text().replace("image_size: 256", "image_size: 128"))
    model = embedded.build(seed=4)
    torch.save({"model": model.state_dict()}, checkpoint)
    predictor = load_predictor(SegmenterConfig(weights=str(checkpoint), config=str(model_yaml), device="cpu"))
    assert predictor.model.image_size == 128
    assert predictor._bb_feat_sizes == [(32, 32), (16, 16), (8, 8)]
    for name, value in model.state_dict().items():
        assert torch.equal(predictor.model.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be safetensors, or a torch file holding 'model'"),
        (b"not a checkpoint at all", "must be safetensors, or a torch file holding 'model'"),
        ({"state": {}}, "must be safetensors, or a torch file holding 'model'"),
        ([1, 2], "must be safetensors, or a torch file holding 'model'"),
        ({"model": {"a": 1}}, "must hold tensors by name"),
        ({"model": {"a": torch.zeros(1)}}, "does not fit .*sam2.yaml: .* weights differ"),
    ],
)
def test_a_checkpoint_that_is_none_is_refused(tmp_path: Path, content: object, message: str) -> None:
    checkpoint = tmp_path / "mine.pt"
    if isinstance(content, bytes):
        checkpoint.write_bytes(content)
    else:
        torch.save(content, checkpoint)
    with pytest.raises(ValueError, match=f"^segmenter.weights = .*{message}"):
        load_predictor(SegmenterConfig(weights=str(checkpoint), config=str(embedded.CONFIG), device="cpu"))


def test_a_truncated_safetensors_file_is_refused(tmp_path: Path) -> None:
    checkpoint = embedded.save(embedded.build(), tmp_path)
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(ValueError, match="must be safetensors"):
        load_predictor(SegmenterConfig(weights=str(tmp_path), device="cpu"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: [", "must be the YAML of a SAM2 model"),
        ("other: 1", "must describe a SAM2Base, but describes a NoneType"),
        ("[1, 2]", "must be the YAML of a SAM2 model"),
        ("model: {_target_: nowhere.Model}", "must be the YAML of a SAM2 model"),
        ("model: {_target_: torch.nn.Identity}", "must describe a SAM2Base, but describes a Identity"),
        ("model: 3", "must describe a SAM2Base, but describes a int"),
        ("", "must describe a SAM2Base, but describes a NoneType"),
    ],
)
def test_a_yaml_that_is_no_sam2_is_refused(tmp_path: Path, text: str, message: str) -> None:
    embedded.save(embedded.build(), tmp_path)
    (tmp_path / "sam2.yaml").write_text(text)
    with pytest.raises(ValueError, match=f"^segmenter.config = .*{message}"):
        load_predictor(SegmenterConfig(weights=str(tmp_path), device="cpu"))


def test_without_the_shipped_weights_nothing_is_segmented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "WEIGHTS", tmp_path)
    told = (
        f"^embedded segmenter = '{tmp_path}/model.safetensors': is missing, .*Fix: install it again, or run .*sam2.py"
    )
    for ask in (load_predictor, segmenter_hash):
        with pytest.raises(ValueError, match=told):
            ask(SegmenterConfig(device="cpu"))


def test_random_weights_of_a_shape_are_weights_like_any_other(tmp_path: Path) -> None:
    checkpoint = write_random(str(embedded.CONFIG), tmp_path / "random", seed=6)
    model = load_predictor(SegmenterConfig(weights=str(checkpoint.parent), device="cpu")).model
    name = "image_encoder.trunk.patch_embed.proj.weight"
    expected = embedded.build(seed=6).state_dict()[name].to(torch.bfloat16).float()
    assert torch.equal(model.state_dict()[name], expected)
    with pytest.raises(ValueError, match=r"^segmenter.config = 'sam9'"):
        write_random("sam9", tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^segmenter.device = 'cuda': .* sees 0 CUDA devices"):
        load_predictor(SegmenterConfig(device="cuda"))


def test_importing_sam2_leaves_hydra_to_the_program() -> None:
    code = """
from verl_socio.segment.library import import_sam2
import_sam2()
from hydra import compose, initialize_config_module
with initialize_config_module("sam2", version_base=None):
    print(compose("configs/sam2/sam2_hiera_t").model.image_size)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "1024", done.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_published_model_comes_from_the_hub_cache(tmp_path: Path) -> None:
    """The published shape at 1024 px, with random weights laid out as the Hub's cache lays out a download."""
    snapshot = tmp_path / "hub" / "models--facebook--sam2-hiera-tiny" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    code = f"""
import torch
from pathlib import Path
from PIL import Image
from safetensors.torch import load_file
from verl_socio.answer import Prompt
from verl_socio.segment import SegmenterConfig
from verl_socio.segment.loader import load_predictor, write_random
from verl_socio.segment.sam2_model import Sam2Model

state = load_file(write_random("sam2_hiera_t", Path({str(tmp_path)!r})))
torch.save({{"model": state}}, {str(snapshot / "sam2_hiera_tiny.pt")!r})
predictor = load_predictor(SegmenterConfig(weights="facebook/sam2-hiera-tiny", device="cpu"))
for name, value in predictor.model.state_dict().items():
    assert torch.equal(value, state[name].to(value.dtype)), name
assert predictor.model.sam_mask_decoder.dynamic_multimask_via_stability
sam = Sam2Model(predictor)
features = sam.encode(Image.new("RGB", (300, 200), "green"))
masks, _ = sam.decode(features, [Prompt((10.0, 10.0, 90.0, 90.0)), Prompt((0.0, 0.0, 300.0, 200.0))])
print(tuple(features.image_embed.shape), masks.masks_nhw.shape)
try:
    load_predictor(SegmenterConfig(weights="facebook/sam2.1-hiera-large"))
except ValueError as error:
    print(error)
"""
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=280, check=False, env=environment
    )
    shapes, refusal = done.stdout.strip().split("\n", 1) if "\n" in done.stdout else (done.stdout, done.stderr)
    assert shapes == "(1, 256, 64, 64) (2, 200, 300)", done.stderr
    assert refusal.startswith("segmenter.weights = 'facebook/sam2.1-hiera-large': must be in the Hugging Face cache")
