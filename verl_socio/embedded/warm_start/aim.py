"""Where to point: pixels deep inside a place, spread over its parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage


def spread(parts: Sequence[np.ndarray], count: int) -> np.ndarray:
    """Points on different parts, and on different slices of a part where there are more points than parts.

    Args:
        parts: bool (H, W) each; those that shall be pointed at first come first.
        count: How many points.

    Returns:
        int (count, 2), x and y in pixels; sorted from left to right.
    """
    found = []
    for number, part_hw in enumerate(parts[:count]):
        share = len(range(number, count, len(parts)))
        found += [_centre(slice_hw) for slice_hw in _slices(part_hw, share)]
    return np.array(sorted(found))


def _slices(mask_hw: np.ndarray, count: int) -> list[np.ndarray]:
    """A part cut into equal areas across its long side."""
    if count == 1:
        return [mask_hw]
    pixels_yx = np.argwhere(mask_hw)
    centred = pixels_yx - pixels_yx.mean(axis=0)
    along = centred @ np.linalg.svd(centred, full_matrices=False)[2][0]
    slices = []
    for chosen in np.array_split(np.argsort(along, kind="stable"), count):
        slice_hw = np.zeros_like(mask_hw)
        slice_hw[tuple(pixels_yx[chosen].T)] = True
        slices.append(slice_hw)
    return slices


def _centre(mask_hw: np.ndarray) -> tuple[int, int]:
    """The pixel that is farthest from the mask's edge, (x, y)."""
    window = ndimage.find_objects(mask_hw.astype(np.int8))[0]
    depth_hw = ndimage.distance_transform_edt(np.pad(mask_hw[window], 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(np.argmax(depth_hw)), depth_hw.shape)
    return window[1].start + int(x), window[0].start + int(y)
