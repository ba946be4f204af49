"""What training minimises: SAM's losses, and two heads on the image features that are thrown away afterwards."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

_FOCAL = 6.0
_SHIFTS = (1, 2, 4)
_EMBEDDING = 16


def mask_losses(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """6 focal + dice of each mask.

    Args:
        logits: float (N, K, H, W).
        targets: float (N, H, W), 0 or 1.

    Returns:
        float (N, K). Focal (Lin et al. 2017, gamma 2, alpha 0.25) and dice as in Segment Anything, whose weight of 20
        on the focal loss is meant for larger images.
    """
    targets = targets[:, None].expand_as(logits)
    chance = logits.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    missed = chance + targets - 2.0 * chance * targets
    focal = ((0.75 - 0.5 * targets) * cross_entropy * missed.square()).mean((-2, -1))
    overlap = (chance * targets).sum((-2, -1))
    dice = 1.0 - (2.0 * overlap + 1.0) / (chance.sum((-2, -1)) + targets.sum((-2, -1)) + 1.0)
    return _FOCAL * focal + dice


def prompt_loss(
    logits: torch.Tensor, scores: torch.Tensor, targets: torch.Tensor, settled: torch.Tensor | None = None
) -> torch.Tensor:
    """The loss of a batch of prompts.

    Args:
        logits: float (N, 4, H, W): the single mask, and the three that compete.
        scores: Predicted IoU of each, float (N, 4).
        targets: float (N, H, W), 0 or 1.
        settled: Prompts that leave nothing open, bool (N,), for which each of the three masks has to be right; none by
            default.

    Returns:
        The mean over prompts: the best of the three masks (the mean of the three where settled), the single one, and
        L1 of the four predicted IoUs.
    """
    losses = mask_losses(logits, targets)
    with torch.no_grad():
        found, wanted = logits > 0.0, targets[:, None] > 0.5
        union = (found | wanted).sum((-2, -1))
        iou = (found & wanted).sum((-2, -1)) / union.clamp(min=1)
    three = losses[:, 1:].amin(1)
    if settled is not None:
        three = torch.where(settled, losses[:, 1:].mean(1), three)
    return (three + losses[:, 0] + (scores - iou).abs().mean(1)).mean()


def balanced_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in which target and ground weigh the same: leaves no way to do well with empty masks.

    Args:
        logits: float (N, K, H, W).
        targets: float (N, H, W), 0 or 1.

    Returns:
        The mean over prompts and masks.
    """
    targets = targets[:, None].expand_as(logits)
    share = targets.mean((-2, -1), keepdim=True).clamp(1e-3, 1.0 - 1e-3)
    weights = 0.5 * (targets / share + (1.0 - targets) / (1.0 - share))
    return (weights * F.binary_cross_entropy_with_logits(logits, targets, reduction="none")).mean()


def update(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    """One step of the optimizer, with the gradients' norm clipped at 1."""
    optimizer.zero_grad()
    loss.backward()
    for group in optimizer.param_groups:
        torch.nn.utils.clip_grad_norm_(group["params"], 1.0)
    optimizer.step()


class FeatureHeads(nn.Module):
    """Linear heads on the image features: which surface is here, and do two pixels lie in one cell."""

    def __init__(self, channels: int, num_surfaces: int) -> None:
        """Build the heads.

        Args:
            channels: Of all feature levels together.
            num_surfaces: Classes of pixels, open ground among them.
        """
        super().__init__()
        self.surface = nn.Conv2d(channels, num_surfaces, 1)
        self.embedding = nn.Conv2d(channels, _EMBEDDING, 1)
        self.scale = nn.Parameter(torch.tensor([2.0, 1.0]))

    def forward(self, levels: list[torch.Tensor], cells: torch.Tensor, surfaces: torch.Tensor) -> torch.Tensor:
        """The loss of both heads.

        Args:
            levels: Features (B, C, h, w), the finest level first; the heads work in its size.
            cells: Cell of each pixel, int64 (B, H, W), 0 for none.
            surfaces: Surface of each pixel, int64 (B, H, W), 0 for none.

        Returns:
            Cross-entropy of the surfaces plus that of the pairs of pixels, half of which weight is on edges.
        """
        size = levels[0].shape[-2:]
        resized = [F.interpolate(level, size, mode="bilinear", align_corners=False) for level in levels]
        features = torch.cat(resized, 1)
        cells, surfaces = (F.interpolate(m[:, None].float(), size)[:, 0].long() for m in (cells, surfaces))
        loss = F.cross_entropy(self.surface(features), surfaces)
        embedding = self.embedding(features)
        for shift in _SHIFTS:
            for axis in (-1, -2):
                length = size[axis] - shift
                first, second = (embedding.narrow(axis, start, length) for start in (0, shift))
                one, other = (cells.narrow(axis, start, length) for start in (0, shift))
                logits = self.scale[0] - self.scale[1] * (first - second).square().sum(1)
                known = (one > 0) | (other > 0)
                same = (one == other)[known].float()
                edges = same.mean().clamp(0.05, 0.95)
                weights = torch.where(same > 0.5, 0.5 / edges, 0.5 / (1.0 - edges))
                pairs = F.binary_cross_entropy_with_logits(logits[known], same, weight=weights)
                loss = loss + pairs / (2 * len(_SHIFTS))
        return loss
