"""Frames, boxes and regions: the one place that knows in which coordinates a number is written.

Three frames meet in an episode: the image's own pixels (targets, masks, results), the model's (what it writes in its
answer) and the segmenter's. All of them lie over the whole image, so a conversion is a plain scaling of each axis, with
the origin at the upper left corner of the upper left pixel. Boxes are half-open: `x2` is one past the last column.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from verl_socio.errors import invalid

MAX_ASPECT_RATIO = 200


@dataclass(frozen=True)
class Frame:
    """A coordinate system that spans a whole image.

    Attributes:
        size_wh: Extent of the image in this frame's units, both above 0.

    Raises:
        ValueError: If an extent is not a finite number above 0.
    """

    size_wh: tuple[float, float]

    def __post_init__(self) -> None:
        """Refuse an extent that no image can have."""
        width, height = self.size_wh
        if not (math.isfinite(width) and math.isfinite(height) and width > 0 and height > 0):
            raise invalid("frame.size_wh", self.size_wh, "must be two finite numbers above 0", "pass (width, height)")

    @classmethod
    def of_image(cls, size_wh: Sequence[int]) -> "Frame":
        """Return the frame of an image's own pixels, for `size_wh` = (width, height) in pixels."""
        width, height = size_wh
        return cls((float(width), float(height)))


def convert(coordinates: np.ndarray, source: Frame, target: Frame) -> np.ndarray:
    """Write coordinates of one frame in another.

    A value rounded to whole units of a frame at least as fine as the image (`frame.size_wh >= image size`) comes back
    to within half a pixel. A coarser frame cannot keep that: 0..1000 over an image 4000 px wide has units of 4 px, so
    a rounded value comes back to within 2 px only.

    Args:
        coordinates: `(..., 4)` boxes x1, y1, x2, y2 or `(..., 2)` points x, y, in units of `source`.
        source: Frame the coordinates are written in.
        target: Frame to write them in.

    Returns:
        float64 array of the same shape, in units of `target`; always a new array, never rounded or clipped.

    Raises:
        ValueError: If the last axis has neither 2 nor 4 entries.

    Example:
        >>> convert(np.array([350, 700, 700, 1050]), Frame((700, 1400)), Frame((1000, 1000))).tolist()
        [500.0, 500.0, 1000.0, 750.0]
    """
    values = np.asarray(coordinates, dtype=np.float64)
    if values.ndim == 0 or values.shape[-1] not in (2, 4):
        raise invalid("coordinates.shape", values.shape, "the last axis must hold x, y or x1, y1, x2, y2", "reshape it")
    repeat = values.shape[-1] // 2
    # Multiply first: with whole numbers the product is exact and only the division rounds.
    converted: np.ndarray = values * np.tile(target.size_wh, repeat) / np.tile(source.size_wh, repeat)
    return converted


@dataclass(frozen=True)
class VisionGrid:
    """How a Qwen-VL image processor cuts an image into tokens.

    Attributes:
        patch_size: Side of a patch, pixels.
        merge_size: Patches merged into a token, per axis.
        min_pixels: Fewest pixels of the resized image.
        max_pixels: Most pixels of the resized image.

    Raises:
        ValueError: If a value is below 1 or the bounds are reversed.
    """

    patch_size: int
    merge_size: int
    min_pixels: int
    max_pixels: int

    def __post_init__(self) -> None:
        """Refuse a grid that no image fits."""
        for name in ("patch_size", "merge_size", "min_pixels", "max_pixels"):
            if getattr(self, name) < 1:
                raise invalid(
                    f"vision_grid.{name}", getattr(self, name), "must be 1 or more", "set a whole number above 0"
                )
        if self.min_pixels > self.max_pixels:
            raise invalid(
                "vision_grid.min_pixels", self.min_pixels, f"must not exceed max_pixels = {self.max_pixels}", "lower it"
            )

    @property
    def factor(self) -> int:
        """Side of a token in pixels of the resized image."""
        return self.patch_size * self.merge_size

    def resized_wh(self, size_wh: Sequence[int]) -> tuple[int, int]:
        """Return the size at which the model sees an image.

        The rule is Qwen2-VL's smart resize (arXiv 2409.12191; `smart_resize` in transformers): each side to the nearest
        multiple of the token side, then both scaled alike if the area leaves `min_pixels..max_pixels`.

        Args:
            size_wh: (width, height) of the image, pixels.

        Returns:
            (width, height) in pixels, both multiples of `factor`.

        Raises:
            ValueError: If a side is below 1 or the sides differ by more than a factor of 200.
        """
        width, height = size_wh
        if width < 1 or height < 1:
            raise invalid("image.size_wh", (width, height), "both sides must be 1 or more", "replace the image")
        if max(width, height) / min(width, height) > MAX_ASPECT_RATIO:
            rule = f"the longer side must be at most {MAX_ASPECT_RATIO} times the shorter one"
            raise invalid("image.size_wh", (width, height), rule, "crop the image")
        factor = self.factor
        # Python's round (half to even) on purpose: the processor rounds so, and one token more is another prompt.
        new_width, new_height = round(width / factor) * factor, round(height / factor) * factor
        if new_width * new_height > self.max_pixels:
            beta = math.sqrt(height * width / self.max_pixels)
            new_width = max(factor, math.floor(width / beta / factor) * factor)
            new_height = max(factor, math.floor(height / beta / factor) * factor)
        elif new_width * new_height < self.min_pixels:
            beta = math.sqrt(self.min_pixels / (height * width))
            new_width = math.ceil(width * beta / factor) * factor
            new_height = math.ceil(height * beta / factor) * factor
        return new_width, new_height

    def num_tokens(self, size_wh: Sequence[int]) -> int:
        """Return the number of image tokens in the prompt for an image of `size_wh` = (width, height) pixels."""
        width, height = self.resized_wh(size_wh)
        return (width // self.factor) * (height // self.factor)


def _thousandths(size_wh: Sequence[int], grid: VisionGrid) -> Frame:
    """0..1000 on both axes whatever the image (Qwen2-VL, Qwen3-VL)."""
    return Frame((1000.0, 1000.0))


def _resized_pixels(size_wh: Sequence[int], grid: VisionGrid) -> Frame:
    """Pixels of the smart-resized image (Qwen2.5-VL)."""
    return Frame.of_image(grid.resized_wh(size_wh))


MODEL_FRAMES: dict[str, Callable[[Sequence[int], VisionGrid], Frame]] = {
    "qwen2_vl": _thousandths,
    "qwen2_5_vl": _resized_pixels,
    "qwen3_vl": _thousandths,
    "qwen3_vl_moe": _thousandths,
}


def model_frame(model_type: str, size_wh: Sequence[int], grid: VisionGrid) -> Frame:
    """Return the frame in which a model writes the coordinates of an image.

    Args:
        model_type: `model_type` of the model's configuration.
        size_wh: (width, height) of the image, pixels.
        grid: The model's image grid.

    Returns:
        0..1000 on both axes for Qwen2-VL and Qwen3-VL, pixels of the smart-resized image for Qwen2.5-VL.

    Raises:
        ValueError: If the model type is unknown; the message lists the known ones.
    """
    if model_type not in MODEL_FRAMES:
        known = ", ".join(sorted(MODEL_FRAMES))
        fix = "use a known model or add its frame to verl_socio.geometry.MODEL_FRAMES"
        raise invalid("model.model_type", model_type, f"must be one of {known}", fix)
    return MODEL_FRAMES[model_type](size_wh, grid)


def box_iou(a_xyxy: np.ndarray, b_xyxy: np.ndarray) -> np.ndarray:
    """Return the overlap of every pair of boxes.

    Args:
        a_xyxy: `(N, 4)` boxes, any unit.
        b_xyxy: `(M, 4)` boxes, the same unit.

    Returns:
        `(N, M)` float64 intersection over union, 0..1; 0 where neither box has an area.
    """
    a = np.asarray(a_xyxy, dtype=np.float64).reshape(-1, 4)
    b = np.asarray(b_xyxy, dtype=np.float64).reshape(-1, 4)
    upper_left = np.maximum(a[:, None, :2], b[None, :, :2])
    lower_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    intersection = np.clip(lower_right - upper_left, 0.0, None).prod(axis=-1)
    area_a = np.clip(a[:, 2:] - a[:, :2], 0.0, None).prod(axis=-1)
    area_b = np.clip(b[:, 2:] - b[:, :2], 0.0, None).prod(axis=-1)
    union = area_a[:, None] + area_b[None, :] - intersection
    iou: np.ndarray = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    return iou


def best_pairs(gain_nm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pair rows with columns one to one so that the summed gain is largest (the Hungarian method).

    Args:
        gain_nm: `(N, M)` finite gains; either side may be empty.

    Returns:
        Row and column indices of the `min(N, M)` pairs, int64.
    """
    # Imported here because scipy.optimize takes 0.3 s to load and most users of this module never pair anything.
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(gain_nm, maximize=True)
    return rows, columns


def label_instances(mask_hw: np.ndarray, min_area: int = 10) -> tuple[np.ndarray, int]:
    """Number the connected regions of a mask.

    Regions touch over edges and corners (8-connectivity), so that a region is not split where it narrows to a diagonal.

    Args:
        mask_hw: `(H, W)` bool.
        min_area: Regions of this many pixels or fewer are left out.

    Returns:
        `(H, W)` int64 labels, 0 for the background and 1..K for the regions, and K.

    Raises:
        ValueError: If the mask is not a two-dimensional bool array.
    """
    from scipy import ndimage

    check_mask("mask_hw", mask_hw)
    labels_hw, count = ndimage.label(mask_hw, structure=np.ones((3, 3), dtype=bool))
    area = np.bincount(labels_hw.ravel(), minlength=count + 1)
    kept = area > min_area
    kept[0] = False
    renumbered = np.where(kept, np.cumsum(kept), 0)
    return renumbered[labels_hw], int(kept.sum())


def mask_instances(mask_hw: np.ndarray, min_area: int = 10) -> list[np.ndarray]:
    """Return the connected regions of more than `min_area` pixels, each as an `(H, W)` bool mask."""
    labels_hw, count = label_instances(mask_hw, min_area)
    return [labels_hw == label for label in range(1, count + 1)]


def mask_boxes(mask_hw: np.ndarray, min_area: int = 10) -> np.ndarray:
    """Return the bounding boxes of a mask's regions.

    Args:
        mask_hw: `(H, W)` bool.
        min_area: Regions of this many pixels or fewer are left out (10 in SocioReasoner's reward).

    Returns:
        `(K, 4)` float64 half-open boxes x1, y1, x2, y2 in the mask's pixels (`x2` = last column + 1).
    """
    from scipy import ndimage

    labels_hw, _ = label_instances(mask_hw, min_area)
    found = ndimage.find_objects(labels_hw)
    boxes = [(columns.start, rows.start, columns.stop, rows.stop) for rows, columns in found]
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


def filled_boxes(boxes_xyxy: np.ndarray, size_wh: Sequence[int]) -> np.ndarray:
    """Return the mask that boxes cover.

    Args:
        boxes_xyxy: `(N, 4)` half-open boxes in the image's pixels, rounded to whole ones here; what lies off the image
            is cut off.
        size_wh: (width, height) of the image, pixels.

    Returns:
        `(height, width)` bool.
    """
    width, height = size_wh
    mask_hw = np.zeros((height, width), dtype=bool)
    for left, top, right, bottom in np.clip(np.rint(boxes_xyxy), 0, [width, height] * 2).astype(int).tolist():
        mask_hw[top:bottom, left:right] = True
    return mask_hw


def inscribed_centers(mask_hw: np.ndarray, count: int) -> np.ndarray:
    """Return the centres of a mask's largest inscribed circles, the largest first.

    A circle's centre is the pixel farthest from everything off the mask; the next circle lies in what the ones before
    leave over (Seg-Zero's and VisionReasoner's target points). Where several pixels are equally far, the first in
    reading order is taken.

    Args:
        mask_hw: `(H, W)` bool; what lies off the image is off the mask.
        count: How many circles.

    Returns:
        `(count, 2)` float64 x, y in the mask's pixels, each in the middle of a pixel of the mask. Where nothing is left
        for another circle, the last centre is repeated; `(0, 2)` for an empty mask.

    Raises:
        ValueError: If the mask is not a two-dimensional bool array.
    """
    from scipy import ndimage

    check_mask("mask_hw", mask_hw)
    left = np.pad(mask_hw, 1)
    y, x = np.ogrid[: left.shape[0], : left.shape[1]]
    centers: list[tuple[float, float]] = []
    while left.any() and len(centers) < count:
        distance = ndimage.distance_transform_edt(left)
        row, column = np.unravel_index(int(distance.argmax()), distance.shape)
        left = left & ((x - column) ** 2 + (y - row) ** 2 >= distance[row, column] ** 2)
        centers.append((column - 0.5, row - 0.5))  # one for the margin, a half for the pixel's middle
    if centers:
        centers += [centers[-1]] * (count - len(centers))
    return np.array(centers, dtype=np.float64).reshape(-1, 2)


def without_overlaps(boxes_xyxy: np.ndarray, max_iou: float) -> np.ndarray:
    """Say which boxes stay when of two that overlap much only the larger one is kept.

    Args:
        boxes_xyxy: `(N, 4)` boxes, any unit.
        max_iou: A box with a higher IoU than this with a larger box that stays is left out, 0..1.

    Returns:
        `(N,)` bool. Of boxes of one size the first stays.
    """
    boxes = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    iou = box_iou(boxes, boxes)
    area = np.clip(boxes[:, 2:] - boxes[:, :2], 0.0, None).prod(axis=-1)
    kept = np.zeros(len(boxes), dtype=bool)
    for index in np.argsort(-area, kind="stable"):
        kept[index] = not (iou[index][kept] > max_iou).any()
    return kept


def center_box(size_wh: Sequence[float], fraction: float) -> np.ndarray:
    """Return the baseline's guess: a box in the middle of the image, of the image's own proportions.

    Args:
        size_wh: (width, height) of the image, any unit.
        fraction: Share of the image's area inside the box, above 0 and at most 1.

    Returns:
        `(4,)` float64 x1, y1, x2, y2 in the unit of `size_wh`.

    Raises:
        ValueError: If the share is outside (0, 1].

    Example:
        >>> center_box((100, 200), 0.25).tolist()
        [25.0, 50.0, 75.0, 150.0]
    """
    if not 0.0 < fraction <= 1.0:
        raise invalid("center_box.fraction", fraction, "must be above 0 and at most 1", "use 0.04 for SocioSeg")
    size = np.asarray(size_wh, dtype=np.float64)
    half = size * math.sqrt(fraction) / 2.0
    return np.concatenate([size / 2.0 - half, size / 2.0 + half])


def check_mask(field: str, mask_hw: np.ndarray) -> None:
    """Raise a `ValueError` that names `field` unless the array is `(H, W)` bool with at least one pixel."""
    if mask_hw.ndim != 2 or mask_hw.dtype != np.bool_ or mask_hw.size == 0:
        found = (mask_hw.shape, str(mask_hw.dtype))
        raise invalid(field, found, "a mask must be a two-dimensional bool array", "compare the label with > 0")
