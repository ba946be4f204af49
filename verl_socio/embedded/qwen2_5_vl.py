"""The embedded vision-language model: Qwen2.5-VL's own architecture at 1.3 million parameters."""

from pathlib import Path

import torch
from transformers import (
    GenerationConfig,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
)
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

from verl_socio.embedded.tokenizer import END_OF_TEXT, TURN_END, VOCAB_SIZE, train_tokenizer
from verl_socio.errors import invalid

PATCH_SIZE = 14
MERGE_SIZE = 2

# A token shows 28 x 28 pixels. Images of 4 to 100 tokens keep their own size; larger ones are reduced to 100 tokens.
_TOKEN_PIXELS = (PATCH_SIZE * MERGE_SIZE) ** 2
MIN_PIXELS = 4 * _TOKEN_PIXELS
MAX_PIXELS = 100 * _TOKEN_PIXELS

WEIGHTS = Path(__file__).with_name("weights") / "qwen2_5_vl"

_MAX_POSITIONS = 8192

# 1 / sqrt(hidden size): with Qwen's 0.02, made for thousands of channels, untrained blocks hardly change their input
# and the pictures hardly change the output.
_INITIALIZER_RANGE = 0.09


def shipped() -> Path:
    """The folder of the warm-started model that ships with the package.

    Raises:
        ValueError: Its weights or its configuration are not there.
    """
    for path in (WEIGHTS / "model.safetensors", WEIGHTS / "config.json"):
        if not path.is_file():
            fix = f"install it again, or run python3 training_scripts/train_embedded_vlm.py --out {WEIGHTS}"
            raise invalid("embedded model", str(path), "is missing, but ships with the package", fix)
    return WEIGHTS


def configuration(tokenizer: Qwen2Tokenizer) -> Qwen2_5_VLConfig:
    """The configuration of the embedded Qwen2.5-VL.

    Three vision blocks of width 96 with full attention, four text layers of width 128. `rope_theta` is 1e4: with Qwen's
    1e6 a head of 32 channels carries almost no signal of the width position.

    Args:
        tokenizer: The embedded tokenizer; the control tokens' ids are taken from it.

    Returns:
        A configuration whose model has about 1.30 million parameters (untied embeddings, vocabulary of 448).
    """
    ids = tokenizer.get_vocab()
    vision = {
        "depth": 3,
        "hidden_size": 96,
        "intermediate_size": 192,
        "num_heads": 3,
        "out_hidden_size": 128,
        "patch_size": PATCH_SIZE,
        "spatial_merge_size": MERGE_SIZE,
        "temporal_patch_size": 2,
        "tokens_per_second": 2,
        "window_size": 112,
        "fullatt_block_indexes": [0, 1, 2],
        "initializer_range": _INITIALIZER_RANGE,
    }
    text = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": _MAX_POSITIONS,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [8, 4, 4]},
        "initializer_range": _INITIALIZER_RANGE,
        "bos_token_id": ids[END_OF_TEXT],
        "eos_token_id": ids[TURN_END],
        "pad_token_id": ids[END_OF_TEXT],
    }
    return Qwen2_5_VLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=False,
        dtype="float32",
    )


def processor(tokenizer: Qwen2Tokenizer) -> Qwen2_5_VLProcessor:
    """The processor of the embedded model: Qwen2-VL's image processor with the tokenizer and its chat template.

    Args:
        tokenizer: The embedded tokenizer.

    Returns:
        A processor that turns an image of `w` x `h` pixels into about `w * h / 784` tokens, 4 to 100 of them
        (140 x 140: 25 tokens).
    """
    size = {"shortest_edge": MIN_PIXELS, "longest_edge": MAX_PIXELS}
    patches = {"patch_size": PATCH_SIZE, "merge_size": MERGE_SIZE, "temporal_patch_size": 2}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=dict(size), **patches),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(size=dict(size), **patches),
        chat_template=tokenizer.chat_template,
    )


def random_model(tokenizer: Qwen2Tokenizer, seed: int) -> Qwen2_5_VLForConditionalGeneration:
    """The embedded model with random weights, float32, with the tokenizer's tokens to begin and to end.

    Args:
        tokenizer: The embedded tokenizer.
        seed: Seed of the weights; the global generator is not moved.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(configuration(tokenizer))
    ids = tokenizer.get_vocab()
    model.generation_config = GenerationConfig(
        bos_token_id=ids[END_OF_TEXT], eos_token_id=[ids[TURN_END], ids[END_OF_TEXT]], pad_token_id=ids[END_OF_TEXT]
    )
    return model


def build(folder: Path, seed: int = 0) -> Path:
    """Write the embedded Qwen2.5-VL with random weights as a Hugging Face model folder.

    The folder holds `model.safetensors` (float32), the configurations of model, generation and processor, the tokenizer
    and the chat template; `AutoModelForImageTextToText`, `AutoProcessor` and vLLM load it. The same seed gives the same
    bytes.

    Args:
        folder: Where to write. It is made where it is missing; a model that is there already is not overwritten.
        seed: Seed of the random weights.

    Returns:
        The folder.

    Raises:
        ValueError: If the folder holds a model already.
    """
    folder = Path(folder)
    if (folder / "config.json").exists():
        raise invalid("folder", str(folder), "must not hold a model yet", "choose another folder or delete this one")
    tokenizer = train_tokenizer()
    model = random_model(tokenizer, seed)
    folder.mkdir(parents=True, exist_ok=True)
    processor(tokenizer).save_pretrained(folder)
    # Last, and the configuration is what the check above looks for: a build that was stopped can be repeated.
    model.save_pretrained(folder)
    return folder
