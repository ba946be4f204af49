"""Entry points `vllm.platform_plugins` (first thing in every vLLM process) and `vllm.general_plugins`."""

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
    """Keep linear weights in place on a CPU, so that the trainer can write new ones into them."""
    if is_cpu_build():
        from verl_socio.engine.cpu.linear import keep_linear_weights

        keep_linear_weights()
