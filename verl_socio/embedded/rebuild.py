"""What the scripts that rebuild the embedded models share: checks, a draft of the folder, the figures on the card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from verl_socio.errors import invalid
from verl_socio.whole_file import write_whole

_CARD = "MODEL_CARD.md"
_FIGURES = "## Figures\n\n"


def check_numbers(seed: int, counts: Mapping[str, int]) -> None:
    """Check what a command line asks for, before the work.

    Args:
        seed: The seed.
        counts: How many of what, by the option's name.

    Raises:
        ValueError: The seed is negative, or a count is below 1.
    """
    if seed < 0:
        raise invalid("--seed", seed, "must be 0 or more", "use another seed")
    for option, count in counts.items():
        if count < 1:
            raise invalid(option, count, "must be 1 or more", "ask for more, or leave it out")


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A draft of a folder, whose files take the place of the folder's own when the block has ended well.

    Yields:
        The draft. It lies in the folder: on another disk it could not be moved in one step.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".unfinished-", dir=folder) as hidden:
        draft = Path(hidden)
        yield draft
        for path in draft.iterdir():
            path.replace(folder / path.name)


def write_card(folder: Path, training: str, figures: str) -> None:
    """Write a model's card.

    Args:
        folder: The model's folder.
        training: How it came about, Markdown.
        figures: What it can do, Markdown.
    """
    write_whole(folder / _CARD, f"{training}\n{_FIGURES}{figures}")


def renew_figures(folder: Path, figures: str) -> None:
    """Put new figures on a model's card; how it came about stays. A model without a card stays without.

    Raises:
        ValueError: The card has no section for them.
    """
    path = folder / _CARD
    if not path.is_file():
        return
    training, heading, _ = path.read_text(encoding="utf-8").partition(f"\n{_FIGURES}")
    if not heading:
        fix = "move the card away, or give it that heading"
        raise invalid("card", str(path), f"must have the heading {_FIGURES.strip()}", fix)
    write_card(folder, training, figures)
