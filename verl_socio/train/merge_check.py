"""Log-probs of a merged model against those of the checkpoint's shards, which are read here without verl's merger."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.distributed.tensor import DTensor
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, BatchFeature, PreTrainedModel

from verl_socio.train.shards import Checkpoint

_QUESTION = "Find the school."
_ANSWER = '<think>The map shows it.</think><answer>[{"bbox_2d": [12, 34, 56, 78]}]</answer>'


def compare(checkpoint: Checkpoint, folder: Path) -> tuple[int, float, float]:
    """Compare the log-probs of a written model with those of a model filled with the checkpoint's shards.

    Computed in float32 on the CPU, over the whole vocabulary at every position of one sample with two images.

    Args:
        checkpoint: The checkpoint.
        folder: Model folder with processor.

    Returns:
        The number of tokens, the largest absolute difference (nats) from the shards rounded as the merger rounds them,
        and the same from the unrounded shards.
    """
    batch = sample(folder)
    written = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    log_probs = _log_probs(written, batch)
    del written
    rounded, exact = (
        (_log_probs(model_of_shards(checkpoint, rounded), batch) - log_probs).abs().max().item()
        for rounded in (True, False)
    )
    return log_probs.shape[0], rounded, exact


def sample(folder: Path) -> BatchFeature:
    """A question with two images and an answer, as a batch of one.

    Args:
        folder: Model folder with processor.

    Returns:
        The processor's output: `input_ids` (1, L), `pixel_values` and the rest.
    """
    processor = AutoProcessor.from_pretrained(folder)
    question = {"role": "user", "content": [{"type": "image"}, {"type": "image"}, {"type": "text", "text": _QUESTION}]}
    text = processor.apply_chat_template([question], add_generation_prompt=True, tokenize=False) + _ANSWER
    ramp = np.add.outer(np.arange(140), np.arange(140)).astype(np.uint8)
    colour = np.stack([ramp, ramp[::-1], ramp.T[:, ::-1]], axis=-1)
    images = [Image.fromarray(colour), Image.fromarray(255 - colour)]
    return processor(text=[text], images=images, return_tensors="pt")


@torch.no_grad()
def _log_probs(model: PreTrainedModel, batch: BatchFeature) -> torch.Tensor:
    """Log-probs (L, vocabulary) float32."""
    return torch.log_softmax(model.eval()(**batch).logits[0].float(), dim=-1)


@torch.no_grad()
def model_of_shards(checkpoint: Checkpoint, rounded: bool) -> PreTrainedModel:
    """Fill a model with a checkpoint's shards, tensor by tensor.

    Args:
        checkpoint: The checkpoint; an adapter is added to its modules' weights as `alpha / rank * B @ A`.
        rounded: Round every tensor to bfloat16, and the sums of adapted weights once more, as the merger does.

    Returns:
        The model in float32.
    """
    config = AutoConfig.from_pretrained(checkpoint.config)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    places = model.state_dict(keep_vars=True)
    filled: set[int] = set()
    adapter: dict[str, torch.Tensor] = {}
    for name, value in whole_tensors(checkpoint):
        value = value.bfloat16().float() if rounded else value.float()
        name = name.removeprefix("base_model.model.").replace(".base_layer.", ".")
        if ".lora_" in name:
            adapter[name.replace(".default.", ".")] = value
        else:
            places[name].copy_(value)
            filled.add(places[name].data_ptr())
    # Tied weights have one place and may have been saved under one of their names.
    empty = [name for name, place in places.items() if place.data_ptr() not in filled]
    assert not empty, f"the checkpoint has no weights for {empty}"
    for name in [name for name in adapter if ".lora_A." in name]:
        assert checkpoint.lora is not None
        update = adapter[name.replace(".lora_A.", ".lora_B.")] @ adapter[name]
        place = places[name.replace(".lora_A.", ".")]
        place += update * (checkpoint.lora.alpha / checkpoint.lora.rank)
        if rounded:
            place.copy_(place.bfloat16().float())
    return model


def whole_tensors(checkpoint: Checkpoint) -> Iterator[tuple[str, torch.Tensor]]:
    """Put the pieces of every tensor of a checkpoint together.

    Args:
        checkpoint: The checkpoint.

    Yields:
        The name and the whole tensor, in the checkpoint's data type.
    """
    shards = [
        torch.load(checkpoint.shard(rank), map_location="cpu", mmap=True, weights_only=False)
        for rank in range(checkpoint.world_size)
    ]
    for name, first in shards[0].items():
        if not isinstance(first, DTensor):
            yield name, first
            continue
        axis = next((placement.dim for placement in first.placements if placement.is_shard()), None)
        if axis is None:
            yield name, first.to_local()
            continue
        whole = torch.empty(first.shape, dtype=first.dtype)
        end = 0
        # With replicas of the model the ranks of the first replica come first and hold all of it.
        for shard in shards[: first.device_mesh.mesh.shape[-1]]:
            piece = shard[name].to_local()
            whole.narrow(axis, end, piece.shape[axis]).copy_(piece)
            end += piece.shape[axis]
        assert end == first.shape[axis], f"the pieces of {name} have {end} of {first.shape[axis]} rows"
        yield name, whole
