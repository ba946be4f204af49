"""The hybrid worker (FSDP actor, reference and vLLM's weights) with what verl does not do by itself."""

from __future__ import annotations

from typing import Any

from torch.distributed.fsdp import CPUOffloadPolicy
from verl.single_controller.base.decorator import Dispatch, register
from verl.workers.engine.fsdp import transformer_impl
from verl.workers.engine_workers import ActorRolloutRefWorker

from verl_socio.engine.cpu import is_cpu_build, join_gloo_group
from verl_socio.engine.weight_socket import sending_socket


class HybridWorker(ActorRolloutRefWorker):
    """verl's worker, which sends its weights to the vLLM of its own run.

    On a machine without a GPU it joins a gloo group and keeps offloaded weights unpinned.
    """

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def init_model(self) -> None:
        """Build the actor and, where asked for, the reference model."""
        if is_cpu_build():
            join_gloo_group()
            # Pinned memory is memory an accelerator can reach; without one torch refuses to pin.
            transformer_impl.CPUOffloadPolicy = _unpinned_offload_policy
        super().init_model()
        if self.rollout is not None:
            self.rollout.zmq_handle = sending_socket(self.rollout.zmq_handle)


def _unpinned_offload_policy(**_: Any) -> CPUOffloadPolicy:
    return CPUOffloadPolicy(pin_memory=False)
