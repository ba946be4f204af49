import copy
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from verl_socio.checkpoints import mark_whole
from verl_socio.train.run_folder import SETTINGS, binding_differences, claim
from verl_socio.train.settings import resolve


@pytest.fixture(scope="module")
def begun() -> DictConfig:
    return resolve("embedded", ["run=mine", "output_root=/somewhere"])


@pytest.fixture
def config(begun: DictConfig, tmp_path: Path) -> DictConfig:
    config = copy.deepcopy(begun)
    config.output_root, config.run_dir = str(tmp_path), str(tmp_path / "mine")
    config.trainer.default_local_dir = f"{config.run_dir}/checkpoints"
    return config


def claimed(config: DictConfig) -> Path:
    """The run's folder, let go again."""
    with claim(config) as folder:
        return folder


def note_metrics(folder: Path) -> None:
    """As verl's logger does from the first validation on."""
    (folder / "metrics").mkdir()
    (folder / "metrics" / "start.jsonl").write_text("{}")


def test_a_new_run_keeps_its_settings_and_nothing_else(config: DictConfig, tmp_path: Path) -> None:
    folder = claimed(config)
    assert folder == tmp_path / "mine"
    assert sorted(path.name for path in folder.iterdir()) == [".lock", SETTINGS]
    assert OmegaConf.load(folder / SETTINGS) == config
    assert [path.name for path in tmp_path.iterdir()] == ["mine"], "no draft is left"


def test_the_same_settings_go_on(config: DictConfig) -> None:
    folder = claimed(config)
    note_metrics(folder)
    assert claimed(copy.deepcopy(config)) == folder


def test_a_run_that_is_being_trained_is_left_alone(config: DictConfig) -> None:
    now = copy.deepcopy(config)
    now.trainer.total_training_steps = 99
    with claim(config) as folder:
        before = (folder / SETTINGS).read_bytes()
        with (
            pytest.raises(ValueError, match=r"run = 'mine': is being trained by another process.*Fix: wait"),
            claim(now),
        ):
            pass
        assert (folder / SETTINGS).read_bytes() == before
    assert claimed(now) == folder


def test_a_start_that_taught_nothing_does_not_bind(config: DictConfig, write_checkpoint: Callable[..., Path]) -> None:
    folder = claimed(config)
    (folder / "logs" / "start").mkdir(parents=True)
    (folder / "metrics").mkdir()
    now = copy.deepcopy(config)
    now.actor_rollout_ref.actor.loss_agg_mode = "seq-mean-token-mean"
    claimed(now)
    write_checkpoint(folder / "checkpoints", 1)  # not even whole: it was made with these settings
    with pytest.raises(ValueError, match=r"holds a run with other settings \(1 differ; .*loss_agg_mode"):
        claimed(config)


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
    folder = claimed(config)
    note_metrics(folder)
    before = (folder / SETTINGS).read_bytes()
    now = copy.deepcopy(config)
    OmegaConf.update(now, key, value)
    with pytest.raises(
        ValueError, match=rf"run = 'mine': holds a run with other settings \(1 differ; {key} was .*Fix: .*run=NAME"
    ):
        claimed(now)
    assert (folder / SETTINGS).read_bytes() == before


@pytest.mark.parametrize(
    "override",
    [
        "trainer.total_training_steps=80",
        "trainer.save_freq=1",
        "trainer.test_freq=0",
        "trainer.picture_freq=1",
        "trainer.logger=[file]",
        "actor_rollout_ref.rollout.tensor_model_parallel_size=2",
        "actor_rollout_ref.rollout.max_num_seqs=8",
        "actor_rollout_ref.rollout.gpu_memory_utilization=0.3",
        "ray_kwargs.ray_init.num_cpus=4",
        "data.dataloader_num_workers=2",
        "reward.num_workers=1",
        "+hardware={name: small, memory_gb: 24}",
        "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=1024",
        "actor_rollout_ref.actor.use_dynamic_bsz=false",
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=1",
        "actor_rollout_ref.actor.fsdp_config.param_offload=true",
        "actor_rollout_ref.actor.fsdp_config.optimizer_offload=true",
        "actor_rollout_ref.actor.fsdp_config.offload_policy=true",
        "actor_rollout_ref.ref.log_prob_max_token_len_per_gpu=1024",
        "actor_rollout_ref.model.enable_gradient_checkpointing=true",
        "actor_rollout_ref.model.enable_activation_offload=true",
    ],
)
def test_how_long_how_often_and_on_what_may_change(begun: DictConfig, override: str) -> None:
    # Resolved anew: nothing that follows from these settings counts as a change either.
    now = resolve("embedded", ["run=mine", "output_root=/elsewhere", override])
    assert now != begun
    assert binding_differences(OmegaConf.to_container(begun), OmegaConf.to_container(now)) == []


@pytest.mark.parametrize(
    "override",
    [
        "data.max_token_len_per_gpu=1024",
        "data.use_dynamic_bsz=false",
        "data.micro_batch_size_per_gpu=1",
        "engine.param_offload=true",
        "engine.offload_policy=true",
        "model.enable_gradient_checkpointing=true",
    ],
)
def test_the_memory_of_fine_tuning_may_change(override: str) -> None:
    before, now = resolve("sft_embedded", ["run=mine"]), resolve("sft_embedded", ["run=mine", override])
    assert now != before
    assert binding_differences(OmegaConf.to_container(before), OmegaConf.to_container(now)) == []


def test_checkpoints_are_gone_on_with_by_as_many_ranks_as_wrote_them(
    config: DictConfig, write_checkpoint: Callable[..., Path]
) -> None:
    checkpoints = claimed(config) / "checkpoints"
    config.trainer.n_gpus_per_node = 2
    claimed(config)
    mark_whole(write_checkpoint(checkpoints, 1, world_size=1).parent)
    mark_whole(write_checkpoint(checkpoints, 2, world_size=2).parent)
    claimed(config)
    config.trainer.nnodes = 2
    with pytest.raises(
        ValueError, match=r"n_gpus_per_node = 2: gives 4 ranks, but .*global_step_2 was written by 2.*Fix"
    ):
        claimed(config)
    config.trainer.n_gpus_per_node = 1
    claimed(config)


@pytest.mark.parametrize(
    ("key", "value"),
    [("resume_mode", "disable"), ("resume_mode", "resume_path"), ("resume_from_path", "/global_step_1")],
)
def test_a_runs_checkpoints_are_not_written_over(
    config: DictConfig, write_checkpoint: Callable[..., Path], key: str, value: str
) -> None:
    checkpoints = claimed(config) / "checkpoints"
    config.trainer[key] = value
    write_checkpoint(checkpoints, 1, world_size=1)
    claimed(config)
    mark_whole(checkpoints / "global_step_1")
    message = (
        rf"trainer\.{key} = '{value}': would write over .*Fix: leave it out to go on from global_step_1, .*run=NAME"
    )
    with pytest.raises(ValueError, match=message):
        claimed(config)


def test_the_changed_settings_become_the_runs(config: DictConfig) -> None:
    folder = claimed(config)
    config.trainer.total_training_steps = 99
    claimed(config)
    assert OmegaConf.load(folder / SETTINGS).trainer.total_training_steps == 99


def test_all_differences_are_counted() -> None:
    before = {"data": {"seed": 0, "gone": 1}, "frame": "model", "trainer": {"save_freq": 1}}
    now = {"data": {"seed": 1, "new": [1]}, "frame": "model", "trainer": {"save_freq": 2}}
    assert binding_differences(before, now) == [("data.gone", 1, None), ("data.new", None, [1]), ("data.seed", 0, 1)]


def test_a_folder_of_something_else_is_left_alone(config: DictConfig, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match=r"run_dir = .*mine': must be empty or hold a run.*Fix: "):
        claimed(config)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_file_of_that_name_is_left_alone(config: DictConfig, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("years of work")
    with pytest.raises(ValueError, match=r"run_dir = .*must be empty or hold a run"):
        claimed(config)
    assert (tmp_path / "mine").read_text() == "years of work"


def test_an_empty_folder_is_taken(config: DictConfig, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert (claimed(config) / SETTINGS).is_file()
