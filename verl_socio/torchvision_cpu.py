"""Make `import torchvision` work where its build is the CUDA one and torch has no CUDA.

Package indexes serve the CUDA build of torchvision. Beside a CPU build of torch its compiled library cannot be loaded,
and the import then stops at two operators that it describes without having them. Where torch is a CUDA build, or the
matching CPU build of torchvision is installed, nothing here has any effect.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_keep: list[object] = []  # torch forgets a library's operators when the object that defined them is collected


def make_importable() -> None:
    """Let torchvision be imported in this process; call it before the first import of torchvision.

    Defines the operators `torchvision::nms` (with plain torch code) and `torchvision::qnms` (never run here) when the
    compiled library cannot be loaded by a CPU build of torch, and hides `torchcodec` when that is broken for the same
    reason. Calling it again, after torchvision was imported, or where torchvision is not installed, does nothing.
    """
    if "torchvision" in sys.modules or _keep:
        return
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    import torch

    if torch.version.cuda is not None or torch.version.hip is not None:
        return
    _hide_torchcodec()
    if not _loads(Path(spec.origin).parent, "_C*.so"):
        _define_operators()


def _hide_torchcodec() -> None:
    """Make torchcodec look absent where none of its libraries can be loaded: an import of it would raise RuntimeError.

    transformers and vLLM ask whether the package is there, not whether it works.
    """
    if "torchcodec" in sys.modules:
        return
    spec = importlib.util.find_spec("torchcodec")
    if spec is not None and spec.origin is not None and not _loads(Path(spec.origin).parent, "libtorchcodec_core*.so"):
        sys.modules["torchcodec"] = None  # type: ignore[assignment]


def _loads(folder: Path, pattern: str) -> bool:
    """Whether one of a package's compiled libraries can be loaded beside this torch."""
    import torch

    for library in sorted(folder.glob(pattern)):
        try:
            torch.ops.load_library(str(library))
        except OSError:
            continue
        return True
    return False


def _define_operators() -> None:
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.impl("nms", _nms, "CPU")
    _keep.append(library)


def _nms(dets: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Non-maximum suppression: boxes (N, 4) xyxy, scores (N,) -> int64 indices kept, best score first."""
    import torch

    order = torch.argsort(scores, descending=True, stable=True)
    corners = dets[order].to(torch.float64)
    low, high = corners[:, :2], corners[:, 2:]
    areas = (high - low).prod(dim=1)
    kept: list[int] = []
    alive = torch.ones(len(order), dtype=torch.bool)
    for rank in range(len(order)):
        if not alive[rank]:
            continue
        kept.append(rank)
        overlap = (torch.minimum(high, high[rank]) - torch.maximum(low, low[rank])).clamp(min=0).prod(dim=1)
        alive &= overlap <= iou_threshold * (areas + areas[rank] - overlap)
    return order[torch.tensor(kept, dtype=torch.long)]
