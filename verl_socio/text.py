"""Text that UTF-8 cannot hold: half a surrogate pair, as JSON may write it, or a byte of an odd file name."""


def is_whole(text: str) -> bool:
    """Whether UTF-8 holds the text: tokenizers, files and terminals take no other."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def printable(text: str) -> str:
    """The text with "?" for what UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
