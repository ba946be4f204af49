"""Throw-away heads on the visual tokens: what a token shows, told directly while nothing looks at it yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import nn
from torch.nn import functional

from verl_socio.city.catalog import KINDS, MARKERS, PLACE_FUNCTIONS
from verl_socio.embedded.qwen2_5_vl import MERGE_SIZE, PATCH_SIZE
from verl_socio.embedded.warm_start.scenes import Shot

# Function, kind and marker of an icon and function of a dot, in each patch; 0 for none.
_CLASSES = (len(PLACE_FUNCTIONS) + 1, len(KINDS) + 1, len(MARKERS) + 1, len(PLACE_FUNCTIONS) + 1)
_PATCHES = MERGE_SIZE**2
# Of the losses told together: marks are learnt soon, and would otherwise drown how far the cells reach.
_MARKS_WEIGHT = 0.2
# How far cells reach is told in steps of pixels, from spots that lie so many a side in each token.
_SPOTS = 4
_REACH_STEP = 2
_REACH_STEPS = 28
# Steps in which the heads tell where a box ends, over a side of the image: about half a digit of ten pixels.
_STEPS = 32


class Heads(nn.Module):
    """Read-outs of the visual tokens: of icons and dots on the map, of cells on the satellite.

    Those of the patches are linear. How far the cell around a spot reaches is told as a distribution over steps, as Li
    et al. tell boxes (Generalized Focal Loss, 2020): a regression stays long at a cell of ordinary size. A further one
    asks each token of the map for the words of its icons by their similarity to the words' own embeddings, so that
    attention by similarity finds an icon from its word. The others are read half-way through the text layers, where
    both images have met. They tell a token's row and column: values in attention carry no positions, so a model that
    has not found them by itself can look but not tell where it looks. And they tell where boxes end, at spots of the
    satellite those of the cell, where the map has an icon those of its place: what an answer has to say is then there
    to be looked up.

    Args:
        width: Width of the visual tokens and of the text layers.
        grid_hw: Rows and columns of visual tokens in an image.
        words: Token ids of the words for each function, kind and marker.
    """

    def __init__(self, width: int, grid_hw: tuple[int, int], words: Sequence[Sequence[Sequence[int]]]) -> None:
        super().__init__()
        self._grid_hw = grid_hw
        self.places = nn.Linear(width, sum(grid_hw))
        self.ends_of_cells = nn.Linear(width, _PATCHES * 4 * _STEPS)
        self.ends_of_places = nn.Linear(width, 4 * _STEPS)
        self._words = torch.tensor([token for family in words for names in family for token in names])
        counts = [len(names) for family in words for names in family]
        self._meanings = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.bias = nn.Parameter(torch.tensor(-2.0))
        self.marks = nn.Linear(width, _PATCHES * (sum(_CLASSES) + 4))
        self.reach = nn.Linear(width, _SPOTS**2 * 4 * _REACH_STEPS)

    def loss(
        self,
        map_tokens: torch.Tensor,
        satellite_tokens: torch.Tensor,
        shots: Sequence[Shot],
        embeddings: torch.Tensor,
    ) -> torch.Tensor:
        """Weighted sum of the read-outs' mean losses.

        Args:
            map_tokens: (N, tokens, width) of the maps.
            satellite_tokens: (N, tokens, width) of the satellite images.
            shots: The N scenes they show.
            embeddings: (vocabulary, width) of the model's words.
        """
        labels, offsets = (
            torch.from_numpy(np.stack(part)) for part in zip(*(_marks(shot) for shot in shots), strict=True)
        )
        said = self.marks(map_tokens).unflatten(-1, (_PATCHES, -1))
        *scores, places = said.split([*_CLASSES, 4], dim=-1)
        total = self._named(map_tokens, labels, embeddings)
        for index, score in enumerate(scores):
            label = labels[..., index]
            # Most patches are empty.
            weight = torch.where(label > 0, 1.0, 0.1)
            each = functional.cross_entropy(score.flatten(0, 2), label.flatten(), reduction="none")
            total = total + (each * weight.flatten()).sum() / weight.sum()
        wanted = torch.stack([labels[..., 0] > 0] * 2 + [labels[..., 3] > 0] * 2, dim=-1)
        total = total + functional.l1_loss(places[wanted], offsets[wanted])
        steps = torch.from_numpy(np.stack([_reach(shot.cells_hw) for shot in shots]))
        reach = self.reach(satellite_tokens).unflatten(-1, (_SPOTS**2, 4, _REACH_STEPS))
        return _MARKS_WEIGHT * total + functional.cross_entropy(reach.flatten(0, 3), steps.flatten(), ignore_index=-1)

    def place_loss(self, halfway: torch.Tensor) -> torch.Tensor:
        """Mean loss of telling row and column.

        Args:
            halfway: (images, tokens, width) of images' tokens half-way through the text layers.
        """
        rows, columns = torch.from_numpy(np.indices(self._grid_hw).reshape(2, -1))
        said_rows, said_columns = self.places(halfway).split(self._grid_hw, dim=-1)
        return sum(
            functional.cross_entropy(said.flatten(0, 1), true.repeat(len(halfway)))
            for said, true in ((said_rows, rows), (said_columns, columns))
        )

    def ends_loss(self, satellite_tokens: torch.Tensor, shots: Sequence[Shot]) -> torch.Tensor:
        """Mean loss of telling where cells and places end.

        Args:
            satellite_tokens: (N, tokens, width) of the satellite images, half-way through the text layers. They follow
                those of the maps, which therefore know nothing of them.
            shots: The N scenes they show.
        """
        cells = torch.from_numpy(np.stack([_ends_of_cells(shot) for shot in shots]))
        said = self.ends_of_cells(satellite_tokens).unflatten(-1, (_PATCHES, 4, _STEPS))
        total = functional.cross_entropy(said.flatten(0, 3), cells.flatten(), ignore_index=-1)
        tokens, ends = zip(*(_ends_of_places(shot, self._grid_hw) for shot in shots), strict=True)
        icons = torch.cat([seen[where] for seen, where in zip(satellite_tokens, tokens, strict=True)])
        said = self.ends_of_places(icons).unflatten(-1, (4, _STEPS))
        return total + functional.cross_entropy(said.flatten(0, 1), torch.cat(ends).flatten())

    def _named(self, tokens: torch.Tensor, labels: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        """Loss of telling which words belong to a token's icons."""
        width = tokens.shape[-1]
        seen = functional.rms_norm(tokens, (width,))
        meant = functional.rms_norm(embeddings[self._words], (width,))
        scores = self.scale * (seen @ meant.T) / width**0.5 + self.bias
        shown = [
            functional.one_hot(labels[..., family], count).amax(dim=-2)[..., 1:]
            for family, count in enumerate(_CLASSES[:3])
        ]
        target = torch.cat(shown, dim=-1)[..., self._meanings].float()
        weight = torch.tensor(len(self._meanings) / 4.0)
        return functional.binary_cross_entropy_with_logits(scores, target, pos_weight=weight)


def words_of(encode: Callable[[str], Sequence[int]]) -> list[list[list[int]]]:
    """Token ids of the words that `Heads` asks for: a class's and a function's own for each function, and so on.

    Args:
        encode: Tokenizes a text.
    """
    functions = [[int(encode(one.word)[0]), int(encode(one.name)[0])] for one in PLACE_FUNCTIONS]
    kinds = [[int(encode(f" {kind.word}")[0])] for kind in KINDS]
    markers = [[int(encode(marker.word)[0])] for marker in MARKERS]
    return [functions, kinds, markers]


def _steps(ends: np.ndarray, shape_hw: tuple[int, ...]) -> np.ndarray:
    """Ends x1, y1, x2, y2 in pixels as steps of the image's sides, the last index counting the four."""
    sides = np.array([shape_hw[1], shape_hw[0]] * 2)
    steps: np.ndarray = np.minimum(ends * _STEPS // sides, _STEPS - 1).astype(np.int64)
    return steps


def _ends_of_cells(shot: Shot) -> np.ndarray:
    """Steps (tokens, patches, 4) where the cell ends that each patch's centre lies in; -1 for none."""
    height, width = (side // PATCH_SIZE for side in shot.cells_hw.shape)
    ends = np.full((height, width, 4), -1, dtype=np.int64)
    found = ndimage.find_objects(shot.cells_hw)
    for row, column in np.ndindex(height, width):
        y, x = (PATCH_SIZE * index + PATCH_SIZE // 2 for index in (row, column))
        if number := int(shot.cells_hw[y, x]):
            rows, columns = found[number - 1]
            box_xyxy = np.array([columns.start, rows.start, columns.stop, rows.stop])
            ends[row, column] = _steps(box_xyxy, shot.cells_hw.shape)
    return _by_token(ends, MERGE_SIZE)


def _ends_of_places(shot: Shot, grid_hw: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens (places,) that the icons are in, and the steps (places, 4) where their places end."""
    side = PATCH_SIZE * MERGE_SIZE
    marks_xy = np.stack([spot.marks_xy[0] for spot in shot.spots]) // side
    ends = np.stack([_steps(spot.box_xyxy, shot.cells_hw.shape) for spot in shot.spots])
    return torch.from_numpy(marks_xy[:, 1] * grid_hw[1] + marks_xy[:, 0]), torch.from_numpy(ends)


def _marks(shot: Shot) -> tuple[np.ndarray, np.ndarray]:
    """Labels (tokens, patches, 4) and offsets of icon and dot (tokens, patches, 4)."""
    height, width = (side // PATCH_SIZE for side in shot.cells_hw.shape)
    labels = np.zeros((height, width, 4), dtype=np.int64)
    offsets = np.zeros((height, width, 4), dtype=np.float32)
    for spot in shot.spots:
        for number, (x, y) in enumerate(spot.marks_xy.tolist()):
            row, column = min(y // PATCH_SIZE, height - 1), min(x // PATCH_SIZE, width - 1)
            offset = (x / PATCH_SIZE - column - 0.5, y / PATCH_SIZE - row - 0.5)
            if number:
                labels[row, column, 3] = 1 + spot.look[0]
                offsets[row, column, 2:] = offset
            else:
                labels[row, column, :3] = [1 + index for index in spot.look]
                offsets[row, column, :2] = offset
    return _by_token(labels, MERGE_SIZE), _by_token(offsets, MERGE_SIZE)


def _reach(cells_hw: np.ndarray) -> np.ndarray:
    """Steps (tokens, spots, 4) from spots to the left, upper, right and lower end of their cell; -1 where is none."""
    pitch = PATCH_SIZE * MERGE_SIZE // _SPOTS
    y, x = np.mgrid[tuple(slice(pitch // 2, side, pitch) for side in cells_hw.shape)]
    numbers = cells_hw[y, x]
    ends = np.zeros((int(cells_hw.max()) + 1, 4), dtype=np.int64)
    for number, found in enumerate(ndimage.find_objects(cells_hw), start=1):
        if found is not None:
            rows, columns = found
            ends[number] = columns.start, rows.start, columns.stop, rows.stop
    left, upper, right, lower = np.moveaxis(ends[numbers], -1, 0)
    far = np.stack([x - left, y - upper, right - x, lower - y], axis=-1)
    steps = np.minimum(far // _REACH_STEP, _REACH_STEPS - 1)
    return _by_token(np.where(numbers[..., None] > 0, steps, -1), _SPOTS)


def _by_token(grid: np.ndarray, side: int) -> np.ndarray:
    """A grid (H, W, channels) cut into tokens of `side` x `side`: (tokens, side x side, channels)."""
    height, width, channels = grid.shape
    cut = grid.reshape(height // side, side, width // side, side, channels)
    return cut.swapaxes(1, 2).reshape(-1, side**2, channels)
