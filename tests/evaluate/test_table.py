from dataclasses import replace

import pytest
from rich.console import Console

from verl_socio.bootstrap import Interval
from verl_socio.evaluate.protocols import PROTOCOLS
from verl_socio.evaluate.published import PAPERS, published_for
from verl_socio.evaluate.scores import Line, LineWithoutMasks, Summary
from verl_socio.evaluate.table import table

LINES = tuple(
    Line(level, name, 12, 0.4321, 0.5, 1.0, None if name == "centre box" else 0.25, 0 if name == "centre box" else 3)
    for level in ("all", "class")
    for name in ("centre box", "localise", "refine")
)


def printed(summary=None, failures=3, width=120, **kwargs):
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table(summary or Summary("levels", 12, failures, 0, 0.036, LINES), "m on d", **kwargs))
    return capture.get()


def test_every_line_is_there_in_percent():
    text = printed()
    assert text.count("43.2") == 6 and text.count("100.0") == 6
    assert text.count("25.0") == 4, "the baseline has no answers to parse"
    assert "all (12)" in text and "class (12)" in text and "name" not in text
    assert "m on d" in text


def test_it_says_what_f1_the_baseline_and_failures_are():
    text = " ".join(printed().split())
    assert "matched one to one, a hit at IoU >= 0.5" in text
    assert "3.6% of the image" in text
    assert "3 of 12 samples failed" in text
    assert "samples failed" not in printed(failures=0)


def test_where_most_answers_cannot_be_read_it_says_what_may_be_wrong():
    assert "could not be read" not in printed()
    lines = tuple(replace(line, unparsed=0.9) if line.name == "refine" else line for line in LINES)
    text = " ".join(printed(Summary("levels", 12, 3, 0, 0.036, lines)).split())
    assert text.count("90% of the answers of refine could not be read") == 1, "once, not for each level"
    assert "recipe=NAME" in text


def test_published_figures_are_there_only_where_they_belong_and_marked():
    assert "published" not in printed()
    papers = published_for("auto", "vvangfaye/SocioSeg", "test", whole=True)
    text = printed(published=papers)
    rows = [line for line in text.splitlines() if "published" in line and "│" in line]
    assert len(rows) == sum(row.level in ("all", "class") for paper in papers for row in paper.rows)
    assert any("SocioReasoner-3B" in row and "47.9" in row and "52.8" in row and "59.7" in row for row in rows)
    assert "as printed in arXiv 2601.10477, not measured here" in text


def test_no_figure_and_no_interval_is_cut_in_a_narrow_terminal():
    found = {
        (line.level, line.name): {key: Interval(0.4001, 0.4999) for key in ("ciou", "giou", "f1")} for line in LINES
    }
    text = printed(width=80, intervals=found)
    assert text.count("40.0..50.0") == 18 and text.count("43.2") == 6 and "…" not in text
    assert "95 % bootstrap interval" in text


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_shows_its_own_columns_and_says_what_they_mean(name):
    columns = PROTOCOLS[name].columns
    figures = {column.key: None if number else 0.1234 for number, column in enumerate(columns)}
    summary = Summary(name, 7, 0, 2, None, (LineWithoutMasks("all", "answer", 7, figures, 0.0, 0),))
    text = printed(summary)
    assert all(column.title in text for column in columns)
    assert "12.3" in text and "None" not in text
    assert "2 of 7 samples have no target" in text and "Centre box" not in text
    assert all(rule.split(":")[0] in text for rule in PROTOCOLS[name].rules)


def test_errors_in_objects_are_no_percentages():
    figures = {"accuracy": 0.5, "mae": 1.25, "rmse": 20.0}
    text = printed(Summary("counting", 2, 0, 0, None, (LineWithoutMasks("all", "answer", 2, figures, 0.0, 0),)))
    assert "50.0" in text and "1.25" in text and "20.00" in text


def test_papers_are_set_beside_a_whole_split_of_the_hub_or_where_the_user_says_so():
    assert published_for("auto", "vvangfaye/SocioSeg", "test", whole=False) == ()
    assert published_for("auto", "vvangfaye/SocioSeg", "val", whole=True) == ()
    assert published_for("auto", "some/SocioSeg", "test", whole=True) == ()
    assert published_for(None, "vvangfaye/SocioSeg", "test", whole=True) == ()
    assert published_for("EarthReason/test", "my/folder", "x", whole=False) == PAPERS["EarthReason/test"]
    with pytest.raises(ValueError, match=r"published = 'nowhere'.*EarthReason/test.*Fix:"):
        published_for("nowhere", "a/b", "test", whole=True)


@pytest.mark.parametrize("key", PAPERS)
def test_every_published_figure_is_one_that_its_set_s_table_shows(key):
    shown = {column.key for protocol in PROTOCOLS.values() for column in protocol.columns}
    for row in (row for paper in PAPERS[key] for row in paper.rows):
        assert row.figures.keys() <= shown
        assert all(0 < value < 1 for value in row.figures.values())
