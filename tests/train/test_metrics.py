from pathlib import Path

import pytest

from verl_socio.train.metrics import entries


def test_steps_are_read_up_to_a_line_that_was_being_written(tmp_path: Path) -> None:
    file = tmp_path / "20260102-000000.jsonl"
    file.write_text('{"step": 1, "data": {"a": 0.5}}\n{"step": 2, "data": {}}\n{"step": 3, "da')
    assert list(entries(file)) == [{"step": 1, "data": {"a": 0.5}}, {"step": 2, "data": {}}]


@pytest.mark.parametrize("line", ["", "nonsense", "[1]", '{"step": 1}', '{"step": "1", "data": {}}', "[" * 10**5])
def test_a_line_that_is_no_step_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1, "data": {}}\n' + line + "\n")
    with pytest.raises(ValueError, match=r"metrics = .*line 2 does not.*Fix: delete the line"):
        list(entries(file))
