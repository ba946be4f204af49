"""What verl and vLLM need to run on a machine without a GPU, each through one of their extension points."""

import os

import torch

_ENVIRONMENT = {
    # GB for vLLM's key-value cache; its own default is half of the machine's memory.
    "VLLM_CPU_KVCACHE_SPACE": "1",
    # Compiling takes longer than a small model ever gains: 17 s at the first request.
    "TORCHDYNAMO_DISABLE": "1",
    # Trainer and vLLM share the cores; bound to one NUMA node each, two tensor-parallel ranks do not start.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}


def is_cpu_build() -> bool:
    """Whether the installed torch can only compute on the CPU."""
    return torch.version.cuda is None and torch.version.hip is None


def prepare_environment() -> None:
    """Set what vLLM reads when it starts, unless the user has set it."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
