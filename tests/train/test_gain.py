import io
import json
from pathlib import Path

from rich.console import Console

from verl_socio.train.gain import gain_table, validations

STAGES = ["localise", "refine"]


def write(folder: Path, start: str, *entries: tuple[int, dict[str, float]]) -> None:
    lines = [json.dumps({"step": step, "data": data}) + "\n" for step, data in entries]
    (folder / f"{start}.jsonl").write_text("".join(lines))


def validation(giou: float) -> dict[str, float]:
    scores = {"ciou": giou - 0.1, "giou": giou, "f1": giou + 0.1, "giou_error": 0.025}
    return {f"val/{stage}/{key}": value for stage in STAGES for key, value in scores.items()}


def shown(folder: Path) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(gain_table(folder, STAGES))
    return console.file.getvalue()


def test_the_first_validation_stands_beside_the_last_over_all_starts(tmp_path: Path) -> None:
    write(tmp_path, "20260102-000000", (0, validation(0.4)), (1, {"localise/reward": 1.0}), (20, validation(0.5)))
    write(tmp_path, "20260103-000000", (20, validation(0.55)), (40, validation(0.6)))
    assert [(step, data["val/refine/giou"]) for step, data in validations(tmp_path, STAGES)] == [
        (0, 0.4), (20, 0.55), (40, 0.6)
    ]  # fmt: skip
    text = shown(tmp_path)
    assert "after step 0 -> after step 40" in text
    assert text.count("0.300 -> 0.500") == text.count("0.400 -> 0.600") == text.count("0.500 -> 0.700") == 2


def test_one_validation_shows_no_change(tmp_path: Path) -> None:
    write(tmp_path, "20260102-000000", (0, validation(0.4)))
    assert gain_table(tmp_path, STAGES) is None
    assert gain_table(tmp_path / "none", STAGES) is None


def test_a_stage_without_scores_and_a_torn_line_are_no_numbers(tmp_path: Path) -> None:
    first = {key: value for key, value in validation(0.4).items() if "localise" in key}
    write(tmp_path, "20260102-000000", (0, first), (40, validation(0.6)))
    with (tmp_path / "20260102-000000.jsonl").open("a") as file:
        file.write('{"step": 60, "data": {"val/loc')
    assert shown(tmp_path).count("none -> 0.600") == 1
