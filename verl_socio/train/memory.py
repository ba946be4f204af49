"""An estimate of the GPU memory that a run takes, from its settings alone: before anything is downloaded or started.

Per GPU, in bytes. P parameters of B bytes each while training (4 in float32), of which A are trained (all, or the
adapters, which come on top of P); R ranks; T tokens of a micro-batch (`ppo_max_token_len_per_gpu`); V words; H hidden
and I inner size of L text layers, K width of their keys and values; D width x depth of the image encoder.

While training:
    weights      P B / R      0 with `offload_policy`: they come layer by layer from the host
    gradients    A B / R      0 with `offload_policy`
    optimizer    2 A B / R    AdamW's two moments; 0 with `offload_policy`
    gathered     2 (E + 2 Y)  bfloat16 copies of what is worked on: embedding and head E, this layer Y and the next one
    activations  T (2 H L + 4 F), F = 6 H + K + 3 I: the input of each layer, and one layer with its gradient;
                 2 T L F without gradient checkpointing
    images       8 T D, as if every token were an image's four patches; 64 T D without gradient checkpointing
    logits       8 T V        bfloat16: themselves, their softmax and both gradients
    reference    0            verl keeps it in the host's memory; with adapters it is the frozen model itself
While generating:
    vLLM         its share of the memory; 2 P / N of it are weights for N tensor-parallel ranks, the rest is its cache
    trainer      weights and optimizer as above, unless `param_offload` and `optimizer_offload` send them to the host
Always:
    SAM2         4 bytes a parameter, 1 GB to work with and 11 MB an image that is kept, for each actor on this GPU
    processes    0.7 GB each of trainer, vLLM and SAM2 for CUDA itself

vLLM gives its share back while the others train, where `enable_sleep_mode` and `free_cache_engine` are on (verl's
default). Fragmentation is not in it: leave a tenth free. No figure of this estimate was compared with a GPU yet.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from verl_socio.train.settings import is_supervised

GB = 1e9
_SAM2_WORK = 1e9
_SAM2_IMAGE = 11e6
_CUDA = 0.7e9
_SAM2_PARAMETERS = {"tiny": 39e6, "small": 46e6, "base-plus": 81e6, "large": 224e6}
_BYTES = {"fp32": 4, "float32": 4, "bf16": 2, "bfloat16": 2, "fp16": 2, "float16": 2}


@dataclass(frozen=True)
class Shape:
    """The sizes of a Qwen2.5-VL.

    Attributes:
        hidden: Width of the text layers.
        layers: Their number.
        feed_forward: Inner width of their feed-forward part.
        key_value: Width of keys and of values together.
        vocabulary: Words.
        tied: Whether the embedding is also the head.
        vision_hidden: Width of the image encoder.
        vision_layers: Its depth.
        vision_feed_forward: Inner width of its feed-forward part.
        patch_values: Numbers in a patch: colours x frames x pixels.
    """

    hidden: int
    layers: int
    feed_forward: int
    key_value: int
    vocabulary: int
    tied: bool
    vision_hidden: int = 1280
    vision_layers: int = 32
    vision_feed_forward: int = 3420
    patch_values: int = 3 * 2 * 14 * 14

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Shape:
        """Read the `config.json` of a Qwen2.5-VL."""
        text = config.get("text_config", config)
        vision = config["vision_config"]
        head = text["hidden_size"] // text["num_attention_heads"]
        colours = vision.get("in_channels", vision.get("in_chans", 3))
        return cls(
            hidden=text["hidden_size"],
            layers=text["num_hidden_layers"],
            feed_forward=text["intermediate_size"],
            key_value=2 * head * text["num_key_value_heads"],
            vocabulary=text["vocab_size"],
            tied=config.get("tie_word_embeddings", text.get("tie_word_embeddings", False)),
            vision_hidden=vision["hidden_size"],
            vision_layers=vision["depth"],
            vision_feed_forward=vision["intermediate_size"],
            patch_values=colours * vision.get("temporal_patch_size", 2) * vision["patch_size"] ** 2,
        )

    @property
    def layer(self) -> int:
        """Parameters of one text layer."""
        attention = 2 * self.hidden**2 + self.hidden + self.key_value * (self.hidden + 1)
        return attention + 3 * self.hidden * self.feed_forward + 2 * self.hidden

    @property
    def ends(self) -> int:
        """Parameters of embedding and head."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def vision(self) -> int:
        """Parameters of the image encoder with the part that hands over to the text."""
        width, inner, merged = self.vision_hidden, self.vision_feed_forward, 4 * self.vision_hidden
        layer = 4 * width * (width + 1) + 3 * width * inner + 2 * inner + width + 2 * width
        merger = width + merged * (merged + 1) + (merged + 1) * self.hidden
        return self.patch_values * width + self.vision_layers * layer + merger

    @property
    def parameters(self) -> int:
        """All parameters."""
        return self.ends + self.layers * self.layer + self.hidden + self.vision

    def adapters(self, rank: int) -> int:
        """Parameters of LoRA adapters of this rank on every linear part of the text layers."""
        attention = 4 * self.hidden + 2 * self.hidden + self.key_value  # in and out of q and o; of k and v
        return rank * self.layers * (attention + 3 * (self.hidden + self.feed_forward))


PUBLISHED = {
    "Qwen/Qwen2.5-VL-3B-Instruct": Shape(2048, 36, 11008, 512, 151936, tied=True),
    "Qwen/Qwen2.5-VL-7B-Instruct": Shape(3584, 28, 18944, 1024, 152064, tied=False),
}


@dataclass(frozen=True)
class Estimate:
    """Bytes on one GPU, by what they are for.

    Attributes:
        training: While the weights are updated.
        generating: While vLLM answers.
        always: In both.
        vllm_weights: What the model takes of vLLM's part.
    """

    training: dict[str, float]
    generating: dict[str, float]
    always: dict[str, float]
    vllm_weights: float

    @property
    def peak(self) -> float:
        """The larger of both phases."""
        return max(sum(self.training.values()), sum(self.generating.values())) + sum(self.always.values())


def shape_of(model: str) -> Shape | None:
    """The sizes of a model, by its folder's `config.json` or by its Hub id; None where they are not known."""
    file = Path(model) / "config.json"
    if not file.is_file():
        return PUBLISHED.get(model)
    try:
        return Shape.from_config(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError):  # another architecture
        return None


def estimate(config: DictConfig, shape: Shape, memory_gb: float) -> Estimate:
    """Estimate a run's memory on one GPU; the formulas are at the top of this file.

    Args:
        config: Settings of a run, resolved.
        shape: Its model.
        memory_gb: Memory of a GPU in GB (1e9 bytes).
    """
    model, actor, rollout = (config.actor_rollout_ref[part] for part in ("model", "actor", "rollout"))
    fsdp, ranks = actor.fsdp_config, max(1, config.trainer.n_gpus_per_node * config.trainer.nnodes)
    width = _BYTES[fsdp.model_dtype or "fp32"]
    trained = shape.adapters(model.lora_rank) if model.lora_rank else shape.parameters
    held = 0 if fsdp.offload_policy else width / ranks
    base = shape.parameters + (trained if model.lora_rank else 0)
    training = {
        "weights": base * held,
        "gradients": trained * held,
        "optimizer": 2 * trained * held,
        "gathered": 2 * (shape.ends + 2 * shape.layer),
        **_activations(shape, actor.ppo_max_token_len_per_gpu, model.enable_gradient_checkpointing),
    }
    share = rollout.gpu_memory_utilization * memory_gb * GB
    generating = {
        "vLLM": share,
        "weights": 0.0 if fsdp.param_offload else training["weights"],
        "optimizer": 0.0 if fsdp.optimizer_offload else training["optimizer"],
    }
    if not (rollout.get("enable_sleep_mode", True) and rollout.free_cache_engine):
        training["vLLM"] = share
    always = {"SAM2": _sam2(config.segmenter, config.trainer.n_gpus_per_node), "processes": 3 * _CUDA}
    return Estimate(training, generating, always, 2 * shape.parameters / rollout.tensor_model_parallel_size)


def _activations(shape: Shape, tokens: int, checkpointed: bool) -> dict[str, float]:
    layer = 6 * shape.hidden + shape.key_value + 3 * shape.feed_forward
    images = 8 * tokens * shape.vision_hidden * shape.vision_layers  # four patches a token, two bytes
    if checkpointed:
        return {
            "activations": tokens * (2 * shape.hidden * shape.layers + 4 * layer),
            "images": images,
            "logits": 8 * tokens * shape.vocabulary,
        }
    return {
        "activations": tokens * shape.layers * 2 * layer,
        "images": 8 * images,
        "logits": 8 * tokens * shape.vocabulary,
    }


def _sam2(segmenter: Any, gpus: int) -> float:
    size = str(segmenter.weights).rpartition("-hiera-")[2]
    each = 4 * _SAM2_PARAMETERS.get(size, _SAM2_PARAMETERS["large"]) + _SAM2_WORK + segmenter.cache_images * _SAM2_IMAGE
    return float(math.ceil(segmenter.num_actors / max(1, gpus)) * each)


def report(config: DictConfig) -> str:
    """The estimate in lines for a person, each a comment of YAML; "" for a run without a GPU or without rewards.

    Args:
        config: Settings of a run, resolved.
    """
    if is_supervised(config) or config.trainer.device != "cuda":
        return ""
    model, hardware = config.actor_rollout_ref.model.path, config.hardware
    shape = shape_of(model)
    if shape is None:
        return f"# GPU memory: not estimated, the sizes of {model} are not known here.\n"
    if not OmegaConf.is_dict(hardware):
        return "# GPU memory: name the hardware for an estimate, such as hardware=full_4x80gb (configs/hardware/).\n"
    found = estimate(config, shape, hardware.memory_gb)
    cache = found.generating["vLLM"] - found.vllm_weights
    inside = f"vLLM: {found.vllm_weights / GB:.1f} weights, {cache / GB:.1f} cache"
    lines = [
        f"GPU memory, estimated for {hardware.name}, {shape.parameters / GB:.2f} billion parameters (not measured):",
        f"  training:   {_shown(found.training)}",
        f"  generating: {_shown(found.generating)}; {inside}",
        f"  always:     {_shown(found.always)}",
        f"  peak {found.peak / GB:.1f} of {hardware.memory_gb:g} GB{_verdict(found, hardware.memory_gb, cache)}",
    ]
    return "".join(f"# {line}\n" for line in lines)


def _verdict(found: Estimate, memory_gb: float, cache: float) -> str:
    if cache <= 0:
        return ": DOES NOT FIT. Fix: raise rollout.gpu_memory_utilization or rollout.tensor_model_parallel_size"
    if found.peak > memory_gb * GB:
        trains = sum(found.training.values()) > sum(found.generating.values())
        fix = "lower actor.ppo_max_token_len_per_gpu, or set actor.fsdp_config.offload_policy=true"
        return f": DOES NOT FIT. Fix: {fix if trains else 'lower rollout.gpu_memory_utilization'}"
    return ": fits" if found.peak <= 0.9 * memory_gb * GB else ": fits with less than a tenth to spare"


def _shown(parts: Mapping[str, float]) -> str:
    total = sum(parts.values())
    named = ", ".join(f"{name} {value / GB:.1f}" for name, value in parts.items() if value >= 0.05 * GB)
    return f"{total / GB:.1f} GB ({named})"
