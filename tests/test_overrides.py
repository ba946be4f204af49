import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from verl_socio.overrides import quoted, unquoted


@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    assert unquoted(quoted(text)) == text


@pytest.mark.parametrize("text", ["m (1)", "a,b", "müller", "o'brien", 'the "new" one', "back\\", "null", "", "a=b"])
def test_hydra_reads_it_as_it_is(text: str) -> None:
    assert OverridesParser.create().parse_override(f"model={quoted(text)}").value() == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ("a,b", "a,b"),
        ('"of a shell"', "of a shell"),
        ("'a','b'", "'a','b'"),
        ("'not closed", "'not closed"),
        ("", ""),
    ],
)
def test_what_has_no_quotes_of_its_own_stands_as_it_is(value: str, text: str) -> None:
    assert unquoted(value) == text
