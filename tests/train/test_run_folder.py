import copy
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from verl_socio.train.run_folder import SETTINGS, claim, differences
from verl_socio.train.settings import resolve


@pytest.fixture(scope="module")
def begun() -> DictConfig:
    return resolve("embedded", ["run=mine", "output_root=/somewhere"])


@pytest.fixture
def config(begun: DictConfig, tmp_path: Path) -> DictConfig:
    config = copy.deepcopy(begun)
    config.output_root, config.run_dir = str(tmp_path), str(tmp_path / "mine")
    return config


def test_a_new_run_keeps_its_settings_and_nothing_else(config: DictConfig, tmp_path: Path) -> None:
    folder = claim(config)
    assert folder == tmp_path / "mine"
    assert [path.name for path in folder.iterdir()] == [SETTINGS]
    assert OmegaConf.load(folder / SETTINGS) == config
    assert [path.name for path in tmp_path.iterdir()] == ["mine"], "no draft is left"


def test_the_same_settings_go_on(config: DictConfig) -> None:
    folder = claim(config)
    (folder / "checkpoints").mkdir()
    assert claim(copy.deepcopy(config)) == folder


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.seed", 1),
        ("data.train_files", "/other"),
        ("data.train_batch_size", 4),
        ("frame", "image"),
        ("recipe.refine_from", "best"),
        ("recipe.stages.localise.reward.terms.box_count.weight", 2.0),
        ("actor_rollout_ref.model.path", "/other"),
        ("actor_rollout_ref.actor.optim.lr", 1.0),
        ("actor_rollout_ref.rollout.n", 5),
        ("actor_rollout_ref.rollout.temperature", 0.5),
        ("actor_rollout_ref.rollout.top_p", 0.9),
        ("actor_rollout_ref.rollout.top_k", 5),
        ("algorithm.norm_adv_by_std_in_grpo", False),
        ("segmenter.weights", "boxes"),
    ],
)
def test_what_decides_what_is_learnt_must_not_change(config: DictConfig, key: str, value: object) -> None:
    folder = claim(config)
    before = (folder / SETTINGS).read_bytes()
    now = copy.deepcopy(config)
    OmegaConf.update(now, key, value)
    with pytest.raises(
        ValueError, match=rf"run = 'mine': holds a run with other settings \(1 differ; {key} was .*Fix: .*run=NAME"
    ):
        claim(now)
    assert (folder / SETTINGS).read_bytes() == before


@pytest.mark.parametrize(
    "override",
    [
        "trainer.total_training_steps=80",
        "trainer.save_freq=1",
        "trainer.test_freq=0",
        "trainer.picture_freq=1",
        "trainer.n_gpus_per_node=2",
        "trainer.logger=[file]",
        "actor_rollout_ref.rollout.tensor_model_parallel_size=2",
        "actor_rollout_ref.rollout.max_num_seqs=8",
        "actor_rollout_ref.rollout.gpu_memory_utilization=0.3",
        "ray_kwargs.ray_init.num_cpus=4",
        "data.dataloader_num_workers=2",
        "reward.num_workers=1",
    ],
)
def test_how_long_how_often_and_on_what_may_change(begun: DictConfig, override: str) -> None:
    # Resolved anew: nothing that follows from these settings counts as a change either.
    now = resolve("embedded", ["run=mine", "output_root=/elsewhere", override])
    assert now != begun
    assert differences(OmegaConf.to_container(begun), OmegaConf.to_container(now)) == []


def test_the_changed_settings_become_the_runs(config: DictConfig) -> None:
    folder = claim(config)
    config.trainer.total_training_steps = 99
    claim(config)
    assert OmegaConf.load(folder / SETTINGS).trainer.total_training_steps == 99


def test_all_differences_are_counted() -> None:
    before = {"data": {"seed": 0, "gone": 1}, "frame": "model", "trainer": {"save_freq": 1}}
    now = {"data": {"seed": 1, "new": [1]}, "frame": "model", "trainer": {"save_freq": 2}}
    assert differences(before, now) == [("data.gone", 1, None), ("data.new", None, [1]), ("data.seed", 0, 1)]


def test_a_folder_of_something_else_is_left_alone(config: DictConfig, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match=r"run_dir = .*mine': must be empty or hold a run.*Fix: "):
        claim(config)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_file_of_that_name_is_left_alone(config: DictConfig, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("years of work")
    with pytest.raises(ValueError, match=r"run_dir = .*must be empty or hold a run"):
        claim(config)
    assert (tmp_path / "mine").read_text() == "years of work"


def test_an_empty_folder_is_taken(config: DictConfig, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert (claim(config) / SETTINGS).is_file()
