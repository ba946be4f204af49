"""The embedded SAM2: the sam2 package's own architecture at 1.76 million parameters."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from safetensors.torch import save_file

from verl_socio.errors import invalid
from verl_socio.segment.library import import_sam2

import_sam2()

from sam2.modeling.sam.transformer import TwoWayTransformer  # noqa: E402
from sam2.modeling.sam2_base import SAM2Base  # noqa: E402

CONFIG = Path(__file__).with_name("sam2.yaml")
WEIGHTS = Path(__file__).with_name("weights") / "sam2"
CHECKPOINT = "model.safetensors"
IMAGE_SIZE = 256

# The trunk's windows of 8 lie on its first feature map, of stride 4, without a remainder.
_SIZE_STEP = 32


class TinySam2(SAM2Base):
    """SAM2 with a mask decoder whose transformer is cut to a small model.

    SAM2Base takes every other size from its configuration, but fixes 8 heads, an MLP of 2048 and attention at half
    width in the decoder: larger than the rest of this model together, slower, and worse at this width.
    """

    def __init__(self, *, decoder_heads: int, decoder_mlp: int, **sizes: object) -> None:
        """Build the model.

        Args:
            decoder_heads: Attention heads of the decoder's transformer; a divisor of the neck's `d_model`.
            decoder_mlp: Width of its MLP.
            **sizes: As for SAM2Base.
        """
        super().__init__(**sizes)
        self.sam_mask_decoder.transformer = TwoWayTransformer(
            depth=2,
            embedding_dim=self.sam_prompt_embed_dim,
            num_heads=decoder_heads,
            mlp_dim=decoder_mlp,
            attention_downsample_rate=1,
        )


def shipped() -> Path | None:
    """The trained weights that ship with the package, or None where there are none."""
    checkpoint = WEIGHTS / CHECKPOINT
    return checkpoint if checkpoint.is_file() else None


def build(seed: int = 0, image_size: int = IMAGE_SIZE) -> TinySam2:
    """Build the embedded SAM2 with random weights, in training mode.

    The parameters do not depend on `image_size`: a model can be trained at 128, 192 and 256 px in turn by loading one
    size's state into the next, and used at another size still.

    Args:
        seed: Seed of the weights; the same seed gives the same weights. The global generator is not moved.
        image_size: Side in pixels of the square that every image is resized to; a multiple of 32.

    Returns:
        A float32 model on the CPU of 1.76 million parameters.

    Raises:
        ValueError: The image size is not a positive multiple of 32.
    """
    if image_size < _SIZE_STEP or image_size % _SIZE_STEP:
        rule = f"must be a positive multiple of {_SIZE_STEP}"
        raise invalid("image_size", image_size, rule, f"use {IMAGE_SIZE}, or another multiple of {_SIZE_STEP}")
    config = OmegaConf.load(CONFIG)
    config.model.image_size = image_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = instantiate(config.model)
    assert isinstance(model, TinySam2)
    return model


def save(model: SAM2Base, folder: Path) -> Path:
    """Write a model as a folder that the segmenter takes as `weights`: `model.safetensors` and its `sam2.yaml`.

    Parameters are written as bfloat16, which halves the file and cost no IoU where it was measured; buffers (the
    frequencies of the prompts' position encoding) keep their type.

    Args:
        model: The embedded model; its image size does not matter.
        folder: Where to write; made where it is missing, files of an earlier call are replaced.

    Returns:
        The checkpoint's path.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
    for name, _ in model.named_parameters():
        state[name] = state[name].to(torch.bfloat16)
    # Into place in one step: a reader never sees half a file.
    partial = folder / f"{CHECKPOINT}.partial"
    save_file(state, partial)
    partial.replace(folder / CHECKPOINT)
    shutil.copyfile(CONFIG, folder / CONFIG.name)
    return folder / CHECKPOINT
