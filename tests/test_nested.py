from verl_socio.nested import differences


def test_differences_name_the_keys():
    before, now = {"a": {"b": 1, "c": 2}, "d": []}, {"a": {"b": 1, "c": 3}, "e": 0}
    assert differences(before, now) == [("a.c", 2, 3), ("d", [], None), ("e", None, 0)]
