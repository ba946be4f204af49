from hypothesis import given
from hypothesis import strategies as st

from verl_socio.text import is_whole, printable


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
