"""A sample's right answer as it is evaluated: the mask on the image's pixels, where the set has one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from verl_socio.data.sample import Sample, label_array, split_labels
from verl_socio.errors import invalid
from verl_socio.geometry import center_box, label_instances
from verl_socio.metrics import MaskScore, measure


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """What a sample's result is held against.

    Attributes:
        size_wh: Width and height of the image in pixels.
        target_hw: `(H, W)` bool, or None in sets that have no masks.
        ignore_hw: `(H, W)` bool, pixels that count on neither side, or None where there are none.
    """

    size_wh: tuple[int, int]
    target_hw: np.ndarray | None
    ignore_hw: np.ndarray | None

    @classmethod
    def load(cls, sample: Sample) -> GroundTruth:
        """Read a sample's mask, or its image's size where the set has no masks.

        Raises:
            ValueError: There is no mask, box or count at all, the mask cannot be read or has another size than the
                image, or the image has another size than its boxes were made for.
        """
        truth = sample.truth
        if sample.target is None and (truth.boxes_xyxy is not None or truth.count is not None):
            size_wh, target_hw, ignore_hw = sample.satellite.size_wh, None, None
        else:
            target_hw, ignore_hw = sample.target_and_ignored()
            size_wh = (target_hw.shape[1], target_hw.shape[0])
        if truth.size_wh not in (None, size_wh):
            rule = f"must have the size that its answer was made for, {truth.size_wh}"
            raise invalid(f"image of {sample.id}", size_wh, rule, "restore the picture in its own size")
        if ignore_hw is not None and not ignore_hw.any():
            ignore_hw = None
        return cls(size_wh, target_hw, ignore_hw)

    @classmethod
    def without_picture(cls, sample: Sample) -> GroundTruth:
        """Read what a sample counts where its picture can no longer be read: its mask, or the size that is known.

        Raises:
            ValueError: The mask cannot be read either, or the set has no masks and does not know its images' sizes.
        """
        if sample.target is None:
            return cls(sample.truth.size_wh or sample.satellite.size_wh, None, None)
        labels_hw = label_array(sample.target, sample.truth.mask_channel)
        target_hw, ignore_hw = split_labels(labels_hw, sample.truth.ignore_label)
        return cls((target_hw.shape[1], target_hw.shape[0]), target_hw, ignore_hw)

    @property
    def area(self) -> int | None:
        """Pixels of the target."""
        return None if self.target_hw is None else int(np.count_nonzero(self.target_hw))

    @property
    def instances(self) -> int | None:
        """Connected regions of the target of more than 10 pixels."""
        return None if self.target_hw is None else label_instances(self.target_hw)[1]

    def score(self, mask_hw: np.ndarray, *, answered: bool) -> MaskScore | None:
        """Measure a mask as `verl_socio.metrics.measure` does; None in sets that have no masks."""
        if self.target_hw is None:
            return None
        return measure(mask_hw, self.target_hw, self.ignore_hw, answered=answered)

    def center_box(self, share: float | None) -> MaskScore | None:
        """Measure the baseline, a centred box of that share of the image; None without a share or a mask."""
        if self.target_hw is None or share is None:
            return None
        return self.score(center_box_mask(self.target_hw.shape, share), answered=True)


def center_box_mask(shape_hw: tuple[int, ...], share: float) -> np.ndarray:
    """The baseline's mask: the pixels whose centres lie in a centred box of the image's proportions.

    Args:
        shape_hw: Height and width of the image in pixels.
        share: Share of the image inside the box, above 0 and at most 1.

    Returns:
        `(H, W)` bool.
    """
    height, width = shape_hw
    left, top, right, bottom = np.ceil(center_box((width, height), share) - 0.5).astype(int).tolist()
    mask_hw = np.zeros((height, width), dtype=bool)
    mask_hw[top:bottom, left:right] = True
    return mask_hw
