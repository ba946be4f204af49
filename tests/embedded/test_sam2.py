from pathlib import Path

import pytest
import torch

from verl_socio.embedded import sam2 as embedded
from verl_socio.segment.config import SegmenterConfig
from verl_socio.segment.loader import load_predictor


def test_it_is_sam2_in_its_own_classes() -> None:
    from sam2.modeling.backbones.hieradet import Hiera
    from sam2.modeling.sam2_base import SAM2Base

    model = embedded.build()
    assert isinstance(model, SAM2Base)
    assert isinstance(model.image_encoder.trunk, Hiera)
    assert sum(parameter.numel() for parameter in model.parameters()) == 1_761_944
    foreign = {
        type(module).__module__
        for module in model.modules()
        if not type(module).__module__.startswith(("sam2.", "torch.nn."))
    }
    assert foreign == {"verl_socio.embedded.sam2"}


def test_the_decoder_is_cut_down() -> None:
    attention = embedded.build().sam_mask_decoder.transformer.layers[0].cross_attn_token_to_image
    assert (attention.num_heads, attention.internal_dim, attention.embedding_dim) == (4, 96, 96)


def test_the_seed_decides_the_weights_and_nothing_else() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first, again, other = embedded.build(1), embedded.build(1), embedded.build(2)
    assert torch.equal(before, torch.random.get_rng_state())
    differ = {name for name, value in first.state_dict().items() if not torch.equal(value, again.state_dict()[name])}
    assert not differ
    name = "image_encoder.trunk.patch_embed.proj.weight"
    assert not torch.equal(first.state_dict()[name], other.state_dict()[name])


def test_one_state_fits_every_image_size() -> None:
    large = embedded.build(seed=1, image_size=384)
    large.load_state_dict(embedded.build(seed=0, image_size=128).state_dict())
    features = large.forward_image(torch.zeros(1, 3, 384, 384))["backbone_fpn"]
    assert [tuple(level.shape[-2:]) for level in features] == [(96, 96), (48, 48), (24, 24)]


@pytest.mark.parametrize("image_size", [0, -32, 100])
def test_sizes_that_do_not_tile_are_refused(image_size: int) -> None:
    with pytest.raises(ValueError, match=f"image_size = {image_size}: must be a positive multiple of 32"):
        embedded.build(image_size=image_size)


def test_training_reaches_every_part_that_segments() -> None:
    model = embedded.build(image_size=128)
    assert model.training
    backbone = model.forward_image(torch.rand(2, 3, 128, 128))
    _, levels, _, sizes = model._prepare_backbone_features(backbone)
    maps = [level.permute(1, 2, 0).reshape(2, -1, *size) for level, size in zip(levels, sizes, strict=True)]
    points = {
        "point_coords": torch.tensor([[[9.0, 9], [90, 90], [40, 40], [5, 5]]] * 2),
        "point_labels": torch.tensor([[2, 3, 1, 0]] * 2, dtype=torch.int32),
    }
    low_res, _, ious, *_ = model._forward_sam_heads(maps[-1], points, None, maps[:-1], multimask_output=True)
    single, _, *_ = model._forward_sam_heads(maps[-1], points, None, maps[:-1], multimask_output=False)
    (low_res.square().mean() + single.square().mean() + ious.mean()).backward()
    untouched = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    # The memory of earlier frames, and prompts that are masks: no single image with boxes and points needs them.
    assert {name for name in untouched if not name.startswith("sam_prompt_encoder.mask_downscaling.")} == {
        "maskmem_tpos_enc",
        "no_mem_embed",
        "no_mem_pos_enc",
    }


def test_a_saved_model_is_loaded_as_it_was(tmp_path: Path) -> None:
    model = embedded.build(seed=5)
    checkpoint = embedded.save(model, tmp_path / "new")
    assert checkpoint.stat().st_size < 3_700_000
    assert sorted(path.name for path in checkpoint.parent.iterdir()) == ["model.safetensors", "sam2.yaml"]
    loaded = load_predictor(SegmenterConfig(weights=str(checkpoint.parent), device="cpu")).model
    assert type(loaded) is embedded.TinySam2
    buffers = {name for name, _ in model.named_buffers()}
    for name, value in model.state_dict().items():
        there = loaded.state_dict()[name]
        assert there.dtype == torch.float32
        assert torch.equal(there, value if name in buffers else value.to(torch.bfloat16).float()), name


def test_saving_again_replaces_the_weights(tmp_path: Path) -> None:
    embedded.save(embedded.build(seed=1), tmp_path)
    first = (tmp_path / embedded.CHECKPOINT).read_bytes()
    embedded.save(embedded.build(seed=2), tmp_path)
    assert (tmp_path / embedded.CHECKPOINT).read_bytes() != first


def test_shipped_weights_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded.save(embedded.build(seed=9), tmp_path)
    monkeypatch.setattr(embedded, "WEIGHTS", tmp_path)
    model = load_predictor(SegmenterConfig(device="cpu")).model
    name = "image_encoder.trunk.patch_embed.proj.weight"
    expected = embedded.build(seed=9).state_dict()[name].to(torch.bfloat16).float()
    assert torch.equal(model.state_dict()[name], expected)
