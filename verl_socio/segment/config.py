"""The settings of a segmenter, checked before anything heavy is imported."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from verl_socio.errors import invalid

EMBEDDED = "embedded"
BOXES = "boxes"
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


@dataclass(frozen=True, kw_only=True)
class SegmenterConfig:
    """How segmenters are made, in process (`create`) or as a pool of Ray actors (`SegmenterPool`).

    Attributes:
        weights: "embedded" for the tiny SAM2 that ships with the package; a Hub id such as
            "facebook/sam2-hiera-large"; a local folder with a checkpoint; a checkpoint file (.pt or .safetensors); or
            "boxes", a stand-in without a model that fills the boxes, for tests and dry runs only.
        config: The model's YAML for local weights: a file, or the name of one that the sam2 package ships, such as
            "sam2.1_hiera_s". None: the YAML beside the checkpoint, or the one that belongs to a published file name.
        device: "auto" (CUDA where there is one, else CPU), "cpu", "cuda" or "cuda:<index>".
        multimask: Let SAM2 propose three masks a prompt and keep the one with the best predicted IoU; False asks for
            its single mask.
        cache_images: Images whose features one segmenter keeps. Below the number of distinct images a training step
            shows to one actor, images are encoded more than once. hiera-large: about 11 MB an image on CUDA, 17 MB
            on CPU; the embedded model: 0.4 MB.
        num_actors: Ray actors in the pool; an image belongs to one of them.
        num_gpus: GPU share that each actor reserves from Ray. 0 reserves nothing but still uses GPUs, those of all
            nodes in turn: right beside a trainer that has reserved every GPU for itself.
        num_cpus: CPU cores that each actor reserves from Ray.
        timeout_s: Seconds after which a request, or the start of an actor, counts as failed.
        restarts: How often one request is repeated when its actor crashes while working on it. The actor itself is
            started again however often it crashes.
    """

    weights: str = EMBEDDED
    config: str | None = None
    device: str = "auto"
    multimask: bool = True
    cache_images: int = 128
    num_actors: int = 1
    num_gpus: float = 0.0
    num_cpus: float = 1.0
    timeout_s: float = 600.0
    restarts: int = 2

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ValueError: A field is out of its range; the message names it.
        """
        if not isinstance(self.weights, str) or not self.weights.strip():
            raise invalid("segmenter.weights", self.weights, "must be text", "use 'embedded', a Hub id or a path")
        if self.config is not None and (not isinstance(self.config, str) or not self.config.strip()):
            raise invalid("segmenter.config", self.config, "must be text or null", "give a YAML file or leave it null")
        if not isinstance(self.device, str) or not _DEVICE.fullmatch(self.device):
            raise invalid("segmenter.device", self.device, "must be auto, cpu, cuda or cuda:<index>", "use auto")
        if not isinstance(self.multimask, bool):
            raise invalid("segmenter.multimask", self.multimask, "must be true or false", "use true")
        _check_whole("cache_images", self.cache_images, 1)
        _check_whole("num_actors", self.num_actors, 1)
        _check_whole("restarts", self.restarts, 0)
        for name in ("num_gpus", "num_cpus"):
            _check_share(name, getattr(self, name))
        if not _is_number(self.timeout_s) or self.timeout_s <= 0:
            raise invalid("segmenter.timeout_s", self.timeout_s, "must be a number of seconds above 0", "use 600")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        rule = f"must be a whole number of {least} or more"
        raise invalid(f"segmenter.{name}", value, rule, f"set it to {least} or more")


def _check_share(name: str, value: float) -> None:
    # Ray takes any share up to 1 and whole numbers above.
    if not _is_number(value) or value < 0 or (value > 1 and value != int(value)):
        raise invalid(f"segmenter.{name}", value, "must be 0 to 1, or a whole number above", "use a share such as 0.1")
