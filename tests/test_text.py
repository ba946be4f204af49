import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from verl_socio.text import for_terminal, is_whole, printable


@given(st.text(st.characters()))
def test_whole_is_what_utf8_holds_and_the_rest_can_be_shown(text):
    try:
        text.encode()
    except UnicodeEncodeError:
        assert not is_whole(text)
    else:
        assert is_whole(text) and printable(text) == text
    printable(text).encode()


def test_each_half_is_shown_as_one_mark():
    assert printable("a\ud83d\udce9b") == "a??b"


@given(st.text(st.characters()))
def test_a_terminal_is_given_letters_alone(text):
    shown = for_terminal(text)
    assert len(shown) == len(printable(text))
    assert {each for each in shown if unicodedata.category(each) == "Cc"} <= {"\n", "\t"}


def test_an_escape_sequence_is_shown_and_lines_stay_lines():
    assert for_terminal("\x1b[2Jhello\r\n\ta\x9b1m\ud800 é") == "?[2Jhello?\n\ta?1m? é"
