"""The embedded tokenizer writes any text, coordinates digit by digit, and Qwen's message format."""

import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.exceptions import TemplateError

from verl_socio.embedded.tokenizer import VOCAB_SIZE, train_tokenizer

TOKENIZER = train_tokenizer()


def chat(messages: list[dict[str, Any]], add_generation_prompt: bool = False) -> str:
    messages_any: Any = messages  # transformers' annotation knows text messages only
    text = TOKENIZER.apply_chat_template(messages_any, tokenize=False, add_generation_prompt=add_generation_prompt)
    assert isinstance(text, str)
    return text


def test_an_answer_is_short_and_its_digits_are_single_tokens() -> None:
    answer = '<think>it is here.</think><answer>[{"bbox_2d": [12, 34, 56, 118], "points": [[7, 8]]}]</answer>'
    tokens = TOKENIZER.convert_ids_to_tokens(TOKENIZER.encode(answer))
    assert [token for token in tokens if any(map(str.isdigit, token))] == ["bbox_2d", *"12345611878"]
    assert len(tokens) <= 45
    assert TOKENIZER.decode(TOKENIZER.encode(answer), skip_special_tokens=True) == answer


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_any_text_comes_back_in_its_nfc_form(text: str) -> None:
    ids = TOKENIZER.encode(text)
    assert all(0 <= token < VOCAB_SIZE for token in ids)
    assert TOKENIZER.decode(ids) == unicodedata.normalize("NFC", text)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=40))
def test_any_tokens_can_be_decoded(ids: list[int]) -> None:
    assert isinstance(TOKENIZER.decode(ids), str)


def test_the_tokenizer_depends_on_the_corpus_alone() -> None:
    again = train_tokenizer()
    assert again.backend_tokenizer.to_str() == TOKENIZER.backend_tokenizer.to_str()
    words = " ".join(f"{a}{b}{c}" for a in "bcdfghklmn" for b in "aeiou" for c in "prstxyz")
    other = train_tokenizer(f"{words} {words}")
    assert len(other) == VOCAB_SIZE
    assert other.get_vocab() != TOKENIZER.get_vocab()


def test_a_corpus_without_enough_words_is_refused() -> None:
    with pytest.raises(ValueError, match=r"corpus = 'one word'.*Fix: give a longer text"):
        train_tokenizer("one word")


def test_the_template_writes_qwens_message_format() -> None:
    text = chat(
        [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": [{"type": "image", "image": "a.png"}, {"type": "text", "text": "Hi {{x}}"}]},
            {"role": "assistant", "content": "Yes."},
        ],
    )
    assert text == (
        "<|im_start|>system\nBe short.<|im_end|>\n"
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Hi {{x}}<|im_end|>\n"
        "<|im_start|>assistant\nYes.<|im_end|>\n"
    )
    bare = chat([{"role": "user", "content": "Hi"}], add_generation_prompt=True)
    assert bare == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_template_refuses_a_part_it_does_not_know() -> None:
    with pytest.raises(TemplateError, match="not audio"):
        chat([{"role": "user", "content": [{"type": "audio"}]}])
