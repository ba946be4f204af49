"""An estimate of the memory that a run takes, from its settings alone: before anything is downloaded or started.

Per GPU, in bytes. P parameters of B bytes each while training (4 in float32), of which A are trained (all, or the
adapters, which come on top of P); R ranks; T tokens of a micro-batch, U the same with its padding: 1.3 T, as each row
is filled up to the longest, or T with `use_remove_padding`; V words; H hidden and I inner size of L text layers,
K width of their keys and values; D width x depth of the image encoder.

While loading:
    weights      2 P B / R    a rank's share, even where it goes on to the host, and what it is filled from; with
                              `offload_policy` it is filled from the host: half of that
    whole        B V H        the largest weight, before it is shared out
While training:
    weights      P B / R      0 with `offload_policy`: they come layer by layer from the host
    gradients    A B / R      0 with `offload_policy`
    optimizer    2 A B / R    AdamW's two moments; 0 with `offload_policy`
    gathered     2 (E + 2 Y)  bfloat16 copies of what is worked on: embedding and head E, this layer Y and the next one
    activations  U (2 H L + 4 F), F = 6 H + K + 3 I: the input of each layer, and one layer with its gradient;
                 2 U L F without gradient checkpointing
    images       8 T D, as if every token were an image's four patches; 64 T D without gradient checkpointing
    logits       12 U V       bfloat16: themselves 2, without padding 2, both gradients 4; float32: log-probabilities 4.
                              Of the old policy, with entropy, 10 U V
    reference    0            verl keeps it in the host's memory; with adapters it is the frozen model itself
    vLLM         1.5 GB       of CUDA graphs, while it sleeps
While generating:
    vLLM         its share of the memory: 2 P / N of weights for N tensor-parallel ranks, 2.5 GB for the largest batch,
                 1.5 GB of CUDA graphs; the rest is its cache
    trainer      weights and optimizer as above, unless `param_offload` and `optimizer_offload` send them to the host
Always:
    SAM2         4 bytes a parameter, 1 GB to work with and 11 MB an image that is kept, for each actor on this GPU
    processes    0.7 GB each of trainer, vLLM and SAM2 for CUDA itself

vLLM gives its share back while the others train, where `enable_sleep_mode` and `free_cache_engine` are on (verl's
default). Fine-tuning (SFT) has no vLLM and no reference. Fragmentation is not in it: leave a tenth free.

In the memory of all machines together, in bytes. What waits there for the GPU is page-locked, and torch takes such
memory in powers of two: 1.7 times as much (1.5 for the weights of the 3B model, 1.9 for those of the 7B one).

While loading:
    copies       P B          in every rank where embedding and head are one, else in one: the model as it is read
    weights, reference        as below
While running:
    reference    1.7 P C      of C bytes each (4 in float32); 0 with adapters and without a KL term
    weights      1.7 P B      with `offload_policy` or `param_offload`
    gradients    1.7 A B      with `offload_policy`
    optimizer    2 A B        with `offload_policy`; 1.7 times that with `optimizer_offload`
    vLLM         1.7 x 2 P    for each of R / N engines, with adapters: all else it forgets in its sleep
    pictures     a row's twice, in TransferQueue and in the rank that learns from it: 2 bytes (4 in float32) a number,
                 6 numbers a pixel, as if each picture had 768 x 768
Always:
    processes    10 GB for Ray, the driver and the agents, 8 GB a rank for trainer, vLLM and SAM2; a guess

No figure of these estimates was compared with a GPU yet.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from verl_socio.errors import invalid
from verl_socio.train.settings import is_supervised

GB = 1e9
_PADDING = 1.3
_SAM2_WORK = 1e9
_SAM2_IMAGE = 11e6
_CUDA = 0.7e9
_VLLM_BATCH = 2.5e9
_VLLM_GRAPHS = 1.5e9
_PINNED = 1.7
_PICTURE_NUMBERS = 6 * 768**2
_HOST_BASE = 10e9
_HOST_RANK = 8e9
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
        loading: While the weights are read.
        training: While the weights are updated.
        generating: While vLLM answers; nothing without vLLM.
        always: In all three.
        vllm: What vLLM's share holds, its cache among it, which is below 0 where the rest does not fit.
    """

    loading: dict[str, float]
    training: dict[str, float]
    generating: dict[str, float]
    always: dict[str, float]
    vllm: dict[str, float]

    @property
    def peak(self) -> float:
        """The largest of the three phases."""
        phases = (self.loading, self.training, self.generating)
        return max(sum(phase.values()) for phase in phases) + sum(self.always.values())

    @property
    def has_cache(self) -> bool:
        """Whether vLLM's share leaves room for a cache; without vLLM it need not."""
        return all(part > 0 for part in self.vllm.values())

    def fits(self, memory_gb: float) -> bool:
        """Whether a GPU of so many GB (1e9 bytes) holds it."""
        return self.peak <= memory_gb * GB and self.has_cache


@dataclass(frozen=True)
class HostEstimate:
    """Bytes in the memory of all machines together, by what they are for.

    Attributes:
        loading: While the weights are read.
        running: Afterwards.
        always: In both.
    """

    loading: dict[str, float]
    running: dict[str, float]
    always: dict[str, float]

    @property
    def peak(self) -> float:
        """The larger of both phases."""
        return max(sum(self.loading.values()), sum(self.running.values())) + sum(self.always.values())


def shape_of(model: str) -> Shape | None:
    """The sizes of a model, by its folder's `config.json` or by its Hub id; None where they are not known."""
    file = Path(model) / "config.json"
    if not file.is_file():
        return PUBLISHED.get(model)
    try:
        return Shape.from_config(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError):  # another architecture
        return None


@dataclass(frozen=True)
class Weights:
    """How a run's weights are held: what both estimates rest on.

    Attributes:
        model: The settings of the model.
        fsdp: The settings of what trains it.
        ranks: R.
        width: B.
        held: P, and the adapters.
        trained: A.
    """

    model: DictConfig
    fsdp: DictConfig
    ranks: int
    width: int
    held: int
    trained: int

    @classmethod
    def of(cls, config: DictConfig, shape: Shape) -> Weights:
        """Read a run's settings, of either kind of training."""
        actor = config.get("actor_rollout_ref")
        model, fsdp = (config.model, config.engine) if actor is None else (actor.model, actor.actor.fsdp_config)
        adapters = shape.adapters(model.lora_rank) if model.lora_rank else 0
        ranks = max(1, config.trainer.n_gpus_per_node * config.trainer.nnodes)
        held = shape.parameters + adapters
        width = _width("model_dtype", fsdp.model_dtype or "fp32")
        return cls(model, fsdp, ranks, width, held, adapters or shape.parameters)


def estimate(config: DictConfig, shape: Shape, memory_gb: float) -> Estimate:
    """Estimate a run's memory on one GPU; the formulas are at the top of this file.

    Args:
        config: Settings of a run, resolved.
        shape: Its model.
        memory_gb: Memory of a GPU in GB (1e9 bytes), of which vLLM takes its share.
    """
    weights = Weights.of(config, shape)
    fsdp, width = weights.fsdp, weights.width
    share = weights.held * width / weights.ranks
    kept = 0 if fsdp.offload_policy else width / weights.ranks
    loading = {"weights": share if fsdp.offload_policy else 2 * share, "whole": width * shape.vocabulary * shape.hidden}
    training = {
        "weights": weights.held * kept,
        "gradients": weights.trained * kept,
        "optimizer": 2 * weights.trained * kept,
        "gathered": 2 * (shape.ends + 2 * shape.layer),
        **_activations(shape, _tokens(config), weights.model),
    }
    if is_supervised(config):
        always = {"SAM2": _sam2(config.segmenter), "processes": _CUDA}
        return Estimate(loading, training, {}, always, {})
    rollout = config.actor_rollout_ref.rollout
    vllm = {
        "weights": 2 * shape.parameters / max(1, rollout.tensor_model_parallel_size),
        "largest batch": _VLLM_BATCH,
        "graphs": _VLLM_GRAPHS,
    }
    taken = rollout.gpu_memory_utilization * memory_gb * GB
    training["vLLM"] = _VLLM_GRAPHS if _sleeps(rollout) else taken
    generating = {
        "vLLM": taken,
        "weights": 0.0 if fsdp.param_offload else training["weights"],
        "optimizer": 0.0 if fsdp.optimizer_offload else training["optimizer"],
    }
    actors = math.ceil(config.segmenter.num_actors / max(1, config.trainer.n_gpus_per_node))
    always = {"SAM2": actors * _sam2(config.segmenter), "processes": 3 * _CUDA}
    return Estimate(loading, training, generating, always, {**vllm, "cache": taken - sum(vllm.values())})


def host_estimate(config: DictConfig, shape: Shape) -> HostEstimate:
    """Estimate what a run takes of the memory of its machines; the formulas are at the top of this file.

    Args:
        config: Settings of a run, resolved.
        shape: Its model.
    """
    weights = Weights.of(config, shape)
    fsdp, whole, trained = weights.fsdp, weights.held * weights.width, weights.trained * weights.width
    waiting, running = {}, {}
    if fsdp.offload_policy or fsdp.param_offload:
        waiting["weights"] = _PINNED * whole
    if fsdp.offload_policy:
        running = {"gradients": _PINNED * trained, "optimizer": 2.0 * trained}
    elif fsdp.optimizer_offload:
        running = {"optimizer": _PINNED * 2 * trained}
    if not is_supervised(config):
        settings = config.actor_rollout_ref
        engines = weights.ranks / max(1, settings.rollout.tensor_model_parallel_size)
        if weights.model.lora_rank:
            if _sleeps(settings.rollout):
                running["vLLM"] = _PINNED * 2 * shape.parameters * engines
        elif settings.actor.use_kl_loss or config.algorithm.use_kl_in_reward:
            width = _width("ref.fsdp_config.model_dtype", settings.ref.fsdp_config.model_dtype or "bf16")
            waiting["reference"] = _PINNED * shape.parameters * width
        running["pictures"] = 2 * _pictures(config)
    copies = {"copies": float(whole * (weights.ranks if shape.tied else 1))}
    always = {"processes": _HOST_BASE + _HOST_RANK * weights.ranks}
    return HostEstimate({**copies, **waiting}, {**waiting, **running}, always)


def _width(field: str, dtype: str) -> int:
    """Bytes of a number, by the names that verl knows."""
    if dtype not in _BYTES:
        raise invalid(field, dtype, f"must be one of {', '.join(_BYTES)}", "use one of them")
    return _BYTES[dtype]


def _pictures(config: DictConfig) -> float:
    """Bytes of a step's pictures, as they are handed to the model: each rollout has its own."""
    # What is no stage is told with its place when the recipe is built.
    shown = sum(len(stage.images) for stage in config.recipe.stages.values() if OmegaConf.is_dict(stage))
    precision = config.actor_rollout_ref.actor.fsdp_config.mixed_precision
    width = _width("mixed_precision.param_dtype", precision.param_dtype if precision else "bf16")
    rows = config.data.train_batch_size * config.actor_rollout_ref.rollout.n
    return float(rows * shown * _PICTURE_NUMBERS * width)


def _sleeps(rollout: DictConfig) -> bool:
    return bool(rollout.get("enable_sleep_mode", True) and rollout.free_cache_engine)


def _tokens(config: DictConfig) -> int:
    """Tokens of a micro-batch."""
    data = config.data
    if is_supervised(config):
        filled, most, rows = data.use_dynamic_bsz, data.max_token_len_per_gpu, data.micro_batch_size_per_gpu
    else:
        actor = config.actor_rollout_ref.actor
        filled, most, rows = actor.use_dynamic_bsz, actor.ppo_max_token_len_per_gpu, actor.ppo_micro_batch_size_per_gpu
    return int(most if filled else (rows or 1) * (data.max_prompt_length + data.max_response_length))


def _activations(shape: Shape, tokens: int, model: DictConfig) -> dict[str, float]:
    padded = tokens * (1.0 if model.use_remove_padding else _PADDING)
    layer = 6 * shape.hidden + shape.key_value + 3 * shape.feed_forward
    images = 8 * tokens * shape.vision_hidden * shape.vision_layers  # four patches a token, two bytes
    logits = 12 * padded * shape.vocabulary
    if model.enable_gradient_checkpointing:
        activations = padded * (2 * shape.hidden * shape.layers + 4 * layer)
        return {"activations": activations, "images": images, "logits": logits}
    return {"activations": padded * shape.layers * 2 * layer, "images": 8 * images, "logits": logits}


def _sam2(segmenter: DictConfig) -> float:
    size = str(segmenter.weights).rpartition("-hiera-")[2]
    parameters = _SAM2_PARAMETERS.get(size, _SAM2_PARAMETERS["large"])
    return float(4 * parameters + _SAM2_WORK + segmenter.cache_images * _SAM2_IMAGE)
