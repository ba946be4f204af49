"""The verb `study page`: copy the records, write the page from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from rich.console import Console

from verl_socio.errors import invalid
from verl_socio.evaluate.scores import Line
from verl_socio.recipes.template import UNFILLABLE
from verl_socio.study.checks import settle
from verl_socio.study.curves import FOLDER, draw, pictures
from verl_socio.study.figures import Difference, Figures, Spread, Verdict, verdict_of
from verl_socio.study.margin import CONFIDENCE
from verl_socio.study.plan import Claim
from verl_socio.study.reading import load
from verl_socio.study.records import collect, read_baseline
from verl_socio.study.steps import wanted
from verl_socio.train.settings import ROOT

MISSING = "missing"
_HEADS = ("variant", "evaluation", "seeds", "gIoU, first mask", "gIoU", "cIoU", "F1", "unparsed", "failed")
_WORDS = {
    Verdict.HOLDS: "Holds here.",
    Verdict.FAILS: "Does not hold here.",
    Verdict.NOISE: "Undecided: what there is lies within the noise.",
    Verdict.MISSING: "Not enough seeds yet.",
    Verdict.SHOWN: "Nothing is claimed.",
}

console = Console()


def page(plan: Path) -> Path:
    """Bring the records up to date with the runs, and write the page from the records alone.

    Args:
        plan: The plan's file.

    Returns:
        The page, beside the folder of the records. Where the runs are not at hand it says what the records say.

    Raises:
        ValueError: The plan, its template or a record breaks a rule; or a run or a record was made by another plan, and
            no record was changed.
    """
    study = load(plan)
    settled = settle(study)
    figures = Figures(study, settled.last_steps)
    settled.check_unchanged(figures.runs.values())
    collect(study, figures.runs.values())
    text = render(figures)
    out = study.results.with_suffix(".md")
    out.write_text(text, encoding="utf-8")
    console.print(f"Wrote {out} from {study.results}", markup=False, highlight=False, soft_wrap=True)
    return out


@dataclass(frozen=True)
class Shown:
    """A claim as the template sees it.

    Attributes:
        text: The claim in words.
        verdict: What is to be said of it: one sentence.
        table: What the variants reached.
        differences: The comparisons.
        sentences: One a comparison.
        note: What the plan says beside the figures; None where it says nothing.
    """

    text: str
    verdict: str
    table: str
    differences: str
    sentences: tuple[str, ...]
    note: str | None


def render(figures: Figures) -> str:
    """The page's text; its pictures are drawn on the way.

    Raises:
        ValueError: The template cannot be filled in, or a record cannot be read.
    """
    study = figures.study
    drawn = [(each, draw(each, study.results / FOLDER)) for each in pictures(figures)]
    context = {
        "claims": {name: show(figures, claim) for name, claim in study.claims.items()},
        "baselines": baselines(figures),
        "pictures": [(each.title, path.relative_to(study.results.parent).as_posix()) for each, path in drawn],
        "missing": missing(figures),
        "codes": figures.codes(),
        "training_codes": figures.training_codes(),
        "plan": study,
        "plan_file": _shown(study.path),
        "records": _shown(study.results),
        "confidence": f"{CONFIDENCE:.0%}",
    }
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False,
        keep_trailing_newline=True,
    )  # fmt: skip
    try:
        source = study.template.read_text(encoding="utf-8")
        return environment.from_string(source).render(context)
    except (OSError, *UNFILLABLE) as error:
        rule = f"must be a template that can be filled in ({type(error).__name__}: {error})"
        raise invalid("template", str(study.template), rule, "correct the template") from error


def _shown(path: Path) -> str:
    """A path as one types it in the clone."""
    absolute = path.absolute()
    return absolute.relative_to(ROOT).as_posix() if absolute.is_relative_to(ROOT) else str(path)


def show(figures: Figures, claim: Claim) -> Shown:
    """Lay a claim out."""
    differences = [figures.difference(each) for each in claim.comparisons]
    return Shown(
        claim.text,
        _WORDS[verdict_of(claim, differences)],
        _reached(figures, claim),
        _compared(differences),
        (*_of_one_place(figures, claim), *(sentence(each) for each in differences)),
        claim.note,
    )


def _of_one_place(figures: Figures, claim: Claim) -> list[str]:
    """Which variants of a claim can name one place only, and how many questions mean one."""
    names = [name for name in claim.variants if figures.study.variants[name].one_place]
    if not names:
        return []
    counts = []
    for evaluation in claim.evaluations:
        found = next((result for name in claim.variants for result in figures.results(name, evaluation)), None)
        if found is not None:
            counts.append(f"{(found.places == 1).sum()} of {len(found.places)} on {evaluation}")
    told = f" ({', '.join(counts)})" if counts else ""
    return [
        f"All are asked all questions. What can name one place only ({', '.join(names)}) is compared on the questions "
        f"that mean one place, whose target is one connected region{told}."
    ]


def missing(figures: Figures) -> list[str]:
    """What the plan has and the records have not, a line each variant."""
    lines = []
    for name, variant in figures.study.variants.items():
        absent = []
        runs = [figures.runs[name, seed] for seed in variant.seeds]
        for at in (None, *variant.also_at):
            for evaluation in figures.study.asked(name):
                asked = [run.seed for run in runs if evaluation in wanted(figures.study, run, at or run.last_step)]
                gone = [str(seed) for seed in asked if figures.result(name, seed, evaluation.name, at) is None]
                if gone:
                    where = "" if at is None else f" at step {at}"
                    absent.append(f"{evaluation.name}{where} (seed {', '.join(gone)})")
        if absent:
            lines.append(f"{name}: {', '.join(absent)}")
    return lines


def baselines(figures: Figures) -> str:
    """The centre box and the true boxes beside every evaluation, for the first city of the plan."""
    study = figures.study
    city = next(iter(study.cities))
    rows = []
    for evaluation in study.evaluations:
        box = figures.center_box(city, evaluation)
        rows.append(_baseline_row(evaluation, "centre box", box))
        for baseline in study.baselines.values():
            if evaluation in baseline.evaluations:
                lines = read_baseline(study, baseline.name)
                rows += [_baseline_row(evaluation, line.name, line) for line in lines]
                if not lines:
                    rows.append(_baseline_row(evaluation, "true boxes", None))
    return _table(("evaluation", "baseline", "samples", "gIoU", "cIoU", "F1"), rows)


def _baseline_row(evaluation: str, name: str, line: Line | None) -> list[str]:
    if line is None:
        return [evaluation, name, MISSING, MISSING, MISSING, MISSING]
    return [evaluation, name, str(line.samples), *(f"{100 * value:.1f}" for value in (line.giou, line.ciou, line.f1))]


def _reached(figures: Figures, claim: Claim) -> str:
    heads, rows = list(_HEADS), []
    evaluations = dict.fromkeys((*([claim.fall_from] if claim.fall_from else []), *claim.evaluations))
    one_place = any(figures.study.variants[name].one_place for name in claim.variants)
    if one_place:
        heads.append("gIoU, one place")
    if claim.fall_from is not None:
        heads.append(f"gIoU less that of {claim.fall_from}")
    for name in claim.variants:
        for evaluation in evaluations:
            row = _reached_row(figures, name, evaluation)
            if one_place:
                row.append(_one_place(figures, name, evaluation))
            if claim.fall_from is not None:
                row.append("" if evaluation == claim.fall_from else _fall(figures, name, evaluation, claim.fall_from))
            rows.append(row)
    return _table(heads, rows)


def _one_place(figures: Figures, name: str, evaluation: str) -> str:
    values = [each.giou_of_one_place("last") for each in figures.results(name, evaluation)]
    known = tuple(value for value in values if value is not None)
    return _percent(Spread(known)) if known else MISSING


def _reached_row(figures: Figures, name: str, evaluation: str) -> list[str]:
    planned, found = figures.seeds(name, evaluation), figures.results(name, evaluation)
    head = [name, evaluation, f"{len(found)} of {len(planned)}"]
    if not found:
        return [*head, *[MISSING] * (len(_HEADS) - len(head))]
    stages = len(found[0].lines)
    unparsed = [each.line("last").unparsed for each in found]
    return [
        *head,
        "" if stages == 1 else _percent(Spread(tuple(each.line("first").giou for each in found))),
        *(_percent(Spread(tuple(getattr(each.line("last"), key) for each in found))) for key in ("giou", "ciou", "f1")),
        _percent(Spread(tuple(each for each in unparsed if each is not None))) if None not in unparsed else MISSING,
        str(sum(each.failures for each in found)),
    ]


def _fall(figures: Figures, name: str, evaluation: str, fall_from: str) -> str:
    values = []
    for seed in figures.seeds(name, evaluation):
        there, here = figures.result(name, seed, evaluation), figures.result(name, seed, fall_from)
        if there is not None and here is not None:
            values.append(there.line("last").giou - here.line("last").giou)
    return _percent(Spread(tuple(values)), sign=True) if values else MISSING


def _compared(differences: Sequence[Difference]) -> str:
    heads = ("better", "than", "evaluation", "seeds", "gIoU more", "each seed", "margin", "wanted", "verdict")
    rows = []
    for each in differences:
        compared = each.comparison
        figures = [MISSING] * 3
        if each.by_seed:
            by_seed = ", ".join(f"{value:+.1f}" for value in each.by_seed.values())
            figures = [f"{each.spread.mean:+.1f}", by_seed, f"± {each.margin:.1f}"]
        wanted = "" if compared.at_least is None else f"{compared.at_least:g} or more"
        rows.append(
            [_side(compared.of, compared.mask), _side(compared.against, compared.against_mask), compared.evaluation,
             f"{len(each.by_seed)} of {each.planned}", *figures, wanted, each.verdict]
        )  # fmt: skip
    return _table(heads, rows)


def sentence(difference: Difference) -> str:
    """What a comparison says, in words."""
    compared, there = difference.comparison, len(difference.by_seed)
    pair = f"{_side(compared.of, compared.mask)} and {_side(compared.against, compared.against_mask)}"
    if not difference.by_seed:
        return f"On {compared.evaluation}, {pair} have not been compared yet (0 of {difference.planned} seeds)."
    mean = difference.spread.mean
    text = (
        f"On {compared.evaluation}, the gIoU of {_side(compared.of, compared.mask)} is {abs(mean):.1f} points "
        f"{'above' if mean >= 0 else 'below'} that of {_side(compared.against, compared.against_mask)} "
        f"({there} of {difference.planned} seeds, ± {difference.margin:.1f}"
        f"{f', {difference.samples} questions that mean one place' if difference.one_place else ''})"
    )
    if compared.at_least is None:
        return f"{text}."
    wanted = f"{compared.at_least:g} or more were" if compared.at_least else "a difference above the noise was"
    return f"{text}; {wanted} wanted: {difference.verdict}."


def _side(variant: str, mask: str) -> str:
    return variant if mask == "last" else f"{variant} ({mask} mask)"


def _percent(spread: Spread, *, sign: bool = False) -> str:
    mean = f"{100 * spread.mean:{'+' if sign else ''}.1f}"
    return mean if spread.deviation is None else f"{mean} ± {100 * spread.deviation:.1f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
