"""Entry points `vllm.platform_plugins` (first thing in every vLLM process) and `vllm.general_plugins`."""

import os

from verl_socio.engine.cpu import is_cpu_build, prepare_environment


def prepare_platform() -> None:
    """Make vLLM's own platform detection and image processing work on a CPU. Returns None: no platform of our own."""
    if is_cpu_build():
        from verl_socio.engine.cpu.distribution import alias_vllm
        from verl_socio.torchvision_cpu import make_importable

        prepare_environment()
        make_importable()
        alias_vllm()


def prepare_process() -> None:
    """Let the weights of this run's trainer reach vLLM and no others; on a CPU, keep linear ones where they are."""
    if os.environ.get("VERL_RAY_JOB_ID"):
        from verl_socio.engine.weight_socket import name_receiving_socket

        name_receiving_socket()
    if is_cpu_build():
        from verl_socio.engine.cpu.linear import keep_linear_weights

        keep_linear_weights()
