"""Drawing: the feedback that the model is shown, and panels that a person looks at."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from verl_socio.errors import invalid
from verl_socio.geometry import check_mask

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class FeedbackStyle:
    """How an answer and its mask are drawn (defaults: SocioReasoner).

    Attributes:
        box_rgb: Colour of the outlines, 0..255.
        box_width: Thickness of the outlines in pixels of the image, drawn inwards; 0 for none.
        mask_rgb: Colour of the mask, 0..255.
        mask_alpha: Share of the mask's colour, 0..1.

    Raises:
        ValueError: If a value is out of its range.
    """

    box_rgb: tuple[int, int, int] = (0, 0, 255)
    box_width: int = 2
    mask_rgb: tuple[int, int, int] = (255, 0, 0)
    mask_alpha: float = 0.4

    def __post_init__(self) -> None:
        """Check what a user may have written in a config."""
        for name in ("box_rgb", "mask_rgb"):
            colour = getattr(self, name)
            if len(colour) != 3 or not all(isinstance(part, int) and 0 <= part <= 255 for part in colour):
                raise invalid(
                    f"feedback.{name}", colour, "must be three whole numbers 0..255", "write [red, green, blue]"
                )
        if not isinstance(self.box_width, int) or self.box_width < 0:
            raise invalid("feedback.box_width", self.box_width, "must be a whole number, 0 or more", "use 2")
        if not 0.0 <= self.mask_alpha <= 1.0:
            raise invalid("feedback.mask_alpha", self.mask_alpha, "must lie in 0..1", "use 0.4")


def draw_feedback(
    image: Image.Image, boxes_xyxy: np.ndarray, mask_hw: np.ndarray | None, style: FeedbackStyle
) -> Image.Image:
    """Draw the boxes of an answer as outlines, then its mask over them.

    Args:
        image: Any mode and size; left as it is.
        boxes_xyxy: `(N, 4)` half-open boxes in the image's own pixels, rounded to whole pixels here; parts outside the
            image are not drawn.
        mask_hw: `(H, W)` bool of the image's own size, or None for boxes only.
        style: Colours and widths.

    Returns:
        A new RGB image of the same size.

    Raises:
        ValueError: If the mask is not bool or not of the image's size, or the boxes are not `(N, 4)` finite numbers.
    """
    boxes = np.asarray(boxes_xyxy, dtype=np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all():
        raise invalid("boxes_xyxy", boxes.shape, "must be (N, 4) finite numbers", "pass np.zeros((0, 4)) for none")
    drawn = image.convert("RGB")  # a copy, of an RGB image too
    if style.box_width > 0:
        _outline(drawn, boxes, style)
    if mask_hw is None:
        return drawn
    check_mask("mask_hw", mask_hw)
    if mask_hw.shape != (image.height, image.width):
        rule = f"must have the image's shape {(image.height, image.width)}"
        raise invalid("mask_hw.shape", mask_hw.shape, rule, "segment at the image's own size")
    return _blend(drawn, mask_hw, style)


def _outline(image: Image.Image, boxes_xyxy: np.ndarray, style: FeedbackStyle) -> None:
    """Draw the outlines into the image."""
    draw = ImageDraw.Draw(image)
    # A side that lies outside must stay outside, by at least its own thickness, but a box reaching a million pixels out
    # would make the drawing slow.
    margin = style.box_width + 1
    limit = np.array([image.width, image.height] * 2) + margin
    for x1, y1, x2, y2 in np.clip(np.rint(boxes_xyxy), -margin, limit).astype(int).tolist():
        # Pillow's corners are inclusive; a box narrower than a pixel still shows as a line.
        draw.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=style.box_rgb, width=style.box_width)


def _blend(image: Image.Image, mask_hw: np.ndarray, style: FeedbackStyle) -> Image.Image:
    """Mix the mask's colour into the image where the mask is set."""
    pixels = np.array(image)
    mixed = (1.0 - style.mask_alpha) * pixels[mask_hw] + style.mask_alpha * np.array(style.mask_rgb)
    pixels[mask_hw] = np.rint(mixed).astype(np.uint8)
    return Image.fromarray(pixels)


def panel(tiles: Sequence[tuple[str, Image.Image]], columns: int) -> Image.Image:
    """Set images with captions side by side, for a person to read.

    Images keep their size; the captions' letters grow with them, and a long caption is broken into lines. The font that
    comes with Pillow is Latin: other scripts show as boxes.

    Args:
        tiles: (caption, image) pairs, row by row.
        columns: Tiles in a row, 1 or more.

    Returns:
        An RGB image.

    Raises:
        ValueError: If there is no tile or no column.
    """
    if not tiles:
        raise invalid("panel.tiles", 0, "there is nothing to show", "pass a tile")
    if columns < 1:
        raise invalid("panel.columns", columns, "must be 1 or more", "use 4")
    columns = min(columns, len(tiles))
    width = max(image.width for _, image in tiles)
    height = max(image.height for _, image in tiles)
    size = max(12, round(width / 26))
    font = ImageFont.load_default(size=size)
    gap = max(4, size // 2)
    line_height = math.ceil(size * 1.3)
    # Narrow pictures get a wider cell rather than captions of one letter a line.
    cell_width = max(width, 8 * size)
    captions = [_lines(caption, font, cell_width) for caption, _ in tiles]
    rows = [range(start, min(start + columns, len(tiles))) for start in range(0, len(tiles), columns)]
    caption_heights = [max(len(captions[index]) for index in row) * line_height for row in rows]
    sheet_width = columns * (cell_width + gap) + gap
    sheet_height = sum(caption_heights) + len(rows) * (height + gap) + gap
    sheet = Image.new("RGB", (sheet_width, sheet_height), "white")
    draw = ImageDraw.Draw(sheet)
    top = gap
    for row, caption_height in zip(rows, caption_heights, strict=True):
        for column, index in enumerate(row):
            left = gap + column * (cell_width + gap)
            for number, line in enumerate(captions[index]):
                draw.text((left, top + number * line_height), line, fill="black", font=font)
            sheet.paste(tiles[index][1].convert("RGB"), (left, top + caption_height))
        top += caption_height + height + gap
    return sheet


def _lines(caption: str, font: Font, width: int, most: int = 6) -> list[str]:
    """Break a caption between words, and inside a word that is wider than a line."""
    # A caption may hold a place's name as the model wrote it: half a character would stop the drawing.
    caption = caption.encode("utf-8", "replace").decode("utf-8")
    lines: list[str] = []
    for paragraph in caption[:600].splitlines():
        line = ""
        for word in paragraph.split():
            joined = f"{line} {word}" if line else word
            if font.getlength(joined) <= width:
                line = joined
                continue
            if line:
                lines.append(line)
            *full, line = _pieces(word, font, width)
            lines += full
        lines.append(line)
    if len(lines) > most:
        lines = [*lines[: most - 1], lines[most - 1][:-3] + "..."]
    return lines


def _pieces(word: str, font: Font, width: int) -> list[str]:
    """Cut a word into pieces no wider than a line, one letter at least."""
    pieces = [""]
    for letter in word:
        if pieces[-1] and font.getlength(pieces[-1] + letter) > width:
            pieces.append("")
        pieces[-1] += letter
    return pieces
