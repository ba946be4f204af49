"""What a segmenter gives back, and the one error it raises when it cannot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from verl_socio.errors import invalid


class SegmentationError(RuntimeError):
    """A segmenter could not do what it was asked: there is no mask, which is not the same as an empty mask.

    Attributes:
        uri: The image asked about.
        reason: What went wrong.
    """

    def __init__(self, uri: str, reason: str) -> None:
        """Build the error; both parts become `args`, so that it survives pickling between processes."""
        super().__init__(uri, reason)
        self.uri = uri
        self.reason = reason

    def __str__(self) -> str:
        """The line a user reads."""
        return f"segmentation of {self.uri} failed: {self.reason}"


@dataclass(frozen=True, eq=False)
class Masks:
    """The masks of the prompts of one answer on one image, in the order of the prompts.

    Attributes:
        masks_nhw: bool (N, H, W), N >= 0, in the image's own size.
        predicted_iou: float (N,), the segmenter's own estimate of each mask's IoU with the truth.
    """

    masks_nhw: np.ndarray
    predicted_iou: np.ndarray

    def __post_init__(self) -> None:
        """Check types and shapes.

        Raises:
            ValueError: The masks are not bool (N, H, W) with H and W above 0, or the scores are not N finite floats.
        """
        masks, scores = self.masks_nhw, self.predicted_iou
        if masks.dtype != np.bool_ or masks.ndim != 3 or 0 in masks.shape[1:]:
            found = f"{masks.dtype} {masks.shape}"
            raise invalid("masks_nhw", found, "must be bool of shape (N, H, W), H, W > 0", "threshold the logits")
        if not np.issubdtype(scores.dtype, np.floating) or scores.shape != masks.shape[:1]:
            found = f"{scores.dtype} {scores.shape}"
            raise invalid("predicted_iou", found, f"must be float of shape ({len(masks)},)", "give one score a mask")
        if not np.isfinite(scores).all():
            raise invalid("predicted_iou", scores.tolist(), "must be finite", "raise SegmentationError instead")

    @classmethod
    def none(cls, size_wh: tuple[int, int]) -> Masks:
        """No mask at all (N = 0) on an image of `size_wh` pixels: the answer to no prompt."""
        return cls(np.zeros((0, size_wh[1], size_wh[0]), dtype=bool), np.zeros(0))

    def union(self) -> np.ndarray:
        """The pixels of any mask: bool (H, W); all False when there is no mask."""
        return np.asarray(self.masks_nhw.any(axis=0))
