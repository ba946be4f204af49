import json
import pickle

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from verl_socio.data import Problem, load_samples, split_names
from verl_socio.data.readers import entries

REFS = "rrsisd/refs(unc).p"


def change(folder, **changes):
    """Change the second entry of the pickled list."""
    refs = pickle.loads((folder / REFS).read_bytes())
    refs[1].update(changes)
    (folder / REFS).write_bytes(pickle.dumps(refs))


def test_a_split_s_entries_ask_their_sentences(published_set):
    folder = published_set("rrsisd")
    assert split_names(str(folder)) == ["test", "train"]
    assert [sample.question for sample in load_samples(str(folder), "test")] == ["a ship 0", "a ship 1", "a ship 2"]
    [sample] = load_samples(str(folder), "train")
    assert sample.target_mask().sum() == 400
    change(folder, sentences=[{"raw": "Raw one", "sent": ""}, {"sent": "two"}])
    samples = load_samples(str(folder), "test")
    assert [(sample.id, sample.question) for sample in samples[1:3]] == [("101", "Raw one"), ("101-2", "two")]
    assert samples[1].target == samples[2].target


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"ref_id": 100}, r"sample 100 .*entry 1.*must have a ref_id of its own"),
        ({"ref_id": "101"}, r"entry 1.*a whole number ref_id"),
        ({"ann_id": 99}, r"sample 101 .*but 99 has none"),
        ({"ann_id": [1]}, r"sample 101 .*but \[1\] has none"),
        ({"sentences": []}, r"sample 101 .*must have sentences with text"),
        ({"sentences": None}, r"sample 101 .*must have sentences with text"),
        ({"sentences": [{"sent": "a \ud83d"}]}, r"question of 101 .*half a surrogate pair"),
    ],
)
def test_an_entry_that_is_no_sample_is_told(published_set, changes, told):
    folder = published_set("rrsisd")
    change(folder, **changes)
    with pytest.raises(ValueError, match=told + r".*Fix:"):
        load_samples(str(folder), "test")


def test_a_picture_s_name_may_not_lead_elsewhere(published_set):
    folder = published_set("rrsisd")
    file = folder / "rrsisd" / "instances.json"
    content = json.loads(file.read_text())
    content["images"][1]["file_name"] = "../../../secret.jpg"
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"sample 101 .*with an image's file name"):
        load_samples(str(folder), "test")


@pytest.mark.parametrize("content", [b"", b"cos\nsystem\n(S'true'\ntR.", pickle.dumps({"refs": []}), b"\x80\x04\x95"])
def test_a_pickle_that_is_none_or_a_program_is_an_error(published_set, content):
    folder = published_set("rrsisd")
    (folder / REFS).write_bytes(content)
    with pytest.raises(ValueError, match=r"refs\(unc\)\.p.*must be a pickled list of plain values.*Fix:"):
        load_samples(str(folder), "test")


@pytest.fixture
def whole(published_set):
    return published_set("rrsisd")


keys = st.sampled_from(["ref_id", "ann_id", "split", "sentences", "sent", "raw"])
leaves = st.none() | st.booleans() | st.integers(-5, 200) | st.sampled_from(["test", "", "a ship"])
refs = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=12)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(refs | st.fixed_dictionaries({"ref_id": leaves, "split": st.just("test"), "ann_id": leaves})))
def test_any_plain_list_gives_samples_and_problems(whole, content):
    # A new file each time: a list is read once while its file stays the same.
    file = whole / REFS
    file.unlink()
    file.write_bytes(pickle.dumps(content))
    try:
        found = list(entries(str(whole), "test", "rrsisd"))
    except ValueError as error:
        assert "must be a split of" in str(error)
        return
    assert all(isinstance(entry, Problem) for entry in found), "no entry names a sentence"
