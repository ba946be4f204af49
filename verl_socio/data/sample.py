"""A sample and its images, held as references: no pixel is read before it is looked at."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from PIL import Image

from verl_socio.data import coco, tables
from verl_socio.data.truth import UNKNOWN, Truth
from verl_socio.errors import invalid
from verl_socio.text import is_whole

LEVELS = ("name", "class", "function")
_OPTIONAL = ("map", "target", "level", "truth")

# Everything that Pillow's readers are known to raise on a damaged file.
_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    IndexError,
    KeyError,
    OverflowError,
    struct.error,
    zlib.error,
)
_PICTURE_MODES = frozenset("1 L LA La P PA RGB RGBA RGBa RGBX CMYK YCbCr HSV LAB".split())


@dataclass(frozen=True)
class ImageRef:
    """Where an image is.

    Attributes:
        uri: A file path; or `parquet:/abs/file.parquet#<row>/<column>`; or `hub:<data set id or
            folder>#<split>/<row>/<column>`; or `coco:/abs/instances.json#<annotation>`. A row of a table is opened
            through a memory map, so that reading row k costs the same wherever it lies.
    """

    uri: str

    def open(self, mode: str | None = "RGB") -> Image.Image:
        """Read and decode the image.

        Args:
            mode: "RGB" for pictures (transparent parts are shown on white); None keeps the file's own mode, which is
                what a mask needs.

        Returns:
            The decoded image.

        Raises:
            ValueError: There is no such image, it cannot be decoded, it is larger than Pillow's limit against
                decompression bombs, or its mode has no faithful 8-bit picture. Never a stand-in image.
        """
        source = self._source()
        try:
            with Image.open(source) as image:
                self._check_size(image.size)
                image.load()
                decoded = image.copy()
        except Image.DecompressionBombError as error:
            raise self._too_large(str(error)) from error
        except _UNREADABLE as error:
            raise self._unreadable(error) from error
        return decoded if mode is None else self._as_rgb(decoded, mode)

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels, from the file's header alone.

        Raises:
            ValueError: As for `open`, as far as the header shows it.
        """
        source = self._source()
        try:
            with Image.open(source) as image:
                self._check_size(image.size)
                return image.size
        except Image.DecompressionBombError as error:
            raise self._too_large(str(error)) from error
        except _UNREADABLE as error:
            raise self._unreadable(error) from error

    def encoded(self) -> bytes:
        """The image file's bytes as they are stored, undecoded.

        Raises:
            ValueError: There is no such image.
        """
        source = self._source()
        if isinstance(source, io.BytesIO):
            return source.getvalue()
        try:
            return source.read_bytes()
        except OSError as error:
            raise self._unreadable(error) from error

    def _source(self) -> Path | io.BytesIO:
        if self.uri.startswith(coco.COCO):
            return coco.mask_source(self.uri)
        if self.uri.startswith((tables.PARQUET, tables.HUB)):
            return tables.image_source(self.uri)
        path = Path(self.uri)
        if not path.is_file():
            raise invalid("image", self.uri, "must be an existing image file", "restore the file or correct its path")
        return path

    def _as_rgb(self, image: Image.Image, mode: str) -> Image.Image:
        if mode != "RGB":
            raise invalid("mode", mode, "must be 'RGB' or None", "ask for 'RGB' for pictures and None for masks")
        if image.mode not in _PICTURE_MODES:
            rule = f"must be an 8-bit picture, but its mode is {image.mode}"
            raise invalid("image", self.uri, rule, "convert the file to 8 bits a channel (PNG or JPEG)")
        if image.has_transparency_data:
            # Dropping alpha would show whatever colour lies under the transparent parts, mostly black.
            layers = image.convert("RGBA")
            white = Image.new("RGBA", layers.size, "white")
            return Image.alpha_composite(white, layers).convert("RGB")
        return image.convert("RGB")

    def _check_size(self, size_wh: tuple[int, int]) -> None:
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and size_wh[0] * size_wh[1] > limit:
            raise Image.DecompressionBombError(f"{size_wh[0]}x{size_wh[1]} px is above the limit of {limit} px")

    def _too_large(self, found: str) -> ValueError:
        rule = f"must not be a decompression bomb ({found})"
        return invalid("image", self.uri, rule, "cut the picture into tiles, or replace the file if it is damaged")

    def _unreadable(self, error: Exception) -> ValueError:
        rule = f"must be a readable image ({type(error).__name__}: {error})"
        return invalid("image", self.uri, rule, "replace the file with an intact PNG or JPEG")


@dataclass(frozen=True)
class Sample:
    """One question about one place.

    Attributes:
        id: Unique within its split.
        question: What is asked for: a name ("Jinan Zoo"), a class ("Express Delivery") or a function ("Educational").
        satellite: The satellite image, or whatever picture a set without maps has; the target lies on its pixels.
        map: The map of the same place, or None where there is none.
        target: The mask of the answer, or None where it is not known.
        level: "name", "class" or "function"; None in sets that know no levels.
        truth: What is known of the answer beside its mask.
    """

    id: str
    question: str
    satellite: ImageRef
    map: ImageRef | None
    target: ImageRef | None
    level: str | None
    truth: Truth = UNKNOWN

    def __post_init__(self) -> None:
        """Check the text fields.

        Raises:
            ValueError: An empty id or question, a question with half a surrogate pair, or an unknown level.
        """
        if not self.id.strip():
            raise invalid("id", self.id, "must not be empty", "give every sample an id of its own")
        if not self.question.strip():
            raise invalid(f"question of {self.id}", self.question, "must not be empty", "write what is asked for")
        if not is_whole(self.question):
            rule = "must hold whole characters, but holds half a surrogate pair"
            raise invalid(f"question of {self.id}", self.question, rule, "write it again")
        if self.level is not None and self.level not in LEVELS:
            raise invalid(f"level of {self.id}", self.level, f"must be one of {', '.join(LEVELS)}", "use one of them")

    def to_row(self) -> dict[str, str | None]:
        """The sample as strings: one row of a table, without pixels."""
        row: dict[str, str | None] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            row[field.name] = value.uri if isinstance(value, ImageRef) else value
        row["truth"] = self.truth.to_text()
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, str | None]) -> Sample:
        """Build a sample from a row written by `to_row`; columns beyond the sample's own are left alone.

        Raises:
            ValueError: A column is missing, is not text, or holds what a sample may not hold.
        """
        values: dict[str, str | None] = {}
        for field in fields(cls):
            value = row.get(field.name)
            if not isinstance(value, str) and (value is not None or field.name not in _OPTIONAL):
                raise invalid(f"column {field.name}", value, "must hold text", "write the row with Sample.to_row")
            values[field.name] = value
        text = {name: value for name, value in values.items() if value is not None}
        return cls(
            id=text["id"],
            question=text["question"],
            satellite=ImageRef(text["satellite"]),
            map=ImageRef(text["map"]) if "map" in text else None,
            target=ImageRef(text["target"]) if "target" in text else None,
            level=text.get("level"),
            truth=Truth.from_text(text.get("truth")),
        )

    def target_mask(self) -> np.ndarray:
        """The target's mask: bool (H, W) in the satellite's own pixels, True where the label marks the target.

        Returns:
            The mask. It may be all False; whether that is allowed is for `validate` and the trainer to say.

        Raises:
            ValueError: There is no target, it cannot be read, or its size is not the satellite's.
        """
        return self.target_and_ignored()[0]

    def target_and_ignored(self) -> tuple[np.ndarray, np.ndarray | None]:
        """The target's mask as `target_mask` gives it, and the pixels that count on neither side.

        Returns:
            bool (H, W), True where the label is above 0 and not the one to ignore; and bool (H, W), True where it is
            the one to ignore, or None in sets that know no such label.

        Raises:
            ValueError: As for `target_mask`.
        """
        if self.target is None:
            raise invalid(f"target of {self.id}", None, "must be a mask image", "add a mask, or use other samples")
        labels_hw = label_array(self.target, self.truth.mask_channel)
        size_wh = self.satellite.size_wh
        if labels_hw.shape != (size_wh[1], size_wh[0]):
            found = f"{labels_hw.shape[1]}x{labels_hw.shape[0]} px"
            rule = f"must have the satellite's size, {size_wh[0]}x{size_wh[1]} px, but has {found}"
            raise invalid(f"target of {self.id}", self.target.uri, rule, "draw the mask on the satellite's own pixels")
        return split_labels(labels_hw, self.truth.ignore_label)


def split_labels(labels_hw: np.ndarray, ignore_label: int | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Tell target and ignored pixels of a mask's labels, `(H, W)`, apart; as `Sample.target_and_ignored` returns them.

    LISA's data (arXiv 2308.00692) label 255 what counts on neither side; for most sets 255 is the target.
    """
    if ignore_label is None:
        return labels_hw > 0, None
    ignored_hw = labels_hw == ignore_label
    return (labels_hw > 0) & ~ignored_hw, ignored_hw


def label_array(image: ImageRef, channel: int | None = None) -> np.ndarray:
    """The labels of a mask image: (H, W), an integer or bool each pixel.

    Palette images give their indices, 16 and 32-bit ones their values.

    Args:
        image: The mask.
        channel: The channel of a colour image that holds the labels; None takes the largest of the three, so that any
            colour but black is a label.

    Raises:
        ValueError: The image cannot be read.
    """
    decoded = image.open(mode=None)
    if decoded.mode in ("LA", "La"):
        decoded = decoded.convert("L")
    elif decoded.mode in ("RGBA", "RGBa", "PA"):
        decoded = decoded.convert("RGB")
    labels = np.asarray(decoded)
    if labels.ndim == 2:
        return labels
    return labels.max(axis=-1) if channel is None else labels[..., channel]
