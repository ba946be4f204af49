"""Writes the report: `report.html`, `report.json` and `charts/*.png` in the evaluation's folder."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
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
    # Drafts of this call alone: the evaluation may be ending, and write its report at the same time.
    with TemporaryDirectory(prefix=".report-", dir=folder) as name:
        drafts = Path(name)
        drawn = charts(evaluated, figures, drafts / "charts")
        machine = json.dumps(_machine(evaluated, figures, samples), indent=1, allow_nan=False)
        (drafts / "report.json").write_text(machine, encoding="utf-8")
        (drafts / "report.html").write_text(printable(_page(evaluated, figures, samples, drawn)), encoding="utf-8")
        (folder / "charts").mkdir(exist_ok=True)
        for draft in [path for path in drafts.rglob("*") if path.is_file()]:
            draft.replace(folder / draft.relative_to(drafts))
    return folder / "report.html"


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
    classes = {each.name for each in figures.classes}
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
        # Each with a sample that asks it.
        asked=dict(sorted({row.question: row.index for row in evaluated.rows if row.question in classes}.items())),
        style=(_PAGE / "report.css").read_text(encoding="utf-8"),
        script=script,
        # Nothing but this very script may run, whatever the texts of models and data hold.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
