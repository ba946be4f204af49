import asyncio
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from verl_socio.answer import Prompt
from verl_socio.data import load_samples
from verl_socio.evaluate.rows import SampleRow, StageRow
from verl_socio.metrics import MaskScore
from verl_socio.segment.box_segmenter import BoxSegmenter
from verl_socio.study.true_points import main, measure

TARGETS = (2, 2, 12, 12), (30, 20, 50, 40)


class Asked(BoxSegmenter):
    """Fills boxes, and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.prompts: list[Sequence[Prompt]] = []

    async def segment(self, image, prompts):
        self.prompts.append(prompts)
        return await super().segment(image, prompts)


@pytest.fixture
def city(tmp_path: Path, write_sample: Callable[..., Path]) -> Path:
    write_sample(tmp_path / "city", "one", "test", boxes_xyxy=TARGETS)
    return tmp_path / "city"


def row(*boxes: Sequence[float] | None, ious: Sequence[float] = (0.25, 0.5)) -> SampleRow:
    """An evaluated sample whose first answer has these boxes."""
    prompts = tuple({"box_xyxy": box, "points_xy": [], "labels": []} for box in boxes)
    stages = tuple(
        StageRow(
            name, "", "", "ok", "", True, prompts, (), MaskScore(iou, 10, 20, 0, 1, 2), 3, False, 0.0, 0.1, 0.1, 0.1
        )
        for name, iou in zip(("localise", "refine"), ious, strict=True)
    )
    return SampleRow("one", "q", "name", (64, 48), 500, 2, None, None, stages, 0.0, 0.0, 0)


def test_true_points_are_put_into_the_model_s_own_boxes(city: Path) -> None:
    half, beside = (30.0, 20.0, 38.0, 44.0), (14.0, 2.0, 18.0, 6.0)
    segmenter = Asked()
    figures = asyncio.run(measure(load_samples(str(city), "test"), [row(half, beside)], segmenter))
    assert (figures["first mask"], figures["last mask"]) == (0.25, 0.5)
    alone, inside, anywhere = segmenter.prompts
    assert [(prompt.box_xyxy, prompt.points_xy) for prompt in alone] == [(half, ()), (beside, ())]
    for prompts in (inside, anywhere):
        assert [prompt.box_xyxy for prompt in prompts] == [half, beside]
        assert [prompt.labels for prompt in prompts] == [(1, 1), ()], "where a box holds nothing there is no true point"
    assert all(30 < x < 38 and 20 < y < 40 for x, y in inside[0].points_xy)
    assert anywhere[0].points_xy[0] == pytest.approx((40, 30), abs=1), "the middle of the whole place"


def test_a_box_over_the_edge_and_no_box_at_all(city: Path) -> None:
    segmenter = Asked()
    asyncio.run(measure(load_samples(str(city), "test"), [row((-3.0, -3.0, 12.0, 12.0))], segmenter))
    assert [len(prompts[0].points_xy) for prompts in segmenter.prompts] == [0, 2, 2]
    assert all(2 < x < 12 and 2 < y < 12 for prompts in segmenter.prompts for x, y in prompts[0].points_xy)
    figures = asyncio.run(measure(load_samples(str(city), "test"), [row()], BoxSegmenter()))
    assert figures["true points inside its boxes"] == 0


def test_what_cannot_be_measured_is_named(city: Path) -> None:
    samples = load_samples(str(city), "test")
    with pytest.raises(ValueError, match=r"results = 'one': has no answer"):
        asyncio.run(measure(samples, [], BoxSegmenter()))
    with pytest.raises(ValueError, match="an object without a box"):
        asyncio.run(measure(samples, [row(None)], BoxSegmenter()))


@pytest.mark.parametrize(("split", "message"), [("test", "No such file"), ("no_such", "split = 'no_such': must be a")])
def test_a_mistake_on_the_command_line_is_one_message(city: Path, split: str, message: str) -> None:
    command = [sys.executable, "-m", "verl_socio.study.true_points", "nope", str(city), split, "--weights", "boxes"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    _stand_in, told = done.stderr.splitlines()
    assert told.startswith("Error: ")
    assert message in told


def test_the_figures_are_printed(city: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results.jsonl").write_text(row(*TARGETS).to_line())
    main(tmp_path / "results.jsonl", city, "test", weights="boxes")
    assert capsys.readouterr().out.splitlines() == [
        "first mask: gIoU 25.0",
        "last mask: gIoU 50.0",
        "its boxes alone: gIoU 100.0",
        "true points inside its boxes: gIoU 100.0",
        "true points anywhere in the places: gIoU 100.0",
    ]
