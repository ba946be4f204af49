"""What verl and vLLM need to run on a machine without a GPU, each through one of their extension points."""

import os

import torch

_ENVIRONMENT = {
    # GB for vLLM's key-value cache; its own default is half of the machine's memory.
    "VLLM_CPU_KVCACHE_SPACE": "1",
    # Compiling takes longer than a small model ever gains: 17 s at the first request.
    "TORCHDYNAMO_DISABLE": "1",
    # vLLM's engine has a process of its own either way. Without this its CPU build puts the model into another one, and
    # the two burn a core with polling while they wait for each other.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
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


def join_gloo_group() -> None:
    """Join the group of processes that the environment describes, over gloo.

    verl would ask for "cpu:gloo,<device>:gloo", which torch refuses when the device is the CPU itself.
    """
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group(
            "gloo",
            rank=int(os.environ["RANK"]),
            world_size=int(os.environ["WORLD_SIZE"]),
            init_method=os.environ.get("DIST_INIT_METHOD"),
        )
