import pytest

from verl_socio.command import run


@pytest.mark.parametrize(
    ("error", "code"), [(ValueError("a [b]"), 2), (RuntimeError("a [b]"), 1), (FileNotFoundError("a [b]"), 1)]
)
def test_what_went_wrong_is_one_message_and_a_code(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        run(fail)
    assert ended.value.code == code
    assert capsys.readouterr() == ("", "Error: a [b]\n")


def test_a_fault_of_the_code_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 / 0)
