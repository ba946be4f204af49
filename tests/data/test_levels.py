import pytest

from verl_socio.data.levels import FUNCTIONS, level_of


def test_there_are_ten_functions_and_each_is_one():
    assert len(FUNCTIONS) == 10
    assert {level_of(name) for name in FUNCTIONS} == {"function"}


@pytest.mark.parametrize(
    ("question", "level"),
    [
        ("Express Delivery", "class"),
        ("Business Office Building", "class"),
        (" express  delivery ", "class"),
        ("building materials market", "class"),
        ("Park and greenspace", "function"),
        ("PARK AND GREENSPACE", "function"),
        ("Jinan Zoo", "name"),
        ("Zoo", "class"),
        ("", "name"),
    ],
)
def test_a_concept_has_its_level(question, level):
    assert level_of(question) == level
