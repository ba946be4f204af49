"""Text that UTF-8 cannot hold, and text that a terminal obeys.

The first is half a surrogate pair, as JSON may write it, or a byte of an odd file name.
"""

import re

# Unicode's category Cc without line break and tab: among them is what begins an escape sequence.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def is_whole(text: str) -> bool:
    """Whether UTF-8 holds the text: tokenizers, files and terminals take no other."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def printable(text: str) -> str:
    """The text with "?" for what UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def for_terminal(text: str) -> str:
    """The text of a model or of data with "?" for what a terminal would obey or UTF-8 cannot hold."""
    return _CONTROLS.sub("?", printable(text))
