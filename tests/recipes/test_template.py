import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl_socio.recipes.template import PROMPTS, Template

BOTH = ("map", "satellite")


def fill(template: Template, question: str = "Zoo", previous: str = "[]", images=BOTH, size_wh=(252, 140)) -> str:
    return template(question=question, images=images, previous=previous, points=3, size_wh=size_wh)


def test_placeholders_are_filled_in() -> None:
    template = Template("{{ width }} x {{ height }}: {{ question }} after {{ previous }}, {{ points }} points")
    assert fill(template, "Zoo", '[{"a": 1}]') == '252 x 140: Zoo after [{"a": 1}], 3 points'


def test_a_question_is_words_and_never_a_template() -> None:
    assert fill(Template("Find {{ question }}."), "{{ 7 * 7 }} <b>&amp;") == "Find {{ 7 * 7 }} <b>&amp;."


def test_whole_sizes_are_written_without_a_point() -> None:
    assert fill(Template("{{ question }} {{ width }}"), size_wh=(1000.0, 1000.0)) == "Zoo 1000"


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ("Find it.", r"must contain \{\{ question \}\}"),
        ("{{ question }} {{ colour }}", "may only use the placeholders .* not colour"),
        ("{{ question", "must be a Jinja template"),
        ("{{ question | no_such_filter }}", "must be a Jinja template"),
        ("", r"must contain \{\{ question \}\}"),
    ],
)
def test_a_broken_template_is_refused(source: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rf"prompt = .*{rule}.*Fix: "):
        Template(source)


@given(
    st.lists(
        st.sampled_from(["{{", "}}", "{%", "%}", " question ", "previous", "|", "for x in", "if", "end", ".", "é"])
    )
)
def test_any_text_makes_a_template_or_a_clear_error(parts: list[str]) -> None:
    try:
        template = Template("".join(parts))
        template.try_out(BOTH)
    except ValueError as error:
        assert "Fix: " in str(error)
    else:
        assert "Zoo" in fill(template)


def test_uses_tells_what_a_template_names() -> None:
    template = Template("{{ question }} {{ previous }}")
    assert template.uses("previous")
    assert not template.uses("width")


def test_a_template_travels_between_processes() -> None:
    template = Template("Find {{ question }}.", "mine")
    again = pickle.loads(pickle.dumps(template))
    assert again == template
    assert again.name == "mine"
    assert fill(again) == "Find Zoo."


def test_a_path_is_looked_up_here_and_then_among_the_shipped_prompts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = next(PROMPTS.glob("*.jinja")).name
    monkeypatch.chdir(tmp_path)
    assert Template.load(shipped).name == str(PROMPTS / shipped)
    Path(shipped).write_text("  mine: {{ question }}\n", encoding="utf-8")
    assert fill(Template.load(shipped)) == "mine: Zoo"
    assert fill(Template.load(str(tmp_path / shipped))) == "mine: Zoo"


def test_a_missing_file_names_itself_and_the_places() -> None:
    with pytest.raises(ValueError, match=r"prompt = 'no_such.jinja': must be a file \(also looked in .*prompts\)"):
        Template.load("no_such.jinja")


@pytest.mark.parametrize("path", ["Find {{ question }}. " * 300, "a\0b", "", ".", "~"])
def test_what_is_no_path_at_all_is_refused_as_one(path: str) -> None:
    with pytest.raises(ValueError, match=r"prompt = .*must be a file.*Fix: "):
        Template.load(path)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.jinja").write_bytes(b"\xff\xfe\x00 {{ question }}")
    with pytest.raises(ValueError, match=r"must be UTF-8 text.*Fix: "):
        Template.load(str(tmp_path / "p.jinja"))


@pytest.mark.parametrize("path", sorted(PROMPTS.glob("*.jinja")), ids=lambda path: path.name)
def test_every_shipped_prompt_can_be_filled_in(path: Path) -> None:
    template = Template.load(str(path))
    for images in (BOTH, BOTH[::-1], ("satellite",), ("map",)):
        template.try_out(images)
        assert "Jinan Zoo" in fill(template, question="Jinan Zoo", images=images)


@pytest.mark.parametrize("name", ["one_stage.jinja", "socioreasoner_refine.jinja", "think2seg.jinja"])
@pytest.mark.parametrize("points", [1, 2, 4])
def test_a_prompt_shows_as_many_points_as_it_asks_for(name: str, points: int) -> None:
    """The published code asks for two and shows three."""
    text = Template.load(name)(question="Zoo", images=BOTH, previous="[]", points=points, size_wh=(252, 140))
    assert f"{points} point" in text
    assert text.count("[x, y]") == points
    assert ", ".join(["[x, y]"] * points) in text
