import dataclasses

import pytest
from rich.console import Console

from verl_socio.data import Truth
from verl_socio.evaluate.intervals import intervals
from verl_socio.evaluate.protocols import PROTOCOLS
from verl_socio.evaluate.scores import summarise
from verl_socio.evaluate.timing import timings
from verl_socio.metrics import MaskScore
from verl_socio.report.load import load
from verl_socio.report.overview import Shown, overview


def whole(row):
    score = MaskScore(1.0, 100, 100, 1, 1, 1)
    return dataclasses.replace(row, stages=(row.stages[0], dataclasses.replace(row.stages[1], score=score)))


@pytest.fixture
def shown(write_evaluation, tmp_path):
    def make(split, way, change=lambda row: row):
        folder = write_evaluation(tmp_path / f"{split}-{way}", 12, change=change, data=split, strips=False)
        found = load(folder)
        figures = (function(found.rows, found.stages) for function in (summarise, intervals))
        return Shown(split, way, folder, *figures, timings(found.rows))

    return make


def printed(*several, width=120):
    console = Console(width=width)
    with console.capture() as capture:
        console.print(overview(several, "m on d"))
    return capture.get()


def test_splits_stand_under_each_other_with_their_last_stage(shown):
    text = printed(shown("val", ""), shown("test", "", whole))
    [of_test] = [line for line in text.splitlines() if "test" in line]
    assert of_test.count("100.0 100..100") == 3 and "against" not in text


def test_ablations_are_compared_with_the_first_of_their_split(shown):
    text = printed(
        *(
            shown(split, way, change)
            for split in ("val", "test")
            for way, change in (("as set", lambda row: row), ("whole", whole))
        )
    )
    lines = [line for line in text.splitlines() if "whole" in line]
    assert len(lines) == 2 and all("*" in line and "+" in line for line in lines)
    assert "val (12)" in text and "test (12)" in text


def test_nothing_is_cut_in_a_narrow_terminal(shown):
    text = printed(shown("val", "as set"), shown("val", "another way [b]", whole), width=80)
    assert "…" not in text and "samples/s" not in text and "failed" in text


def test_a_set_without_masks_shows_its_own_figures_and_no_comparison(shown):
    def counted(each):
        rows = [dataclasses.replace(row, truth=Truth(count=1)) for row in load(each.folder).rows]
        figures = (function(rows, ("localise", "refine"), PROTOCOLS["counting"]) for function in (summarise, intervals))
        summary, found = figures
        return dataclasses.replace(each, summary=summary, intervals=found)

    text = printed(*(counted(shown("val", way)) for way in ("as set", "whole")))
    assert "accuracy" in text and "MAE" in text and "gIoU" not in text and "against" not in text
    assert text.count("100.0 100..100") == 2
