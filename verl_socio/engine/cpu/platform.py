"""A CPU as a verl platform (`verl.plugin.platform`), so that the FSDP engine runs on gloo."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import psutil
import torch
from verl.plugin.platform.platform_base import PlatformBase
from verl.plugin.platform.platform_manager import PlatformRegistry


class _CpuDevice(ModuleType):
    """`torch.cpu` with the memory questions that verl asks an accelerator, answered for this process."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.cpu, name)

    def get_device_name(self, *_: object) -> str:
        """What verl looks up in its table of peak FLOPS; a CPU is not in it, so no utilisation is reported."""
        return "cpu"

    def memory_allocated(self, *_: object) -> int:
        """Resident memory of this process in bytes."""
        return int(psutil.Process().memory_info().rss)

    max_memory_allocated = memory_reserved = max_memory_reserved = memory_allocated

    def mem_get_info(self, *_: object) -> tuple[int, int]:
        """Free and total memory of the machine in bytes."""
        memory = psutil.virtual_memory()
        return memory.available, memory.total

    def empty_cache(self) -> None:
        """Nothing to release: the CPU allocator keeps no cache."""

    def ipc_collect(self) -> None:
        """Nothing to collect: weights travel through shared memory."""

    def get_rng_state(self) -> torch.Tensor:
        """The default generator is the device's generator."""
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor) -> None:
        """Restore what `get_rng_state` returned."""
        torch.set_rng_state(state)


_DEVICE = _CpuDevice("torch.cpu")


@PlatformRegistry.register(platform="cpu")
class PlatformCpu(PlatformBase):
    """One device, the CPU. Ray is started with one fake "GPU" for each FSDP rank, since verl places ranks by GPUs."""

    device_name = "cpu"
    vendor_name = "cpu"
    device_module = _DEVICE

    def is_available(self) -> bool:
        return True

    def current_device(self) -> Any:
        # verl passes this to `tensor.to(...)`: an index would mean a CUDA device.
        return "cpu"

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None:
        pass

    def synchronize(self, device_index: int | None = None) -> None:
        pass

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None:
        pass

    def empty_cache(self) -> None:
        pass

    def get_device_capability(self, device_index: int = 0) -> tuple[int | None, int | None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    @contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        yield

    def profiler_start(self) -> None:
        pass

    def profiler_stop(self) -> None:
        pass

    def ray_resource_name(self) -> str:
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

    def is_ipc_supported(self) -> bool:
        return False

    def rollout_env_vars(self) -> dict[str, str]:
        return {}

    def cudart(self) -> Any:
        return None
