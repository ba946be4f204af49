from collections import Counter

from verl_socio.city.catalog import CLASSES, KINDS, MARKERS, PLACE_FUNCTIONS
from verl_socio.data.levels import FUNCTIONS, level_of


def test_the_ten_functions_are_socioseg_s():
    assert tuple(one.name for one in PLACE_FUNCTIONS) == FUNCTIONS


def test_there_are_thirty_trained_classes_and_ten_new_ones():
    assert Counter(one.trained for one in CLASSES) == {True: 30, False: 10}
    assert len({one.name for one in CLASSES}) == len({(one.function, one.kind) for one in CLASSES}) == 40


def test_a_new_class_is_a_new_pair_of_known_words_and_marks():
    trained = [one for one in CLASSES if one.trained]
    for one in CLASSES:
        assert sum(other.kind == one.kind for other in trained) == 6
        assert sum(other.function == one.function for other in trained) == 3


def test_names_classes_and_functions_cannot_be_taken_for_each_other():
    names = {f"{marker.word} {kind.word}" for marker in MARKERS for kind in KINDS}
    assert not names & {one.name for one in CLASSES}
    assert {level_of(name) for name in names} == {"name"}
    assert "function" not in {level_of(one.name) for one in CLASSES}
