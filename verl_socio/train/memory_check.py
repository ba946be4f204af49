"""What a person is told of a run's memory: in a dry run, and before one that no GPU of this machine holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from omegaconf import DictConfig, OmegaConf

from verl_socio.errors import invalid
from verl_socio.train.memory import GB, Estimate, Shape, estimate, host_estimate, shape_of
from verl_socio.train.ranks import check_ranks
from verl_socio.train.settings import CONFIGS, is_supervised, model_key, resolve


def check_memory(config: DictConfig, name: str, overrides: Sequence[str]) -> None:
    """Compare a run's estimate with this machine's GPUs, before anything is downloaded.

    Args:
        config: Settings of a run, resolved.
        name: The configuration of `configs/` that it started from.
        overrides: `key=value` on top of it.

    Raises:
        ValueError: By the estimate a GPU does not hold it; or a count, by which the estimate divides, is wrong.
    """
    if config.trainer.device != "cuda" or not config.trainer.check_memory:
        return
    check_ranks(config)
    shape, memory_gb = shape_of(str(OmegaConf.select(config, model_key(config)))), _memory_here_gb()
    if shape is None or memory_gb is None:
        return
    found = estimate(config, shape, memory_gb)
    if found.fits(memory_gb):
        return
    why = f"it takes {found.peak / GB:.1f} GB" if found.peak > memory_gb * GB else "vLLM has no room for its cache"
    rule = f"does not hold the run by the estimate: {why}"
    names = _fitting_hardware(name, overrides, shape, memory_gb)
    fix = f"add {' or '.join(names)}" if names else _fix(config, found, memory_gb)
    fix += "; --dry-run shows the estimate, trainer.check_memory=false starts without it"
    raise invalid("GPU memory", f"{memory_gb:.1f} GB", rule, fix)


def _memory_here_gb() -> float | None:
    """Memory of this machine's smallest GPU in GB (1e9 bytes); None where there is none that CUDA can use."""
    import torch

    if not torch.cuda.is_available():
        return None
    sizes = (torch.cuda.get_device_properties(each).total_memory for each in range(torch.cuda.device_count()))
    return float(min(sizes)) / GB


def _fitting_hardware(name: str, overrides: Sequence[str], shape: Shape, memory_gb: float) -> list[str]:
    """`hardware=NAME` for each with which the run fits this machine's GPUs."""
    import torch

    others = [override for override in overrides if not override.startswith("hardware=")]
    fitting = []
    for path in sorted((CONFIGS / "hardware").glob("*.yaml")):
        word = f"hardware={path.stem}"
        try:
            config = resolve(name, [*others, word])
        except ValueError:  # a configuration that takes none
            return []
        fits = estimate(config, shape, memory_gb).fits(memory_gb)
        if fits and config.trainer.n_gpus_per_node <= torch.cuda.device_count():
            fitting.append(word)
    return fitting


def report(config: DictConfig) -> str:
    """Both estimates in lines for a person, each a comment of YAML; "" for a run without a GPU.

    Args:
        config: Settings of a run, resolved.
    """
    if config.trainer.device != "cuda":
        return ""
    model, hardware = str(OmegaConf.select(config, model_key(config))), config.get("hardware")
    shape = shape_of(model)
    if shape is None:
        return f"# Memory: not estimated, the sizes of {model} are not known here.\n"
    host = host_estimate(config, shape)
    lines = [f"Memory, estimated for {shape.parameters / GB:.2f} billion parameters (not measured):"]
    memory_gb = hardware.memory_gb if hardware else _memory_here_gb()
    if memory_gb is None and not is_supervised(config):  # vLLM takes a share of what there is
        lines.append("  GPU: name the hardware for an estimate, such as hardware=full_4x80gb (configs/hardware/)")
    else:
        lines += _shown_gpu(config, estimate(config, shape, memory_gb or 0.0), memory_gb)
    lines += [
        f"  host, loading: {_shown(host.loading)}",
        f"  host, running: {_shown(host.running)}",
        f"  host, always:  {_shown(host.always)}",
        f"  host: peak {host.peak / GB:.0f} GB, of all machines together",
    ]
    return "".join(f"# {line}\n" for line in lines)


def _shown_gpu(config: DictConfig, found: Estimate, memory_gb: float | None) -> list[str]:
    vllm = f"; vLLM: {_parts(found.vllm)}" if found.vllm else ""
    return [
        f"  GPU, loading:    {_shown(found.loading)}",
        f"  GPU, training:   {_shown(found.training)}",
        f"  GPU, generating: {_shown(found.generating)}{vllm}",
        f"  GPU, always:     {_shown(found.always)}",
        f"  GPU: peak {found.peak / GB:.1f}" + (" GB" if memory_gb is None else _verdict(config, found, memory_gb)),
    ]


def _verdict(config: DictConfig, found: Estimate, memory_gb: float) -> str:
    of = f" of {memory_gb:.3g} GB"
    if not found.fits(memory_gb):
        return f"{of}: DOES NOT FIT. Fix: {_fix(config, found, memory_gb)}"
    return f"{of}: fits" if found.peak <= 0.9 * memory_gb * GB else f"{of}: fits with less than a tenth to spare"


def _fix(config: DictConfig, found: Estimate, memory_gb: float) -> str:
    """What makes a run fit, by what is too large in it."""
    if found.peak <= memory_gb * GB:
        return "raise rollout.gpu_memory_utilization or rollout.tensor_model_parallel_size"
    loading, training, generating = (sum(each.values()) for each in (found.loading, found.training, found.generating))
    if training >= max(loading, generating):
        if is_supervised(config):
            return "lower data.max_token_len_per_gpu, or set engine.offload_policy=true"
        return "lower actor.ppo_max_token_len_per_gpu, or set actor.fsdp_config.offload_policy=true"
    if generating > loading and found.has_cache:
        return "lower rollout.gpu_memory_utilization"
    return "take more GPUs or larger ones"


def _parts(parts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value / GB:.1f}" for name, value in parts.items() if abs(value) >= 0.05 * GB)


def _shown(parts: Mapping[str, float]) -> str:
    return f"{sum(parts.values()) / GB:.1f} GB" + (f" ({_parts(parts)})" if parts else "")
