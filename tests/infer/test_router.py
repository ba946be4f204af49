from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl_socio.infer.router import TASKS, by_model, by_rules


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("How many schools are there?", "counting"),
        ("count the boats in the harbour", "counting"),
        ("Tell me the number of cars.", "counting"),
        ("Detect all cars", "detection"),
        ("draw a bounding box around the stadium", "detection"),
        ("Where is the nearest hospital?", "detection"),
        ("segment the building that is used for teaching", "segmentation"),
        ("Give a mask of every park, what is green counts", "segmentation"),
        ("School", "segmentation"),
        ("Jinan Zoo", "segmentation"),
        ("the place where students live", "segmentation"),
        ("What is in the middle of the picture?", "question"),
        ("Is there a school here?", "question"),
        ("describe the land use", "question"),
        ("The red roof, or the blue one?", "question"),
        ("Count Dracula's Castle? How many", "counting"),
        ("Accountant's office", "segmentation"),  # a word that holds another one
        ("", "segmentation"),
    ],
)
def test_rules(text: str, task: str) -> None:
    routed = by_rules(text)
    assert (routed.task, routed.by) == (task, "rules")


@given(st.text())
def test_any_text_has_a_task(text: str) -> None:
    assert by_rules(text).task in TASKS


def test_a_text_model_chooses_and_is_named(text_model: Callable[[str], Path]) -> None:
    folder = str(text_model("counting"))
    routed = by_model(folder)("School")
    assert (routed.task, routed.by) == ("counting", folder)


def test_where_the_text_model_names_no_task_the_rules_do_and_are_named(text_model: Callable[[str], Path]) -> None:
    routed = by_model(str(text_model("banana")))("How many schools?")
    assert (routed.task, routed.by) == ("counting", "rules")


def test_a_text_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^router = .*must be the folder or Hub id of a text model.*Fix: "):
        by_model(str(tmp_path / "no_model"))
