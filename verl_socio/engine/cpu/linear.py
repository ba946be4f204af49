"""vLLM's CPU build packs each linear weight once after loading and drops the original.

The first weight update from the trainer then finds no parameter to write to. Computing on the live weight costs some
speed and keeps the model reloadable.
"""

import torch
from vllm.model_executor.layers import utils as layer_utils


def _dispatch_live_linear(layer: torch.nn.Module, remove_weight: bool) -> None:
    layer.cpu_linear = torch.nn.functional.linear


def keep_linear_weights() -> None:
    """Let unquantised linear layers multiply with their current weight."""
    layer_utils.dispatch_cpu_unquantized_gemm = _dispatch_live_linear
