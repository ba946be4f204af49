"""Writes the report: `report.html`, `report.json` and `charts/*.png` in the evaluation's folder."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2

from verl_socio.evaluate.published import papers_of
from verl_socio.evaluate.scores import ALL, CENTER_BOX
from verl_socio.evaluate.summary import summary_values
from verl_socio.evaluate.table import INTERVAL_RULE, TIMING_RULE, notes
from verl_socio.report.charts import charts
from verl_socio.report.figures import Figures, figures_of
from verl_socio.report.kinds import KINDS
from verl_socio.report.load import Evaluated, load
from verl_socio.report.samples import entries
from verl_socio.text import printable
from verl_socio.whole_file import write_whole

_PAGE = Path(__file__).parent / "page"


def make(folder: Path) -> Path:
    """Write the report of an evaluation; a report that is there is replaced.

    Args:
        folder: `<run>/eval/<name>`; it may be unfinished.

    Returns:
        The page. It opens offline, from this folder: the small pictures stay files beside it.

    Raises:
        ValueError: The folder holds no evaluation, or what it holds cannot be read.
    """
    evaluated = load(folder)
    figures = figures_of(evaluated)
    samples = entries(evaluated)
    drawn = charts(evaluated, figures, folder / "charts")
    write_whole(folder / "report.json", json.dumps(_machine(evaluated, figures, samples), indent=1, allow_nan=False))
    page = folder / "report.html"
    write_whole(page, printable(_page(evaluated, figures, samples, drawn)))
    return page


def _machine(evaluated: Evaluated, figures: Figures, samples: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "title": evaluated.title,
        "finished": evaluated.is_finished,
        "fingerprint": evaluated.mark,
        "summary": summary_values(figures.summary, figures.intervals, figures.timings),
        "classes": [asdict(each) for each in figures.classes],
        "kinds": figures.kinds,
        "refinement": None if figures.refinement is None else asdict(figures.refinement),
        "samples": samples,
    }


def _page(evaluated: Evaluated, figures: Figures, samples: list[dict[str, Any]], drawn: dict[str, str]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["percent"] = lambda value: f"{100 * value:.1f}"
    script = (_PAGE / "report.js").read_text(encoding="utf-8")
    # What is published is of all samples.
    papers = papers_of(evaluated.config) if evaluated.is_finished else ()
    lines = figures.summary.lines
    return environment.get_template("report.html.jinja").render(
        evaluated=evaluated,
        figures=figures,
        # The first line of each level says which level it is.
        levels={
            level: [line for line in lines if line.level == level] for level in dict.fromkeys(x.level for x in lines)
        },
        headline=next(line for line in lines if line.level == ALL and line.name == evaluated.stages[-1]),
        center_box=CENTER_BOX,
        whole=figures.timings[-1] if figures.timings else None,
        published=[row for paper in papers for row in paper.rows],
        notes=[INTERVAL_RULE, *notes(figures.summary, papers).splitlines()],
        timing_rule=TIMING_RULE,
        kinds=KINDS,
        charts=drawn,
        samples=samples,
        asked=sorted({each.name for each in figures.classes}),
        style=(_PAGE / "report.css").read_text(encoding="utf-8"),
        script=script,
        # Nothing but this very script may run, whatever the texts of models and data hold.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
