from rich.console import Console

from verl_socio.bootstrap import Interval
from verl_socio.evaluate.published import PUBLISHED
from verl_socio.evaluate.scores import Line, Summary
from verl_socio.evaluate.table import table

LINES = tuple(
    Line(level, name, 12, 0.4321, 0.5, 1.0, None if name == "centre box" else 0.25, 0 if name == "centre box" else 3)
    for level in ("all", "class")
    for name in ("centre box", "localise", "refine")
)


def printed(failures=3, width=120, **kwargs):
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table(Summary(12, failures, 0.036, LINES), "m on d", **kwargs))
    return capture.get()


def test_every_line_is_there_in_percent():
    text = printed(published=False)
    assert text.count("43.2") == 6 and text.count("100.0") == 6
    assert text.count("25.0") == 4, "the baseline has no answers to parse"
    assert "all (12)" in text and "class (12)" in text and "name" not in text
    assert "m on d" in text


def test_it_says_what_f1_the_baseline_and_failures_are():
    text = " ".join(printed(published=False).split())
    assert "matched one to one, a hit at IoU >= 0.5" in text
    assert "3.6% of the image" in text
    assert "3 of 12 samples failed" in text
    assert "samples failed" not in printed(failures=0, published=False)


def test_published_figures_are_there_only_where_they_belong_and_marked():
    assert "published" not in printed(published=False)
    text = printed(published=True)
    rows = [line for line in text.splitlines() if "published" in line and "│" in line]
    assert len(rows) == sum(row.level in ("all", "class") for row in PUBLISHED)
    assert any("SocioReasoner-3B" in row and "47.9" in row and "52.8" in row and "59.7" in row for row in rows)
    assert "not measured here" in text


def test_no_figure_and_no_interval_is_cut_in_a_narrow_terminal():
    found = {
        (line.level, line.name): {key: Interval(0.4001, 0.4999) for key in ("ciou", "giou", "f1")} for line in LINES
    }
    text = printed(width=80, published=False, intervals=found)
    assert text.count("40.0..50.0") == 18 and text.count("43.2") == 6 and "…" not in text
    assert "95 % bootstrap interval" in text
