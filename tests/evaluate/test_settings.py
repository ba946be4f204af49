import pytest
from omegaconf import OmegaConf

from verl_socio.evaluate.settings import resolve
from verl_socio.recipes import Recipe
from verl_socio.segment import SegmenterConfig
from verl_socio.train.settings import CONFIGS


@pytest.fixture
def trained(tmp_path):
    """A run whose settings differ from the defaults, with a merged model."""
    recipe = OmegaConf.load(CONFIGS / "recipe" / "socioreasoner.yaml")
    recipe.name = "mine"
    recipe.stages = {"only": recipe.stages.localise}
    run = {
        "recipe": recipe,
        "frame": "image",
        "segmenter": {"weights": "boxes", "num_actors": 7},
        "data": {"max_prompt_length": 640, "max_response_length": 128, "train_files": "DIR"},
    }
    folder = tmp_path / "outputs" / "run" / "merged" / "global_step_3"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    OmegaConf.save(OmegaConf.create(run), tmp_path / "outputs" / "run" / "config.yaml")
    return folder


def test_every_file_in_configs_evaluate_is_the_one_that_resolves():
    assert [path.name for path in (CONFIGS / "evaluate").glob("*.yaml")] == ["eval.yaml"]
    config = resolve(["output_root=/nowhere"])
    assert not OmegaConf.missing_keys(config)
    assert (config.model, config.frame, config.sampling.temperature) == ("newest", "model", 0.0)
    assert [stage.name for stage in Recipe.from_config(OmegaConf.to_container(config.recipe)).stages] == [
        "localise", "refine",
    ]  # fmt: skip
    SegmenterConfig(**config.segmenter)
    assert "auto" not in (config.data, config.segmenter.weights)


def test_a_trained_model_brings_its_run_s_recipe_frame_segmenter_and_lengths(trained):
    config = resolve([f"output_root={trained.parents[2]}"])
    assert config.model == str(trained)
    assert (config.recipe.name, list(config.recipe.stages), config.frame) == ("mine", ["only"], "image")
    assert (config.segmenter.weights, config.segmenter.multimask) == ("boxes", True)
    assert (config.max_prompt_length, config.max_response_length) == (640, 128)
    assert "num_actors" not in config.segmenter


def test_the_command_line_goes_before_the_run(trained):
    overrides = [
        f"model={trained}", "frame=model", "segmenter.weights=embedded", "max_response_length=9",
        "recipe.name=changed", "recipe.stages.only.reward.terms.box_count=null", "+recipe.stages.only.feedback=false",
    ]  # fmt: skip
    config = resolve([*overrides, f"output_root={trained.parents[2]}"])
    assert (config.frame, config.segmenter.weights, config.max_response_length) == ("model", "embedded", 9)
    assert config.max_prompt_length == 640
    assert config.recipe.name == "changed"
    assert config.recipe.stages.only.reward.terms.box_count is None
    assert config.recipe.stages.only.feedback is False


def test_a_recipe_named_on_the_command_line_replaces_the_run_s(trained):
    config = resolve([f"output_root={trained.parents[2]}", "recipe=socioreasoner"])
    assert list(config.recipe.stages) == ["localise", "refine"]


@pytest.mark.parametrize(
    "override",
    [
        "modle=x", "sampling.temprature=1", "recipe.stages.only.imagse=[map]", "recipe=unknown", "pictures",
        "~recipe.name", "recipe.name=a,b", "max_samples=1,2", "=", "model=[", "segmenter.size=3",
    ],
)  # fmt: skip
def test_an_unknown_key_or_a_broken_value_is_an_error(trained, override):
    with pytest.raises(ValueError, match=r"settings = .*Fix:"):
        resolve([f"output_root={trained.parents[2]}", override])


def test_a_relative_output_root_lies_in_the_clone():
    assert resolve(["output_root=some/where", "model=embedded"]).output_root == str(CONFIGS.parent / "some" / "where")


def test_the_embedded_model_is_asked_with_the_prompts_it_knows():
    config = resolve(["model=embedded"])
    prompts = [stage.prompt for stage in config.recipe.stages.values()]
    assert prompts == ["embedded_localise.jinja", "embedded_refine.jinja"]
    assert config.max_prompt_length == 512


@pytest.mark.parametrize("content", [b"{", b"a: b: c", b"\tname: 1", b"\xff", b"a: 1\na: 2"])
def test_a_recipe_of_ones_own_that_is_no_yaml_is_an_error(tmp_path, content):
    (tmp_path / "mine.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=r"^settings = .*mine\.yaml.*Fix:"):
        resolve(["model=some/model", f"recipe={tmp_path / 'mine.yaml'}"])


@pytest.mark.parametrize("stages", ["null", "{only: null}", "{only: 3}"])
def test_images_leave_what_is_no_stage_to_the_recipe_s_own_check(tmp_path, stages):
    (tmp_path / "mine.yaml").write_text(f"name: mine\nstages: {stages}")
    config = resolve(["model=some/model", f"recipe={tmp_path / 'mine.yaml'}", "images=[satellite]"])
    with pytest.raises(ValueError, match="Fix: "):
        Recipe.from_config(OmegaConf.to_container(config.recipe))
