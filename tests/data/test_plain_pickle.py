import os
import pickle
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verl_socio.data.plain_pickle import load_plain

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=8,
)


# Protocols before 3 write bytes as a call, which is refused like any other.
@settings(deadline=None)
@given(value=st.lists(plain), protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_values_of_every_protocol_come_back(value, protocol, tmp_path_factory):
    file = tmp_path_factory.mktemp("pickles") / "refs.p"
    file.write_bytes(pickle.dumps(value, protocol))
    assert load_plain(file) == value


class Attack:
    def __init__(self, call, *arguments):
        self.call = call, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nothing_in_it_is_run(tmp_path, protocol):
    file = tmp_path / "refs.p"
    for attack in (Attack(os.mkdir, str(tmp_path / "made")), Attack(eval, "1"), Attack(getattr, [], "append")):
        file.write_bytes(pickle.dumps([attack], protocol))
        with pytest.raises(ValueError, match=r"refs\.p.*it asks for .*, and only plain values are read.*Fix:"):
            load_plain(file)
    assert not (tmp_path / "made").exists()


def test_objects_are_refused_and_a_mapping_is_no_list(tmp_path):
    file = tmp_path / "refs.p"
    for value, told in (([date(2020, 1, 1)], "datetime.date"), ({"refs": []}, "not a dict")):
        file.write_bytes(pickle.dumps(value))
        with pytest.raises(ValueError, match=told):
            load_plain(file)
    with pytest.raises(ValueError, match=r"gone\.p.*must be a readable file"):
        load_plain(tmp_path / "gone.p")


@settings(deadline=None)
@given(content=st.binary(max_size=200) | st.binary(max_size=60).map(lambda tail: b"\x80\x04" + tail))
def test_any_bytes_give_a_list_or_a_value_error(content, tmp_path_factory):
    file = tmp_path_factory.mktemp("pickles") / "refs.p"
    file.write_bytes(content)
    try:
        assert isinstance(load_plain(file), list)
    except ValueError as error:
        assert "Fix:" in str(error)
