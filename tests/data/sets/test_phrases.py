import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from verl_socio.data import load_samples
from verl_socio.data.readers import entries


def test_only_the_first_channel_of_refsegrs_holds_the_target(published_set):
    sample = load_samples(str(published_set("refsegrs")), "test")[0]
    assert sample.question == "vehicle in the parking area"
    assert np.asarray(sample.target.open(mode=None)).shape == (48, 64, 3)
    assert sample.target_mask().sum() == 400


def test_an_image_that_is_asked_about_twice_is_two_samples_and_a_line_twice_a_fault(published_set):
    folder = published_set("risbench")
    lines = folder / "output_phrase_test.txt"
    lines.write_text("P0.png the ship\r\n\nP0.png  the  other ship\nP1.png the ship")
    samples = load_samples(str(folder), "test")
    assert [(sample.id, sample.question) for sample in samples] == [
        ("P0.png", "the ship"), ("P0.png 2", "the  other ship"), ("P1.png", "the ship"),
    ]  # fmt: skip
    lines.write_text("P0.png the ship\nP1.png a\nP0.png the ship\n")
    with pytest.raises(ValueError, match=r"sample P0\.png 2 .*line 3.*must not repeat a line"):
        load_samples(str(folder), "test")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("P0.png", "must hold an image's name, a space and a phrase"),
        ("../mask/P0.png the ship", "must name a file, not a path"),
        ("/etc/passwd the ship", "must name a file, not a path"),
        ("P9.png the ship", r"P9\.png.*must exist"),
        ("x" * 5000 + " the ship", "must exist"),
        ("P0\0.png the ship", "must exist"),
    ],
)
def test_a_line_that_is_no_sample_is_told_with_its_number(published_set, line, told):
    folder = published_set("risbench")
    (folder / "output_phrase_test.txt").write_text(line + "\n")
    with pytest.raises(ValueError, match=told):
        load_samples(str(folder), "test")


def test_a_list_in_another_encoding_is_an_error(published_set):
    folder = published_set("refsegrs")
    (folder / "output_phrase_test.txt").write_bytes(b"7 caf\xe9\n")
    with pytest.raises(ValueError, match=r"output_phrase_test\.txt.*must be a readable list in UTF-8.*Fix:"):
        load_samples(str(folder), "test")


@pytest.fixture
def risbench(published_set):
    return published_set("risbench")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text() | st.lists(st.sampled_from(["P0.png", "P1.png", " ", "a", "\n", "\t", "\u3000"])).map("".join))
def test_any_list_gives_samples_and_problems_with_ids_of_their_own(text, risbench):
    (risbench / "output_phrase_test.txt").write_text(text, encoding="utf-8", errors="replace")
    found = list(entries(str(risbench), "test", "risbench"))
    ids = [entry.id for entry in found]
    assert len(set(ids)) == len(ids) and all(entry_id.strip() for entry_id in ids)
