"""The embedded Qwen2.5-VL loads through transformers' own classes and sees its pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from verl_socio.embedded import qwen2_5_vl
from verl_socio.embedded.tokenizer import ANSWER_TOKENS, SPECIAL_TOKENS, VOCAB_SIZE

MESSAGES = [
    {
        "role": "user",
        "content": [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "Find the school."}],
    }
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return qwen2_5_vl.build(tmp_path_factory.mktemp("embedded") / "model", seed=3)


def noise(size_wh: tuple[int, int], seed: int) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 255, (size_wh[1], size_wh[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


@pytest.mark.parametrize(
    ("size_wh", "tokens"),
    [((140, 140), 25), ((240, 240), 81), ((20, 20), 4), ((1000, 1000), 100), ((280, 56), 20)],
)
def test_placeholders_equal_features_and_logits_are_finite(folder: Path, size_wh: tuple[int, int], tokens: int) -> None:
    processor = transformers.AutoProcessor.from_pretrained(folder)
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder).eval()
    text = processor.apply_chat_template(MESSAGES, add_generation_prompt=True, tokenize=False)
    batch = processor(text=[text], images=[noise(size_wh, 0), noise(size_wh, 1)], return_tensors="pt")
    placeholders = int((batch.input_ids == model.config.image_token_id).sum())
    with torch.no_grad():
        features = model.get_image_features(batch.pixel_values, batch.image_grid_thw).pooler_output
        logits = model(**batch).logits
    assert type(model).__name__ == "Qwen2_5_VLForConditionalGeneration"
    assert [len(image) for image in features] == [tokens, tokens]
    assert placeholders == 2 * tokens
    assert logits.shape == (1, batch.input_ids.shape[1], VOCAB_SIZE)
    assert torch.isfinite(logits).all()


def test_swapping_the_images_changes_the_log_probs(folder: Path) -> None:
    processor = transformers.AutoProcessor.from_pretrained(folder)
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder).eval()
    text = processor.apply_chat_template(MESSAGES, add_generation_prompt=True, tokenize=False)
    images = [noise((140, 140), 0), noise((140, 140), 1)]
    log_probs = []
    for order in (images, images[::-1], images):
        batch = processor(text=[text], images=order, return_tensors="pt")
        with torch.no_grad():
            log_probs.append(torch.log_softmax(model(**batch).logits[0, -1], -1))
    assert (log_probs[0] - log_probs[1]).abs().max() > 0.05
    torch.testing.assert_close(log_probs[0], log_probs[2], atol=1e-5, rtol=0)


def test_the_model_has_the_measured_size(folder: Path) -> None:
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder)
    assert 1.29e6 < sum(parameter.numel() for parameter in model.parameters()) < 1.31e6
    assert model.config.vision_config.fullatt_block_indexes == list(range(model.config.vision_config.depth))
    assert model.generation_config.eos_token_id[0] == transformers.AutoTokenizer.from_pretrained(folder).eos_token_id


def test_the_same_seed_writes_the_same_bytes_and_another_seed_other_weights(folder: Path, tmp_path: Path) -> None:
    state = torch.get_rng_state()
    again = qwen2_5_vl.build(tmp_path / "again", seed=3)
    other = qwen2_5_vl.build(tmp_path / "other", seed=4)
    assert torch.equal(state, torch.get_rng_state()), "a build must not move the caller's random state"
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(path.name for path in again.iterdir())
    assert all((folder / name).read_bytes() == (again / name).read_bytes() for name in names)
    assert (folder / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes()


def test_a_model_is_never_overwritten(folder: Path) -> None:
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match=r"folder = .*must not hold a model yet.*Fix:"):
        qwen2_5_vl.build(folder, seed=9)
    assert (folder / "model.safetensors").read_bytes() == before


def test_every_token_fits_the_embedding_and_is_what_its_name_says(folder: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    vocab = tokenizer.get_vocab()
    assert sorted(vocab.values()) == list(range(VOCAB_SIZE))
    assert config["text_config"]["vocab_size"] == VOCAB_SIZE
    assert config["image_token_id"] == vocab["<|image_pad|>"]
    assert config["video_token_id"] == vocab["<|video_pad|>"]
    for token in (*SPECIAL_TOKENS, *ANSWER_TOKENS):
        assert tokenizer.encode(token) == [vocab[token]]
    assert set(SPECIAL_TOKENS) == set(tokenizer.all_special_tokens)


@pytest.mark.parametrize("missing", ["model.safetensors", "config.json"])
def test_a_model_that_does_not_ship_whole_is_told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr(qwen2_5_vl, "WEIGHTS", tmp_path)
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    assert qwen2_5_vl.shipped() == tmp_path
    (tmp_path / missing).unlink()
    told = f"^embedded model = '{tmp_path}/{missing}': is missing, "
    with pytest.raises(ValueError, match=f"{told}.*Fix: install it again, or run .*vlm.py --out {tmp_path}"):
        qwen2_5_vl.shipped()
