"""The model's own layers, run on many images of one size and on rows with shared beginnings at once."""

from __future__ import annotations

import torch
from torch.nn import functional
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    apply_multimodal_rotary_pos_emb,
    apply_rotary_pos_emb_vision,
)
from transformers.vision_utils import get_vision_position_ids

from verl_socio.embedded.qwen2_5_vl import MERGE_SIZE, PATCH_SIZE
from verl_socio.embedded.warm_start.batch import Batch


class Runner:
    """Computes the same as the model's `forward`, for a batch whose images have one size.

    transformers runs the vision blocks image by image and its patch embedding as a 3-D convolution over a picture that
    is there twice; together that took most of a training step.

    Args:
        model: The model; its weights are used as they are.
        image_mean: Mean of the image processor.
        image_std: Standard deviation of the image processor.
        image_token: Id of the images' placeholder.
    """

    def __init__(
        self,
        model: Qwen2_5_VLForConditionalGeneration,
        image_mean: list[float],
        image_std: list[float],
        image_token: int,
    ) -> None:
        self.model = model
        self._mean = torch.tensor(image_mean)
        self._std = torch.tensor(image_std)
        self._image_token = image_token

    def see(self, images: torch.Tensor) -> torch.Tensor:
        """Visual tokens (images, tokens, text width) of uint8 images (images, H, W, 3)."""
        visual = self.model.model.visual
        count, height, width, _ = images.shape
        rows, columns = height // PATCH_SIZE, width // PATCH_SIZE
        pixels = (images.float() / 255.0 - self._mean) / self._std
        cut = pixels.view(
            count, rows // MERGE_SIZE, MERGE_SIZE, PATCH_SIZE, columns // MERGE_SIZE, MERGE_SIZE, PATCH_SIZE, 3
        )
        patches = cut.permute(0, 1, 4, 2, 5, 7, 3, 6).reshape(count, rows * columns, 3 * PATCH_SIZE**2)
        weight = visual.patch_embed.proj.weight  # (width, 3, 2, patch, patch): both frames are the same picture
        hidden = functional.linear(patches, weight.sum(dim=2).flatten(1))
        positions = get_vision_position_ids(torch.tensor([[1, rows, columns]]), MERGE_SIZE)
        angles = visual.rotary_pos_emb(positions)
        angles = torch.cat((angles, angles), dim=-1)
        for block in visual.blocks:
            hidden = hidden + self._attend(block.attn, block.norm1(hidden), angles.cos(), angles.sin())
            hidden = hidden + block.mlp(block.norm2(hidden))
        return visual.merger(hidden.flatten(0, 1)).view(count, rows * columns // MERGE_SIZE**2, -1)

    def _attend(
        self, attention: torch.nn.Module, hidden: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> torch.Tensor:
        count, length, _ = hidden.shape
        query, key, value = attention.qkv(hidden).view(count, length, 3, attention.num_heads, -1).unbind(2)
        query, key = apply_rotary_pos_emb_vision(query, key, cos, sin)
        mixed = functional.scaled_dot_product_attention(*(part.transpose(1, 2) for part in (query, key, value)))
        return attention.proj(mixed.transpose(1, 2).reshape(count, length, -1))

    def read(self, batch: Batch, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Read rows whose images were seen.

        Args:
            batch: The rows.
            seen: Their visual tokens, from `see`.

        Returns:
            Last hidden states (targets, text width) where something is predicted; what the images' tokens have become
            half-way through the layers (images, tokens, text width); and the mean loss, in nats, of attention on what
            is to be looked at.
        """
        language = self.model.model.language_model
        embedded = language.embed_tokens(batch.ids)
        places = (batch.ids == self._image_token).unsqueeze(-1)
        embedded = embedded.masked_scatter(places, seen)
        result = language(
            inputs_embeds=embedded, attention_mask=batch.mask, position_ids=batch.positions, output_hidden_states=True
        )
        states = result.last_hidden_state.flatten(0, 1)[batch.sources]
        halfway = result.hidden_states[len(language.layers) // 2]
        return states, halfway[places[..., 0]].view_as(seen), self._look(batch, halfway)

    def _look(self, batch: Batch, halfway: torch.Tensor) -> torch.Tensor:
        """How little heads of the middle layer attend to the tokens where they should."""
        if not len(batch.looks):
            return torch.zeros(())
        language = self.model.model.language_model
        layer = language.layers[len(language.layers) // 2]
        attention = layer.self_attn
        hidden = layer.input_layernorm(halfway)
        query, key = (
            part(hidden).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
            for part in (attention.q_proj, attention.k_proj)
        )
        angles = language.rotary_emb(hidden, batch.positions)
        sections = language.config.rope_parameters["mrope_section"]
        query, key = apply_multimodal_rotary_pos_emb(query, key, *angles, sections)
        key = key.repeat_interleave(attention.num_key_value_groups, dim=1)
        rows, asking, heads, wanted = batch.looks.unbind(1)
        scores = (query @ key.transpose(2, 3) * attention.scaling)[rows, heads, asking]  # (looks, length)
        scores = scores.masked_fill(~batch.mask[rows, 0, asking], -torch.inf)
        return functional.cross_entropy(scores, wanted)


def tie_queries_to_keys(model: Qwen2_5_VLForConditionalGeneration) -> None:
    """Set W_q = W_k in the text layers, so that attention starts out as similarity."""
    for layer in model.model.language_model.layers:
        attention = layer.self_attn
        groups = attention.q_proj.out_features // attention.k_proj.out_features
        with torch.no_grad():
            heads = attention.k_proj.weight.view(-1, attention.head_dim, attention.k_proj.in_features)
            attention.q_proj.weight.copy_(heads.repeat_interleave(groups, dim=0).flatten(0, 1))
