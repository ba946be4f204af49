"""The embedded model's own processor between a turn and its tokens."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from verl_socio.chat import ChatModel, vision_grid
from verl_socio.episode import Turn
from verl_socio.geometry import Frame


def noise(size_wh: tuple[int, int], seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (size_wh[1], size_wh[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def with_template(chat: ChatModel, template: str) -> ChatModel:
    processor = copy.copy(chat.processor)
    processor.chat_template = template
    return ChatModel(processor, chat.model_type)


@pytest.mark.parametrize(
    "sizes", [[(140, 140)], [(140, 140), (140, 140)], [(240, 240), (20, 300)], [(3000, 900)]], ids=str
)
def test_placeholders_features_and_images_agree(tiny_chat: ChatModel, sizes: list[tuple[int, int]]) -> None:
    images = tuple(noise(size_wh, seed) for seed, size_wh in enumerate(sizes))
    encoded = tiny_chat.encode(Turn(0, images, "Find the zoo."))
    image_token = tiny_chat.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    expected = sum(tiny_chat.grid.num_tokens(size_wh) for size_wh in sizes)
    grids = encoded.features["image_grid_thw"]
    assert encoded.prompt_ids.count(image_token) == expected
    assert grids.shape == (len(sizes), 3)
    assert int(grids.prod(dim=1).sum()) == 4 * expected == len(encoded.features["pixel_values"])


def test_the_turn_is_in_the_models_chat_format_images_first(tiny_chat: ChatModel) -> None:
    text = tiny_chat.text_of(Turn(0, (noise((28, 28)), noise((28, 28))), "Find the zoo."))
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    assert text.endswith(f"<|im_start|>user\n{image}{image}Find the zoo.<|im_end|>\n<|im_start|>assistant\n")


def test_the_tokens_are_the_text_with_each_placeholder_repeated(tiny_chat: ChatModel) -> None:
    turn = Turn(0, (noise((140, 140)),), "Find the zoo.")
    text = tiny_chat.tokenizer.decode(tiny_chat.encode(turn).prompt_ids)
    assert text == tiny_chat.text_of(turn).replace("<|image_pad|>", "<|image_pad|>" * 25)


@pytest.mark.parametrize("sizes", [[(140, 140)], [(240, 240), (20, 300)], [(3000, 900), (140, 140)]], ids=str)
def test_the_tokens_are_known_without_the_pixels(tiny_chat: ChatModel, sizes: list[tuple[int, int]]) -> None:
    turn = Turn(0, tuple(noise(size_wh) for size_wh in sizes), "Find the zoo. \U0001f981")
    short, full = tiny_chat.prompt_ids(turn)
    assert full == tiny_chat.encode(turn).prompt_ids
    assert tiny_chat.tokenizer.decode(short) == tiny_chat.text_of(turn)


def test_the_images_are_what_the_features_are_made_of(tiny_chat: ChatModel) -> None:
    first, second = noise((140, 140), 1), noise((140, 140), 2)
    one = tiny_chat.encode(Turn(0, (first, second), "q"))
    other = tiny_chat.encode(Turn(0, (second, first), "q"))
    assert one.prompt_ids == other.prompt_ids
    halves = one.features["pixel_values"].chunk(2)
    assert torch.equal(torch.cat([halves[1], halves[0]]), other.features["pixel_values"])
    assert not torch.equal(halves[0], halves[1])


@pytest.mark.parametrize("token", ["<|image_pad|>", "<|video_pad|>", "<|im_end|>", "<|vision_start|>", "<|endoftext|>"])
def test_a_question_cannot_hold_control_tokens(tiny_chat: ChatModel, token: str) -> None:
    with pytest.raises(ValueError, match=r"question = .*must not hold the model's control tokens.*Fix: take them out"):
        tiny_chat.encode(Turn(0, (noise((140, 140)),), f"Find {token} the zoo."))
    with pytest.raises(ValueError, match=r"question = .*must not hold the model's control tokens"):
        tiny_chat.prompt_ids(Turn(0, (noise((140, 140)),), f"Find {token} the zoo."))


def test_what_only_looks_like_a_control_token_is_text(tiny_chat: ChatModel) -> None:
    words = "Find <think> <|im end|> <b> | 动物园 <answer> the zoo. \U0001f981"
    turn = Turn(0, (noise((140, 140)),), words)
    assert words in tiny_chat.tokenizer.decode(tiny_chat.encode(turn).prompt_ids)


@pytest.mark.parametrize(
    ("template", "found"),
    [
        (
            "{% for m in messages %}{% for p in m.content %}{{ p.text or '' }}{% endfor %}{% endfor %}",
            "0 placeholders for 2",
        ),
        ("{{ '<|vision_start|><|image_pad|><|vision_end|>' * 3 }}", "3 placeholders for 2"),
    ],
    ids=["drops images", "adds one"],
)
def test_a_chat_template_must_show_every_image_once(tiny_chat: ChatModel, template: str, found: str) -> None:
    turn = Turn(0, (noise((28, 28)), noise((28, 28))), "q")
    with pytest.raises(ValueError, match=rf"chat template = '{found} images'.*Fix: use the model's own chat template"):
        with_template(tiny_chat, template).encode(turn)


def test_features_that_do_not_fit_the_placeholders_are_an_error(tiny_chat: ChatModel) -> None:
    class OtherGrid:
        """A processor whose images come out larger than its image processor says."""

        def __init__(self, processor: object) -> None:
            self._processor = processor

        def __getattr__(self, name: str) -> object:
            return getattr(self._processor, name)

        def __call__(self, text: list[str], images: list[Image.Image], return_tensors: str) -> dict[str, torch.Tensor]:
            larger = [image.resize((2 * image.width, 2 * image.height)) for image in images]
            return self._processor(text=text, images=larger, return_tensors=return_tensors)

    with pytest.raises(
        ValueError, match=r"turn = '100 placeholders, 100 features, 1 of 1 images': needs 25 placeholders"
    ):
        ChatModel(OtherGrid(tiny_chat.processor), tiny_chat.model_type).encode(Turn(0, (noise((140, 140)),), "q"))


def test_decoding_leaves_control_tokens_out_and_keeps_the_answers_tags(tiny_chat: ChatModel) -> None:
    text = '<think>roof</think><answer>[{"bbox_2d": [1, 2, 30, 40]}]</answer>'
    ids = tiny_chat.tokenizer.encode(f"{text}<|im_end|>")
    assert tiny_chat.decode(ids) == text
    assert tiny_chat.decode([]) == ""


def test_the_frame_is_the_familys_or_the_images_own(tiny_model: Path, tiny_chat: ChatModel) -> None:
    assert tiny_chat.model_type == "qwen2_5_vl"
    assert tiny_chat.frame_of((240, 100)) == Frame((252, 112))
    assert ChatModel.load(tiny_model, frame="image").frame_of((240, 100)) == Frame((240, 100))
    with pytest.raises(ValueError, match=r"frame = 'pixels': must be model or image"):
        ChatModel(tiny_chat.processor, tiny_chat.model_type, frame="pixels")


@pytest.mark.parametrize("size_wh", [(28, 28), (140, 140), (141, 139), (1000, 40), (999, 999)])
def test_the_grid_is_the_processors_own(tiny_chat: ChatModel, size_wh: tuple[int, int]) -> None:
    grid = vision_grid(tiny_chat.processor)
    made = tiny_chat.processor.image_processor(images=[noise(size_wh)], return_tensors="pt")["image_grid_thw"][0]
    width, height = grid.resized_wh(size_wh)
    assert made.tolist() == [1, height // grid.patch_size, width // grid.patch_size]
