"""Every configuration and every override in the repository, against verl's own schema; and what users get wrong."""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from verl_socio.recipes import Recipe, Template
from verl_socio.segment import SegmenterConfig
from verl_socio.train import settings as module
from verl_socio.train.settings import CONFIGS, ROOT, is_supervised, model_key, names, resolve, shipped_recipe, shown

OVERRIDE = re.compile(r"[~+]{0,2}[a-z_][\w.]*=\S+")
# A command line of this project in a script, a comment or a text: what is started, and the rest of the line.
COMMANDS = re.compile(
    r"(?:verl-socio (train|evaluate)|bash (training_scripts/run|evaluation/|inference_scripts/)\S*\.sh)([^\n`]*)"
)
# The groups of settings that verl makes classes of, by what a run learns from.
PARTS = {
    False: ("actor_rollout_ref.actor", "actor_rollout_ref.rollout", "algorithm"),
    True: ("engine", "optim", "checkpoint"),
}


def configs_of_kind() -> dict[str, str]:
    """Every YAML below configs/, and what kind it is."""
    kinds = {".": "run", "recipe": "recipe", "recipe/embedded": "recipe", "evaluate": "evaluation", "study": "study"}
    kinds |= {"shared": "part", "hardware": "hardware", "evaluate/ablations": "ablations"}
    found = {}
    for path in sorted(CONFIGS.rglob("*.yaml")):
        relative = path.relative_to(CONFIGS)
        found[str(relative)] = kinds.get(str(relative.parent), "unknown")
    return found


def commands() -> list[tuple[str, str, tuple[str, ...]]]:
    """(file, verb, words) of each command line in scripts and texts."""
    files = [path for folder in ("training_scripts", "evaluation", "inference_scripts") for path in
             sorted((ROOT / folder).rglob("*.sh"))]  # fmt: skip
    files += [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    found = []
    for path in files:
        text = path.read_text(encoding="utf-8").replace("\\\n", " ") if path.is_file() else ""
        for verb, script, rest in COMMANDS.findall(text):
            kind = verb or ("train" if script.startswith("training") else "evaluate")
            found.append((str(path.relative_to(ROOT)), kind, tuple(rest.split())))
    return found


@pytest.mark.parametrize(("name", "kind"), configs_of_kind().items())
def test_every_configuration_in_the_repository_is_read_by_what_it_is_for(name: str, kind: str) -> None:
    stem = Path(name).stem
    if kind == "recipe":
        assert shipped_recipe(name.removeprefix("recipe/").removesuffix(".yaml")).name == stem
    elif kind == "evaluation":
        from verl_socio.evaluate.settings import resolve as resolve_evaluation

        config = resolve_evaluation([])
        assert Recipe.from_config(OmegaConf.to_container(config.recipe, resolve=True)).stages
    elif kind == "ablations":
        from verl_socio.evaluate.plan import plan

        assert len(plan(["model=embedded", f"ablations={stem}"])) > 1
    elif kind == "study":
        from verl_socio.study.checks import check_evaluations, settle
        from verl_socio.study.reading import load

        study = load(CONFIGS / name)
        assert study.template.is_file()
        assert set(settle(study).last_steps) == set(study.variants), "every override resolves against verl's schema"
        check_evaluations(study)
    elif kind == "hardware":
        assert resolve("qwen2_5_vl_3b_socioseg", [f"hardware={stem}"]).hardware.name == stem
    elif kind == "part" or stem in ("train", "sft"):
        with pytest.raises(ValueError, match=rf"config = '{stem}': must be one of"):
            resolve(stem, [])
    else:
        assert kind == "run", f"{name} is of no kind that this test knows: say here what reads it"
        config = resolve(stem, [])
        assert Recipe.from_config(OmegaConf.to_container(config.recipe, resolve=True)).stages
        SegmenterConfig(**OmegaConf.to_container(config.segmenter, resolve=True))
        assert not OmegaConf.missing_keys(config.data)


@pytest.mark.parametrize("path", sorted((CONFIGS / "prompts").iterdir()), ids=lambda path: path.name)
def test_every_prompt_in_the_repository_is_a_template(path: Path) -> None:
    assert Template.load(path.name).source


@pytest.mark.parametrize(("ranks", "expected"), [(1, "uni"), (2, "mp")])
def test_one_rank_holds_the_model_in_the_engines_own_process(ranks: int, expected: str) -> None:
    rollout = "actor_rollout_ref.rollout"
    overrides = [f"trainer.n_gpus_per_node={ranks}", f"{rollout}.tensor_model_parallel_size={ranks}"]
    key = f"{rollout}.engine_kwargs.vllm.distributed_executor_backend"
    assert OmegaConf.select(resolve("embedded", overrides), key) == expected
    assert OmegaConf.select(resolve("embedded", [*overrides, f"{key}=external_launcher"]), key) == "external_launcher"


@pytest.mark.parametrize("name", names())
def test_verls_own_classes_take_every_run(name: str) -> None:
    from verl.utils.config import omega_conf_to_dataclass

    config = resolve(name, ["trainer.n_gpus_per_node=2"])
    parts = PARTS[is_supervised(config)]
    for part in parts:
        assert omega_conf_to_dataclass(OmegaConf.select(config, part)) is not None, part
    # The same classes refuse what they do not know: without that, the lines above would show nothing.
    for part in parts[:2]:
        spoilt = OmegaConf.create({**OmegaConf.to_container(OmegaConf.select(config, part)), "no_such_field": 1})
        with pytest.raises(Exception, match="no_such_field"):
            omega_conf_to_dataclass(spoilt)


@pytest.mark.parametrize("name", names())
def test_the_data_set_class_and_the_worker_manager_that_a_run_names_exist(name: str) -> None:
    from importlib import import_module

    config = resolve(name, [])
    assert hasattr(import_module(config.data.custom_cls.path.removeprefix("pkg://")), config.data.custom_cls.name)
    if is_supervised(config):
        return
    place, _, manager = config.actor_rollout_ref.rollout.agent.agent_loop_manager_class.rpartition(".")
    assert hasattr(import_module(place), manager)


def test_there_are_commands_to_check() -> None:
    assert {verb for _, verb, _ in commands()} == {"train", "evaluate"}
    assert any(OVERRIDE.fullmatch(word) for _, _, words in commands() for word in words)


@pytest.mark.parametrize(("file", "verb", "words"), commands(), ids=lambda value: str(value)[:60])
def test_every_override_in_a_script_or_a_text_is_a_setting(file: str, verb: str, words: tuple[str, ...]) -> None:
    overrides = [word for word in words if OVERRIDE.fullmatch(word)]
    if verb == "train":
        on_gpu = any(word.startswith("hardware=") for word in overrides)
        by_default = "qwen2_5_vl_3b_socioseg" if on_gpu else "embedded"
        configuration = next((word for word in words if word in names()), by_default)
        assert resolve(configuration, overrides).run
    else:
        from verl_socio.evaluate.settings import resolve as resolve_evaluation

        assert resolve_evaluation(overrides).output_root


def test_fine_tuning_has_settings_of_its_own_and_shares_what_every_run_has() -> None:
    taught, rewarded = resolve("sft_embedded", ["run=r"]), resolve("embedded", ["run=r"])
    assert (is_supervised(taught), is_supervised(rewarded)) == (True, False)
    assert OmegaConf.select(taught, model_key(taught)) == OmegaConf.select(rewarded, model_key(rewarded)) == "embedded"
    for key in ("run_dir", "recipe", "frame", "data.train_files", "data.train_split", "trainer.default_local_dir"):
        assert OmegaConf.select(taught, key) == OmegaConf.select(rewarded, key), key
    rows = rewarded.data.train_batch_size * rewarded.actor_rollout_ref.rollout.n * len(rewarded.recipe.stages)
    assert taught.data.train_batch_size == rows, "as many rows a step"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.lr=fast", r"optim\.lr = 'fast': must be a number.*sft\.yaml and verl's sft_trainer_engine\.yaml"),
        ("actor_rollout_ref.model.path=/m", r"settings = .*Could not override 'actor_rollout_ref"),
        ("recipe=no_such", r"settings = 'recipe=no_such': .*Could not find 'recipe/no_such'"),
    ],
)
def test_a_mistake_in_fine_tuning_names_its_own_files(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve("sft_embedded", [override])


def test_the_order_of_precedence_is_verl_the_project_the_configuration_the_command() -> None:
    by_default = resolve("embedded", [])
    assert by_default.trainer.v1.trainer_mode == "episode", "train.yaml goes before verl"
    assert by_default.data.train_batch_size == 8, "embedded.yaml goes before train.yaml"
    assert by_default.actor_rollout_ref.actor.ppo_mini_batch_size == 8, "what follows from it follows"
    command = resolve("embedded", ["data.train_batch_size=4"])
    assert command.data.train_batch_size == command.actor_rollout_ref.actor.ppo_mini_batch_size == 4


def test_validation_data_are_of_the_same_source_unless_given() -> None:
    assert resolve("embedded", ["data.train_files=/d"]).data.val_files == "/d"
    assert resolve("embedded", ["data.train_files=/d", "data.val_files=/v"]).data.val_files == "/v"


def test_a_run_without_a_name_is_named_by_its_command() -> None:
    plain, changed = resolve("embedded", []), resolve("embedded", ["data.seed=1", "trainer.save_freq=5"])
    assert plain.run == "embedded"
    assert re.fullmatch(r"embedded-[0-9a-f]{6}", changed.run)
    assert resolve("embedded", ["trainer.save_freq=5", "data.seed=1"]).run == changed.run, "in any order"
    assert resolve("embedded", ["data.seed=2", "trainer.save_freq=5"]).run != changed.run
    assert resolve("embedded", ["run=mine", "data.seed=1"]).run == "mine"
    assert resolve("embedded", ["output_root=/elsewhere"]).run == "embedded", "where it lies is no other run"


def test_everything_a_run_writes_lies_below_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    config = resolve("embedded", ["run=mine"])
    assert config.run_dir == str(ROOT / "outputs" / "mine"), "a relative output_root is below the clone"
    config = resolve("embedded", ["run=mine", f"output_root={tmp_path}"])
    assert config.run_dir == str(tmp_path / "mine")
    assert config.trainer.default_local_dir == str(tmp_path / "mine" / "checkpoints")
    assert config.trainer.picture_dir == str(tmp_path / "mine" / "pictures")
    assert list(tmp_path.iterdir()) == [], "settling the settings writes nothing"


def test_auto_takes_every_gpu_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert resolve("qwen2_5_vl_3b_socioseg", []).trainer.n_gpus_per_node == 3
    assert resolve("qwen2_5_vl_3b_socioseg", ["trainer.n_gpus_per_node=2"]).trainer.n_gpus_per_node == 2


def test_the_settings_are_shown_as_yaml_that_gives_them_back() -> None:
    config = resolve("embedded", ["run=mine"])
    text = shown(config)
    assert "${" not in text, "every reference is resolved"
    assert OmegaConf.create(text) == config


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.no_such=1"], r"settings = 'data\.no_such=1': Could not override 'data\.no_such'"),
        (["no_such=1"], r"settings = 'no_such=1': Could not override 'no_such'"),
        (["recipe=no_such"], r"settings = 'recipe=no_such': .*Could not find 'recipe/no_such'"),
        (["data.train_batch_size=many"], r"data\.train_batch_size = 'many': must be a number"),
        (["data.train_batch_size=true"], r"data\.train_batch_size = True: must be a number"),
        (["data.shuffle=3"], r"data\.shuffle = 3: must be true or false"),
        (["actor_rollout_ref.actor.optim.lr=fast"], r"actor_rollout_ref\.actor\.optim\.lr = 'fast': must be a number"),
        (["trainer=5"], r"trainer = 5: is a group of settings"),
        (["output_root=null"], r"output_root = None: must be a folder"),
        (["data.train_files=???"], r"data\.train_files = None: must be set"),
        (["run=${nowhere}"], r"settings = .*nowhere.*not found"),
        (["a b"], r"settings = 'a b'"),
        (["data.train_files"], r"settings = 'data\.train_files'"),
        (["~trainer.n_gpus_per_node"], r"settings = .*n_gpus_per_node"),
    ],
)
def test_a_mistake_on_the_command_line_names_itself_and_the_fix(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message + ".*Fix: "):
        resolve("embedded", overrides)


@pytest.mark.parametrize("value", ["/a=b", "/[ü]", "/ü", "/it's", "/a,b", "/#1,"])
def test_a_value_that_hydra_cannot_read_is_to_be_quoted(value: str) -> None:
    with pytest.raises(ValueError, match=r"settings = .*Fix: quote .*'key=\"value\"'"):
        resolve("embedded", [f"data.train_files={value}"])
    assert resolve("embedded", [f'data.train_files="{value}"']).data.train_files == value


def test_a_wrong_value_is_named_where_it_was_given_and_not_where_it_was_copied_to() -> None:
    with pytest.raises(ValueError, match=r"^data\.max_prompt_length = 'long': must be a number"):
        resolve("embedded", ["data.max_prompt_length=long"])


def test_a_plus_adds_what_the_schema_does_not_have() -> None:
    config = resolve("embedded", ["+data.mine=1", "+actor_rollout_ref.model.override_config.rope=2"])
    assert config.data.mine == 1
    assert config.actor_rollout_ref.model.override_config.rope == 2


@pytest.mark.parametrize("name", ["no_such", "train", "../embedded", "recipe/socioreasoner", ""])
def test_an_unknown_configuration_lists_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match=rf"config = '{name}': must be one of embedded, .*Fix: choose one"):
        resolve(name, [])


@pytest.fixture
def own_configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of configs/ that a test may add to."""
    import shutil

    copy = tmp_path / "configs"
    shutil.copytree(CONFIGS, copy)
    monkeypatch.setattr(module, "CONFIGS", copy)
    return copy


OWN = "defaults: [train, _self_]\n"


def test_a_file_of_ones_own_is_a_configuration(own_configs: Path) -> None:
    (own_configs / "mine.yaml").write_text(OWN + "data: {train_files: /d, train_batch_size: 2}\n")
    config: DictConfig = resolve("mine", [])
    assert (config.run, config.data.train_files, config.data.train_batch_size) == ("mine", "/d", 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: {train_files: /d, tran_files: /d}", r"data\.tran_files = '/d': is not a known setting"),
        ("data: {train_files: /d}\ndat: {}", r"dat = .*is not a known setting"),
        ("data: {train_files: /d}\ntrainer: {v1: {mode: x}}", r"trainer\.v1\.mode = 'x': is not a known setting"),
        ("data: {train_files: /d, train_batch_size: eight}", r"data\.train_batch_size = 'eight': must be a number"),
        ("data: [1, 2]", r"settings = .*Cannot merge"),
        ("data: {train_batch_size: 8", r"settings = .*mine\.yaml.*line 3"),
    ],
)
def test_a_mistake_in_a_file_of_ones_own_is_named(own_configs: Path, text: str, message: str) -> None:
    (own_configs / "mine.yaml").write_text(OWN + text + "\n")
    with pytest.raises(ValueError, match=message + "(.|\n)*Fix: "):
        resolve("mine", [])


KEYS = (
    "run",
    "output_root",
    "data",
    "data.train_files",
    "recipe",
    "trainer.logger",
    "hydra",
    "+x",
    "~data",
    "++trainer",
)
VALUES = ("{a: 1}", "[1,2]", "null", "${run}", "${nope}", "???", "5", "true", "1e400", "nan", "")


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.text(max_size=8)
    | st.builds("{}={}".format, st.sampled_from(KEYS), st.text(max_size=6) | st.sampled_from(VALUES))
)
@example("recipe=[1,2]")
@example("~data=1e400")
@example("trainer=")
@example("output_root=nan")
def test_any_override_gives_settings_or_a_clear_error(override: str) -> None:
    try:
        config = resolve("embedded", [override])
    except ValueError as error:
        assert "Fix: " in str(error)
    else:
        assert config.run_dir
