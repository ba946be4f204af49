"""The model's two halves as training calls them: batched over images, with all four masks of each prompt."""

from __future__ import annotations

import torch

from verl_socio.embedded.sam2 import TinySam2

Levels = list[torch.Tensor]


def encode(model: TinySam2, images: torch.Tensor) -> Levels:
    """The features of images, as SAM2ImagePredictor prepares them.

    Args:
        model: The model, of the images' size.
        images: Normalised, float32 (B, 3, S, S).

    Returns:
        Three levels of strides 4, 8 and 16: (B, C, h, w) each.
    """
    fine, middle, coarse = model.forward_image(images)["backbone_fpn"]
    return [fine, middle, coarse + model.no_mem_embed.reshape(1, -1, 1, 1)]


def decode(
    model: TinySam2, levels: Levels, coords_xy: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The masks of prompts.

    Args:
        model: The model.
        levels: Features of B images.
        coords_xy: float32 (B * M, P, 2), in parts of the image's sides, in the order of the images.
        labels: SAM's labels, float32 (B * M, P).

    Returns:
        Logits float32 (B * M, 4, S / 4, S / 4), the single mask first, and predicted IoUs (B * M, 4).
    """
    repeats = len(coords_xy) // len(levels[0])
    fine, middle, coarse = (level.repeat_interleave(repeats, 0) for level in levels)
    # A box is two points, as in verl_socio.segment, and every prompt ends in one "no point".
    sparse, dense = model.sam_prompt_encoder(points=(coords_xy * model.image_size, labels), boxes=None, masks=None)
    logits, scores, _, _ = model.sam_mask_decoder.predict_masks(
        image_embeddings=coarse,
        image_pe=model.sam_prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        repeat_image=False,
        high_res_features=[fine, middle],
    )
    return logits, scores
