"""What a vision-language model's processor makes of a turn: token ids, image features and a coordinate frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from verl_socio.episode import Turn
from verl_socio.errors import invalid
from verl_socio.geometry import Frame, VisionGrid, model_frame
from verl_socio.torchvision_cpu import make_importable


@dataclass(frozen=True)
class Encoded:
    """A turn as the model reads it.

    Attributes:
        prompt_ids: Token ids, the placeholders of each image already repeated once a visual token.
        features: What the processor made of the images: `pixel_values` (patches, channels x time x patch area) float,
            `image_grid_thw` (images, 3) int and, with some processors, `mm_token_type_ids`.
    """

    prompt_ids: list[int]
    features: dict[str, torch.Tensor]


class ChatModel:
    """The part of a model that turns pictures and words into tokens and back.

    Args:
        processor: The model's Hugging Face processor.
        model_type: `model_type` of the model's configuration: it decides the coordinate frame.
        frame: "model": the frame of the model's family. "image": coordinates are taken as the image's own pixels
            whatever the family (the fault of a published system, kept for an ablation).
    """

    def __init__(self, processor: Any, model_type: str, frame: str = "model") -> None:
        if frame not in ("model", "image"):
            raise invalid("frame", frame, "must be model or image", "use model unless you ablate the frame")
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.model_type = model_type
        self.grid = vision_grid(processor)
        self._frame = frame
        self._image_token = int(self.tokenizer.convert_tokens_to_ids(processor.image_token))

    @classmethod
    def load(cls, path: str | Path, frame: str = "model") -> ChatModel:
        """Load the processor of a local model folder or a Hub id."""
        make_importable()  # transformers' image processors import torchvision
        from transformers import AutoConfig, AutoProcessor

        return cls(AutoProcessor.from_pretrained(path), AutoConfig.from_pretrained(path).model_type, frame)

    def frame_of(self, size_wh: tuple[int, int]) -> Frame:
        """The coordinate frame in which this model speaks about an image of `size_wh` pixels."""
        return Frame.of_image(size_wh) if self._frame == "image" else model_frame(self.model_type, size_wh, self.grid)

    def text_of(self, turn: Turn) -> str:
        """The turn in the model's chat format, one placeholder an image."""
        content = [*({"type": "image"} for _ in turn.images), {"type": "text", "text": turn.text}]
        messages = [{"role": "user", "content": content}]
        text = self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert isinstance(text, str)
        return text

    def check_words(self, words: str) -> None:
        """Refuse words that the model would read as control tokens: an image, the end of a turn.

        Raises:
            ValueError: The words hold one.
        """
        found = [token for token in self.tokenizer.all_special_tokens if token in words]
        if found:
            rule = f"must not hold the model's control tokens, here {' '.join(found)}"
            raise invalid("question", words, rule, "take them out of the question or the prompt template")

    def encode(self, turn: Turn) -> Encoded:
        """Tokenize a turn and cut its images into patches.

        Raises:
            ValueError: The text holds control tokens of the model; or image placeholders, image features and images do
                not match: the template drops images.
        """
        text = self._checked_text(turn)
        inputs = dict(self.processor(text=[text], images=list(turn.images), return_tensors="pt"))
        prompt_ids = inputs.pop("input_ids")[0].tolist()
        inputs.pop("attention_mask")
        self._check_counts(turn.images, prompt_ids, inputs)
        return Encoded(prompt_ids, inputs)

    def prompt_ids(self, turn: Turn) -> tuple[list[int], list[int]]:
        """Tokenize a turn without touching its images' pixels.

        Returns:
            Token ids with one placeholder an image, as vLLM takes them, and `Encoded.prompt_ids`.

        Raises:
            ValueError: The text holds control tokens of the model, or the template drops images.
        """
        short = list(self.tokenizer(self._checked_text(turn))["input_ids"])
        counts = (self.grid.num_tokens(image.size) for image in turn.images)
        long = [[token] * next(counts) if token == self._image_token else [token] for token in short]
        return short, list(chain.from_iterable(long))

    def answer_ids(self, text: str) -> list[int]:
        """The tokens of an answer as the model would have written it, with the token that ends its turn."""
        return [*self.tokenizer.encode(text, add_special_tokens=False), int(self.tokenizer.eos_token_id)]

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of generated tokens, without control tokens."""
        return str(self.tokenizer.decode(token_ids, skip_special_tokens=True))

    def _checked_text(self, turn: Turn) -> str:
        """The turn in the model's chat format, with as many placeholders as images."""
        self.check_words(turn.text)
        text = self.text_of(turn)
        if text.count(self.processor.image_token) != len(turn.images):
            found = f"{text.count(self.processor.image_token)} placeholders for {len(turn.images)} images"
            raise invalid("chat template", found, "must write one for each image", "use the model's own chat template")
        return text

    def _check_counts(self, images: Sequence[Image.Image], prompt_ids: list[int], inputs: dict[str, Any]) -> None:
        grids = inputs["image_grid_thw"]
        features = int(grids.prod(dim=1).sum()) // self.grid.merge_size**2
        expected = sum(self.grid.num_tokens(image.size) for image in images)
        placeholders = prompt_ids.count(self._image_token)
        if not (len(grids) == len(images) and placeholders == features == expected):
            found = f"{placeholders} placeholders, {features} features, {len(grids)} of {len(images)} images"
            rule = f"needs {expected} placeholders and as many features"
            raise invalid("turn", found, rule, "use the model's own processor")


def vision_grid(processor: Any) -> VisionGrid:
    """How a processor of the Qwen2-VL family cuts images into tokens."""
    image_processor = processor.image_processor
    return VisionGrid(
        patch_size=image_processor.patch_size,
        merge_size=image_processor.merge_size,
        min_pixels=image_processor.size["shortest_edge"],
        max_pixels=image_processor.size["longest_edge"],
    )
