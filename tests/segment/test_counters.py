from verl_socio.segment.counters import Counters


def test_counters_add_up_field_by_field() -> None:
    one = Counters(requests=3, encodes=1, cache_hits=2, encode_s=0.5)
    two = Counters(requests=1, failures=1, restarts=1, encode_s=0.25)
    assert one + two == Counters(requests=4, encodes=1, cache_hits=2, failures=1, restarts=1, encode_s=0.75)
    assert one == one + Counters()
