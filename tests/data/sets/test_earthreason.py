import json
import os
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verl_socio.data import Choice, load_samples, split_names
from verl_socio.data.sets.earthreason import parse_questions


def test_an_empty_answer_says_that_the_mask_may_be_empty(published_set):
    folder = str(published_set("earthreason"))
    assert split_names(folder) == ["test", "val"]
    samples = load_samples(folder, "test")
    assert [sample.truth.may_be_empty for sample in samples] == [False, False, True]
    assert [int(sample.target_mask().sum()) for sample in samples] == [400, 400, 0]


def test_the_first_question_is_asked_or_one_drawn_by_seed_and_id_alone(published_set):
    folder = str(published_set("earthreason"))
    asked = [sample.question for sample in load_samples(folder, "test")]
    assert asked == ["Question 0 a?", "Question 1 a?", "Question 2 a?"]

    def drawn(seed):
        return [sample.question for sample in load_samples(folder, "test", choice=Choice("random", seed))]

    assert drawn(0) == drawn(0)
    seen = {question for seed in range(20) for question in drawn(seed)}
    assert seen == {f"Question {number} {word}?" for number in range(3) for word in "abc"}
    before = drawn(3)
    for part, suffix in (("images", "jpg"), ("labels", "png"), ("QAs", "json")):
        os.remove(f"{folder}/test/{part}/1000.{suffix}")
    assert drawn(3) == before[1:], "another sample does not change the draw"


@pytest.mark.parametrize(("question", "seed"), [("last", 0), ("random", -1), ("random", 0.5), ("random", True)])
def test_an_unknown_choice_is_an_error(question, seed):
    with pytest.raises(ValueError, match=r"question.*Fix:"):
        Choice(question, seed)


def test_two_pictures_of_one_id_are_a_fault(published_set):
    folder = published_set("earthreason")
    shutil.copy(folder / "test" / "images" / "1001.jpg", folder / "test" / "images" / "1001.jpeg")
    with pytest.raises(ValueError, match=r"sample 1001 .*but holds 1001\.jpeg, 1001\.jpg"):
        load_samples(str(folder), "test")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "must be JSON in UTF-8"),
        ("[]", 'a list under "questions"'),
        ('{"questions": [], "answer": []}', 'a list under "questions"'),
        ('{"questions": ["a", " "], "answer": []}', "no empty one"),
        ('{"questions": ["a", "b \\ud83d"], "answer": []}', "half a surrogate pair"),
        ('{"questions": ["a"]}', 'a list under "answer"'),
        ('{"questions": ["a"], "answer": "b"}', 'a list under "answer"'),
    ],
)
def test_a_broken_file_is_told_with_its_sample(published_set, content, told):
    folder = published_set("earthreason")
    (folder / "test" / "QAs" / "1001.json").write_text(content)
    with pytest.raises(ValueError, match=rf"sample 1001 .*QAs/1001\.json.*{told}.*Fix:"):
        load_samples(str(folder), "test")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["questions", "answer"]), inner),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.binary(max_size=200) | values.map(lambda value: json.dumps(value).encode()))
def test_any_file_gives_questions_or_a_value_error(content):
    try:
        questions, answered = parse_questions(content)
    except ValueError:
        return
    assert questions and all(question == question.strip() != "" for question in questions)
    assert isinstance(answered, bool)
