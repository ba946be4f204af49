"""SAM2's two halves, called apart: an image is encoded once and answers any number of prompts later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from verl_socio.answer import Prompt
from verl_socio.masks import Masks
from verl_socio.segment import prompts as layout
from verl_socio.segment.library import import_sam2

import_sam2()

from sam2.sam2_image_predictor import SAM2ImagePredictor  # noqa: E402

# Prompts decoded at once are limited by the decoder's memory (64 x 4096 tokens x 256 channels), and by that of their
# logits in the image's own size: 1 GiB. A CPU is fastest while one layer's tokens fit its caches: 16 boxes at 1024 px
# took 1.0 to 1.1 s in batches of 1 to 4, and 1.6 to 1.9 s in batches of 8 or 16.
_MAX_PROMPTS = 64
_MAX_PIXELS = 2**28
_MAX_VALUES_ON_CPU = 2**22


@dataclass(frozen=True, eq=False)
class Features:
    """What SAM2 remembers of an image.

    Attributes:
        image_embed: (1, C, h, w), h = w = a sixteenth of the model's image size.
        high_res: Two maps of finer strides, (1, C / 8, 4h, 4w) and (1, C / 4, 2h, 2w).
        size_wh: The image's own size in pixels.
    """

    image_embed: torch.Tensor
    high_res: tuple[torch.Tensor, ...]
    size_wh: tuple[int, int]


class NonFiniteError(RuntimeError):
    """SAM2 computed NaN or infinite numbers, which would read as an empty mask."""


class Sam2Model:
    """A frozen SAM2 as two functions. Not safe for use by several threads at once.

    On CUDA both run under bfloat16 autocast, as sam2 recommends; on a CPU in float32.
    """

    def __init__(self, predictor: SAM2ImagePredictor, *, multimask: bool = True) -> None:
        """Take over a predictor.

        Args:
            predictor: sam2's predictor, as `loader.load_predictor` builds it.
            multimask: Choose among three proposed masks by their predicted IoU; False takes SAM's single mask.
        """
        self._predictor = predictor
        self._multimask = multimask

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self._predictor.device

    def encode(self, image: Image.Image) -> Features:
        """Run the image encoder.

        Args:
            image: RGB, any size.

        Raises:
            RuntimeError: torch failed, for want of memory mostly.
        """
        with torch.inference_mode(), self._autocast():
            self._predictor.set_image(image)
            kept = self._predictor._features
            features = Features(kept["image_embed"], tuple(kept["high_res_feats"]), image.size)
            self._predictor.reset_predictor()
            self._finish()
        return features

    def decode(self, features: Features, prompts: Sequence[Prompt]) -> tuple[Masks, int]:
        """Run prompt encoder and mask decoder on all prompts of an answer.

        Args:
            features: Of the image that the prompts are about.
            prompts: At least one; in the image's own pixels.

        Returns:
            One mask a prompt in the prompts' order, and the number of batches it took.

        Raises:
            RuntimeError: torch failed, or NonFiniteError: the model did.
        """
        assert prompts
        width, height = features.size_wh
        masks_nhw = np.empty((len(prompts), height, width), dtype=bool)
        predicted_iou = np.empty(len(prompts))
        limit = min(_MAX_PROMPTS, _MAX_PIXELS // (width * height))
        if self.device.type == "cpu":
            limit = min(limit, _MAX_VALUES_ON_CPU // features.image_embed.numel())
        count = 0
        for batch in layout.batches(prompts, max(1, limit)):
            logits, scores = self.logits(features, batch)
            masks_nhw[batch.indices] = (logits > self._predictor.mask_threshold).cpu().numpy()
            predicted_iou[batch.indices] = scores.cpu().numpy()
            count += 1
        return Masks(masks_nhw, predicted_iou), count

    def logits(self, features: Features, batch: layout.Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """The chosen mask of each prompt before thresholding.

        SAM2ImagePredictor.predict enlarges all three proposals and copies them to the CPU; here the choice comes first.

        Args:
            features: Of the image.
            batch: B prompts.

        Returns:
            Logits float32 (B, H, W) in the image's own size, and predicted IoU float32 (B,).

        Raises:
            RuntimeError: As for `decode`.
        """
        model, transforms = self._predictor.model, self._predictor._transforms
        size_hw = features.size_wh[::-1]
        with torch.inference_mode(), self._autocast():
            coords_xy = torch.from_numpy(batch.coords_xy).to(self.device)
            coords_xy = transforms.transform_coords(coords_xy, normalize=True, orig_hw=size_hw)
            points = (coords_xy, torch.from_numpy(batch.labels).to(self.device))
            sparse, dense = model.sam_prompt_encoder(points=points, boxes=None, masks=None)
            low_res, scores, _, _ = model.sam_mask_decoder(
                image_embeddings=features.image_embed,
                image_pe=model.sam_prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=self._multimask,
                repeat_image=True,
                high_res_features=list(features.high_res),
            )
            rows = torch.arange(len(scores), device=scores.device)
            best = scores.argmax(dim=1)
            low_res, scores = low_res[rows, best].float(), scores[rows, best].float()
            if not (torch.isfinite(low_res).all() and torch.isfinite(scores).all()):
                raise NonFiniteError("the mask decoder gave numbers that are not finite")
            return transforms.postprocess_masks(low_res[:, None], size_hw)[:, 0], scores

    def release(self) -> None:
        """Give memory of dropped features back to the GPU, where other processes may need it."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda")

    def _finish(self) -> None:
        """Wait for the GPU, so that an error is raised by the call that caused it, and times are true."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
