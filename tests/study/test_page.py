import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from verl_socio.evaluate.scores import Line
from verl_socio.study.figures import Difference, Figures
from verl_socio.study.page import baselines, page, render, sentence
from verl_socio.study.plan import Comparison, Study
from verl_socio.study.reading import load
from verl_socio.study.records import collect, write_lines
from verl_socio.study.steps import record_folder
from verl_socio.train.run_folder import SETTINGS
from verl_socio.train.settings import CONFIGS, shipped_recipe

LAST = {"start": 0, "other": 4, "trained": 4}
TEMPLATE = CONFIGS / "study" / "results.md.jinja"
Keep = Callable[..., None]


@pytest.fixture
def shipped(study: Study) -> Study:
    """The small plan with the repository's own template."""
    return replace(study, template=TEMPLATE)


def lines(text: str, *parts: str) -> list[str]:
    """The lines that hold all parts."""
    return [line for line in text.splitlines() if all(part in line for part in parts)]


def test_an_empty_study_gives_a_page_that_says_so(shipped: Study) -> None:
    text = render(Figures(shipped, LAST))
    assert "**Not enough seeds yet.**" in text
    assert "No training has left its metrics yet." in text
    assert lines(text, "- trained: test (seed 0, 1), sampled (seed 0, 1), test at step 2 (seed 0, 1)")
    assert lines(text, "| trained | start | test | 0 of 2 | missing | missing | missing | 3 or more |")
    assert lines(text, "| start | test | 0 of 1 | missing | missing |")
    assert not re.search(r"\| -?0\.0 \|", text), "what is missing is not shown as a zero"


def test_the_figures_of_the_records_stand_in_the_tables(shipped: Study, keep: Keep) -> None:
    keep("start", 0, "test", {"localise": [0.2, 0.4], "refine": [0.2, 0.4]})
    keep("trained", 0, "test", {"localise": [0.5, 0.7], "refine": [0.6, 0.8]})
    keep("trained", 1, "test", {"localise": [0.5, 0.7], "refine": [0.7, 0.9]})
    text = render(Figures(shipped, LAST))
    assert lines(text, "| trained | test | 2 of 2 | 60.0 ± 0.0 | 75.0 ± 7.1 |")
    assert lines(text, "| start | test | 1 of 1 | 30.0 | 30.0 |")
    assert lines(
        text, "| trained | start | test | 2 of 2 | +45.0 | +40.0, +50.0 | ± 63.5 | 3 or more | within the noise |"
    )
    assert lines(text, "the gIoU of trained is 45.0 points above that of start (2 of 2 seeds, ± 63.5); 3 or more")
    assert lines(text, "| trained | trained (first mask) | test | 2 of 2 | +15.0 | +10.0, +20.0 |")
    assert "![The test sets, along the training](results/curves/out_of_distribution.png)" in text
    assert (shipped.results / "curves" / "out_of_distribution.png").is_file()
    missing_of = "- trained: sampled (seed 0, 1), test at step 2 (seed 0, 1)"
    assert lines(text, missing_of), "what is there is not called missing"
    keep("trained", 1, "test", {"localise": [0.5, 0.6]}, at=2)
    assert lines(render(Figures(shipped, LAST)), missing_of.removesuffix(", 1)") + ")")


def test_what_the_plan_says_beside_a_claim_stands_under_its_sentences(shipped: Study) -> None:
    assert "\n\n\n" not in render(Figures(shipped, LAST)).split("## Training helps")[1].split("## ")[0]
    claims = {**shipped.claims, "improves": replace(shipped.claims["improves"], note="It was tried with *more*.\n")}
    text = render(Figures(replace(shipped, claims=claims), LAST))
    assert ".\n\nIt was tried with *more*.\n\n| better |" in text


def test_the_fall_from_one_evaluation_to_another_is_shown(shipped: Study, keep: Keep) -> None:
    keep("trained", 0, "test", {"localise": [0.5]})
    keep("trained", 0, "sampled", {"localise": [0.4]})
    text = render(Figures(shipped, LAST))
    assert lines(text, "gIoU less that of test |")
    (row,) = lines(text, "| trained | sampled | 1 of 2 |")
    assert row.endswith("| -10.0 |")


def test_what_names_one_place_only_stands_beside_the_others_on_those_questions(shipped: Study, keep: Keep) -> None:
    variants = {**shipped.variants, "start": replace(shipped.variants["start"], one_place=True)}
    study = replace(shipped, variants=variants)
    text = render(Figures(study, LAST))
    assert lines(text, "What can name one place only (start) is", "whose target is one connected region."), "of none"
    assert lines(text, "| start | test | 0 of 1 | missing |", "| missing | missing |")
    keep("start", 0, "test", {"answer": [0.2, 0.1, 0.4]}, places=[1, 2, 1])
    keep("trained", 0, "test", {"answer": [0.5, 0.9, 0.5]}, places=[1, 2, 1])
    text = render(Figures(study, LAST))
    assert lines(text, "(start) is compared", "whose target is one connected region (2 of 3 on test).")
    assert lines(text, "| gIoU, one place | gIoU less that of test |")
    (row,) = lines(text, "| start | test | 1 of 1 |")
    assert row.endswith("| 0 | 30.0 |  |")
    assert lines(text, "| trained | start | test | 1 of 2 | +20.0 |")
    assert lines(text, "± 127.1, 2 questions that mean one place)")


def test_the_shipped_plan_has_every_recipe_of_the_city_side_by_side() -> None:
    study = load(CONFIGS / "study" / "city.yaml")
    trained = [study.variants[name] for name in study.claims["recipes"].variants if study.variants[name].training]
    named = {variant.name: word.removeprefix("recipe=") for variant in trained for word in variant.train}
    recipes = {f"embedded/{path.stem}" for path in (CONFIGS / "recipe" / "embedded").glob("*.yaml")}
    # The default of both trainings' configurations is the one that needs no word.
    assert {variant.name for variant in trained} - set(named) == {"two_stage", "sft"}
    assert {*named.values(), "embedded/socioreasoner"} == recipes
    for variant in trained:
        recipe = shipped_recipe(named.get(variant.name, "embedded/socioreasoner"))
        assert variant.one_place is any(stage.grammar.single for stage in recipe.stages), variant.name
        begun = study.variants[variant.begins_as]
        assert (begun.training, begun.evaluate, begun.one_place) == (None, variant.train, variant.one_place)


def test_a_single_seed_has_no_deviation_and_samples_that_failed_are_counted(
    shipped: Study, write_evaluation: Callable[..., Path]
) -> None:
    figures = Figures(shipped, LAST)
    folder = figures.runs["trained", 0].folder / "eval" / "test-step_4-test"
    write_evaluation(folder, {"localise": [0.5, 0.5]}, failed=1)
    collect(shipped, figures.runs.values())
    rows = lines(render(figures), "| trained | test | 1 of 2 |")
    assert len(rows) == 2, "once in each claim"
    for row in rows:
        assert re.search(r"1 of 2 \|  \| 25\.0 \|.*\| 1 \|", row), "one stage has no first mask beside the last"


def write_plan_with(study: Study) -> Path:
    """The plan's own file, changed to the study's template."""
    text = study.path.read_text()
    study.path.write_text(re.sub(r"(?m)^template: .*$", f"template: {study.template}", text))
    return study.path


def test_the_page_can_be_written_again_from_the_records_alone(shipped: Study, keep: Keep) -> None:
    keep("start", 0, "test", {"localise": [0.2, 0.4]})
    keep("trained", 0, "test", {"localise": [0.5, 0.7]})
    write_lines(shipped.runs / "baselines" / "true_boxes.json", [Line("all", "true boxes", 2, 0.1, 0.9, 0.3, None, 0)])
    plan = write_plan_with(shipped)
    first = page(plan)
    assert first == shipped.results.parent / "results.md"
    before = {path: path.read_bytes() for path in first.parent.rglob("*") if path.is_file()}
    shutil.rmtree(shipped.runs)
    first.unlink()
    assert page(plan) == first
    assert before == {path: path.read_bytes() for path in first.parent.rglob("*") if path.is_file()}


def test_a_run_of_another_plan_is_refused_before_a_record_is_touched(
    plan_values: dict, read_plan: Callable[[object], Study], write_evaluation: Callable[..., Path]
) -> None:
    del plan_values["variants"]["other"], plan_values["claims"]["second"]["also"]
    study = read_plan(plan_values)
    run = Figures(study, LAST).runs["trained", 1]
    kept = record_folder(study, run) / "test-step_4.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("a good record")
    write_evaluation(run.folder / "eval" / "test-step_4-test", {"localise": [0.5]})
    (run.folder / SETTINGS).write_text("trainer: {total_training_steps: 4}\n")
    with pytest.raises(ValueError, match=r"trained seed 1 = .*was made with other settings.*Fix: "):
        page(study.path)
    assert [path for path in study.results.rglob("*") if path.is_file()] == [kept]
    assert kept.read_text() == "a good record"


def test_baselines_stand_beside_the_evaluations_they_belong_to(study: Study, keep: Keep) -> None:
    keep("start", 0, "test", {"localise": [0.2]})
    write_lines(study.results / "baselines" / "true_boxes.json", [Line("all", "true boxes", 9, 0.1, 0.9, 0.3, None, 0)])
    text = baselines(Figures(study, LAST))
    assert lines(text, "| test | centre box | 1 | 10.0 | 10.0 | 0.0 |")
    assert lines(text, "| test | true boxes | 9 | 90.0 | 10.0 | 30.0 |")
    assert lines(text, "| sampled | centre box | missing | missing | missing | missing |")
    assert not lines(text, "| sampled | true boxes")


@pytest.mark.parametrize(
    ("mean", "at_least", "expected"),
    [
        (9.0, 8.0, "9.0 points above that of b (2 of 2 seeds, ± 2.0); 8 or more were wanted: holds."),
        (-1.0, 0.0, "1.0 points below that of b (2 of 2 seeds, ± 2.0); a difference above the noise was wanted: "),
        (2.0, None, "2.0 points above that of b (2 of 2 seeds, ± 2.0)."),
    ],
)
def test_a_sentence_says_what_the_numbers_say(mean: float, at_least: float | None, expected: str) -> None:
    difference = Difference(Comparison("a", "b", "test", at_least=at_least), 2, {0: mean, 1: mean}, 1.0, 600, False)
    assert expected in sentence(difference)


def test_no_number_is_typed_into_the_template() -> None:
    prose = re.sub(r"\{[{%].*?[%}]\}", "", TEMPLATE.read_text(), flags=re.DOTALL)
    assert "How to read the tables" in prose, "the prose itself is looked at"
    # A digit that belongs to a word (F1, SAM2) is part of a name.
    assert re.findall(r"(?<![A-Za-z0-9.])\d[\d.]*", prose) == []


@pytest.mark.parametrize("text", ["{{ nothing }}", "{% for %}", "{{ claims.no_such.text }}", "{{ 1 / 0 }}", b"\xff"])
def test_a_template_that_cannot_be_filled_in_is_refused(study: Study, text: str | bytes) -> None:
    study.template.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=r"template = .*Fix: correct the template"):
        render(Figures(study, LAST))


def test_a_template_that_is_not_there_is_refused(study: Study) -> None:
    study.template.unlink()
    with pytest.raises(ValueError, match=r"template = .*Fix: "):
        render(Figures(load(study.path), LAST))
