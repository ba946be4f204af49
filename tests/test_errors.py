import pytest

from verl_socio.errors import invalid


def test_message_names_field_value_rule_and_fix():
    error = invalid("stage.points", -1, "must be 0 or more", "set it to 0")
    assert isinstance(error, ValueError)
    assert str(error) == "stage.points = -1: must be 0 or more. Fix: set it to 0."


@pytest.mark.parametrize(("rule", "fix"), [("a.", "b."), ("a", "b")])
def test_full_stops_are_not_doubled(rule, fix):
    assert str(invalid("x", "y", rule, fix)) == "x = 'y': a. Fix: b."


def test_a_long_value_is_cut():
    message = str(invalid("x", "v" * 10_000, "too long", "shorten it"))
    assert len(message) < 260
    assert "...: too long" in message
