import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from verl_socio.evaluate.plan import _ablations, plan
from verl_socio.recipes import Recipe


@pytest.fixture
def cases(tmp_path):
    """The cases of some settings, and of ablations written as a file."""

    def lay_out(*overrides, ablations=None):
        more = []
        if ablations is not None:
            (tmp_path / "ways.yaml").write_text(ablations, encoding="utf-8")
            more = [f"ablations={tmp_path / 'ways.yaml'}"]
        return plan([f"output_root={tmp_path}", "model=some/model", *overrides, *more])

    return lay_out


def test_one_split_is_one_case_as_it_was_set(cases):
    [case] = cases("split=val", "name=mine")
    assert (case.config.split, case.config.name, case.way) == ("val", "mine", "")
    [case] = cases("split=[val]", "name=mine")
    assert (case.config.split, case.config.name) == ("val", "mine")


def test_each_split_has_a_name_of_its_own(cases):
    found = cases("split=[test,map_style,new/region]", "name=mine")
    assert [case.config.split for case in found] == ["test", "map_style", "new/region"]
    assert [case.config.name for case in found] == ["mine-test", "mine-map_style", "mine-new_region"]
    assert {case.config.name for case in cases("split=[test,val]")} == {"auto"}


def test_ablations_change_the_settings_and_nothing_else(cases):
    text = "as set: []\nhot: [sampling.temperature=1.0, 'recipe.stages.refine.images=[map]']\n"
    found = cases("split=[test,val]", "sampling.seed=7", "name=n", ablations=text)
    assert [(case.config.split, case.way) for case in found] == [
        ("test", "as set"), ("test", "hot"), ("val", "as set"), ("val", "hot"),
    ]  # fmt: skip
    assert [case.config.name for case in found] == ["n-test-as_set", "n-test-hot", "n-val-as_set", "n-val-hot"]
    assert [case.config.sampling.temperature for case in found] == [0.0, 1.0] * 2
    assert found[1].config.recipe.stages.refine.images == ["map"]
    assert all(case.config.sampling.seed == 7 for case in found)


@pytest.mark.parametrize(("name", "model"), [("socioreasoner", "some/model"), ("embedded", "embedded")])
def test_the_shipped_ablations_are_recipes_that_differ(cases, name, model):
    found = cases(f"model={model}", f"ablations={name}")
    recipes = {case.way: Recipe.from_config(OmegaConf.to_container(case.config.recipe)) for case in found}
    assert [stage.name for stage in recipes["one stage"].stages] == ["answer"]
    assert [stage.name for stage in recipes["without refinement"].stages] == ["localise"]
    assert [recipes[way].stages[1].points for way in ("1 point", "as set", "4 points")] == [1, 2, 4]
    assert {stage.images for stage in recipes["map only"].stages} == {("map",)}
    assert not recipes["no render"].stages[1].feedback and recipes["as set"].stages[1].feedback
    prompts = [stage.prompt.name for recipe in recipes.values() for stage in recipe.stages]
    assert all(("embedded_" in prompt) == (name == "embedded") for prompt in prompts)


@pytest.mark.parametrize("split", ["split=[]", "split=[val,val]", "split=[1,val]", "split={a:1}", "split=null"])
def test_what_is_no_list_of_splits_is_an_error(cases, split):
    with pytest.raises(ValueError, match=r"split = .*Fix: write split="):
        cases(split)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "must map names"), ("a: 1", "must map names"), ("a: [1]", "must map names"), ("{", "must be YAML"),
        ("a: [nokey=1]", r"ablations.a: settings = .*nokey"), ("a: [model=an/other]", "may not change model"),
        ("a: [vllm.dtype=half]", "may not change vllm"), ("a: [split=val]", "may not change split"),
        ("a: [question=random]", "may not change question"), ("a: [question_seed=3]", "may not change question_seed"),
        ("a: [data_format=raw]", "may not change data_format"), ("a: [protocol=boxes]", "may not change protocol"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_of_ablations_is_an_error(cases, text, message):
    with pytest.raises(ValueError, match=message):
        cases(ablations=text)


def test_a_missing_file_is_told_with_those_there_are(cases):
    with pytest.raises(ValueError, match=r"ablations = 'nothing'.*Fix: use one of .*socioreasoner"):
        cases("ablations=nothing")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_other_text_is_a_value_error(text):
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        with pytest.raises(ValueError, match=r"Fix: "):
            _ablations(file.name)
