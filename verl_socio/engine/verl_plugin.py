"""Entry point `verl.plugins`: importing this module prepares a verl process. On a GPU there is nothing to prepare."""

import os

from verl_socio.engine.cpu import is_cpu_build, prepare_environment

if is_cpu_build():
    from verl_socio.engine.cpu.distribution import alias_vllm
    from verl_socio.torchvision_cpu import make_importable

    os.environ.setdefault("VERL_PLATFORM", "cpu")
    # The FSDP engine is registered for "cuda" and "npu" only; nothing in it needs either.
    os.environ.setdefault("VERL_ENGINE_DEVICE", "cuda")
    prepare_environment()
    make_importable()
    alias_vllm()

    import verl_socio.engine.cpu.platform  # noqa: F401  registers itself
