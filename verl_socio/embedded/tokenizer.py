"""A byte-level tokenizer of 448 tokens in Qwen2's own tokenizer class, for the embedded model."""

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import Qwen2Tokenizer
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from verl_socio.errors import invalid

VOCAB_SIZE = 448

# Control tokens of Qwen2.5-VL. They are special: `skip_special_tokens` removes them.
END_OF_TEXT = "<|endoftext|>"
TURN_END = "<|im_end|>"
SPECIAL_TOKENS = (
    END_OF_TEXT,
    "<|im_start|>",
    TURN_END,
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

# Pieces of the answers. They are ordinary text that the model writes and the parser reads, so they are never skipped.
ANSWER_TOKENS = (
    "<think>",
    "</think>",
    "<answer>",
    "</answer>",
    "bbox_2d",
    "points",
    "positive_points",
    "negative_points",
    "point_2d",
)

_CORPUS = Path(__file__).with_name("corpus.txt")
_CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja")


def chat_template() -> str:
    """The chat template of the embedded model: Qwen2.5-VL's message format with text, image and video parts.

    Returns:
        The template's Jinja text.
    """
    return _CHAT_TEMPLATE.read_text(encoding="utf-8")


def train_tokenizer(corpus: str | None = None) -> Qwen2Tokenizer:
    """Train the embedded tokenizer: 256 bytes, merges learnt from a text, then the answer and control tokens.

    Every byte is a token, so any text can be written; a text comes back as its NFC form, as with Qwen's own tokenizer.
    Digits are never merged: a coordinate is written digit by digit. The result depends on the text alone.

    Args:
        corpus: Text to learn the merges from; the package's `corpus.txt` when None.

    Returns:
        A tokenizer of exactly `VOCAB_SIZE` tokens with the chat template set; `<|im_end|>` ends a turn.

    Raises:
        ValueError: If the text is too short to give enough merges.
    """
    text = _CORPUS.read_text(encoding="utf-8") if corpus is None else corpus
    vocab, merges = _learn_merges(text, VOCAB_SIZE - len(SPECIAL_TOKENS) - len(ANSWER_TOKENS))
    tokenizer = Qwen2Tokenizer(
        vocab=vocab,
        merges=merges,
        unk_token=END_OF_TEXT,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        extra_special_tokens=[token for token in SPECIAL_TOKENS if token not in (END_OF_TEXT, TURN_END)],
        model_max_length=32768,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in ANSWER_TOKENS])
    tokenizer.chat_template = chat_template()
    assert len(tokenizer) == VOCAB_SIZE, f"{len(tokenizer)} tokens, expected {VOCAB_SIZE}"
    return tokenizer


def _learn_merges(text: str, size: int) -> tuple[dict[str, int], Any]:
    """Learn byte-pair merges until the vocabulary has `size` entries (256 are bytes); merges are pairs of tokens."""
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.NFC()
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    learner.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False, min_frequency=2)
    for token in sorted(ANSWER_TOKENS, key=len, reverse=True):
        text = text.replace(token, "\n")  # they are tokens of their own: no merge is spent on their pieces
    learner.train_from_iterator(text.splitlines(), trainer)
    state = json.loads(learner.to_str())["model"]
    if len(state["vocab"]) != size:
        raise invalid(
            "corpus",
            text,
            f"must have repeated words for {size - 256} merges, it gives {len(state['vocab']) - 256}",
            "give a longer text",
        )
    return state["vocab"], [tuple(pair) for pair in state["merges"]]
