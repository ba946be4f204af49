from pathlib import Path

import pytest

from verl_socio.embedded.rebuild import check_numbers, renew_figures, replacing, write_card


@pytest.mark.parametrize(
    ("seed", "counts", "told"),
    [
        (-1, {}, "--seed = -1: must be 0 or more"),
        (0, {"--scenes": 1, "--val-scenes": 0}, "--val-scenes = 0: must be 1"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(seed: int, counts: dict[str, int], told: str) -> None:
    check_numbers(0, {"--scenes": 1})
    with pytest.raises(ValueError, match=f"^{told}.*Fix: "):
        check_numbers(seed, counts)


def test_files_are_replaced_together_and_others_stay(tmp_path: Path) -> None:
    folder = tmp_path / "below" / "model"
    folder.mkdir(parents=True)
    for name in ("weights", "notes"):
        (folder / name).write_text("old")
    with replacing(folder) as draft:
        (draft / "weights").write_text("new")
        (draft / "card").write_text("new")
        assert (folder / "weights").read_text() == "old"
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "weights": "new",
        "card": "new",
        "notes": "old",
    }


def test_what_fails_before_its_end_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path) as draft:
        (draft / "weights").write_text("new")
        raise ZeroDivisionError
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"weights": "old"}


def test_new_figures_take_the_place_of_the_old_ones_alone(tmp_path: Path) -> None:
    write_card(tmp_path, "# A model\n\nTrained.\n", "| IoU | 0.5 |\n")
    renew_figures(tmp_path, "| IoU | 0.75 |\n")
    assert (tmp_path / "MODEL_CARD.md").read_text() == "# A model\n\nTrained.\n\n## Figures\n\n| IoU | 0.75 |\n"


def test_a_model_without_a_card_stays_without_and_one_without_the_heading_is_told(tmp_path: Path) -> None:
    renew_figures(tmp_path, "| IoU | 0.75 |\n")
    assert not list(tmp_path.iterdir())
    (tmp_path / "MODEL_CARD.md").write_text("# Of another kind\n")
    with pytest.raises(ValueError, match="must have the heading ## Figures"):
        renew_figures(tmp_path, "| IoU | 0.75 |\n")
