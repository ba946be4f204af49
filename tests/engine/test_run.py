from pathlib import Path

import pytest
from omegaconf import DictConfig

from verl_socio.engine.run import _ray_init, check, train
from verl_socio.train.settings import resolve


@pytest.fixture
def config() -> DictConfig:
    return resolve("embedded", ["run=x"])


def test_a_run_has_a_cluster_of_its_own_whatever_runs_on_the_machine(config: DictConfig) -> None:
    started = _ray_init(config, None)
    assert started["address"] == "local"
    assert (started["num_cpus"], started["num_gpus"]) == (16, 1)


def test_a_cluster_that_is_joined_says_itself_what_it_has_and_is_told_where_metrics_go(
    config: DictConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERL_FILE_LOGGER_PATH", "/here/metrics.jsonl")
    config.ray_kwargs.ray_init.runtime_env = {"env_vars": {"MINE": "1"}, "py_executable": "python"}
    joined = _ray_init(config, "10.0.0.1:6379")
    assert set(joined) == {"address", "log_to_driver", "logging_level", "runtime_env"}, "Ray refuses the others"
    assert joined["address"] == "10.0.0.1:6379"
    assert joined["runtime_env"]["py_executable"] == "python"
    assert joined["runtime_env"]["env_vars"]["MINE"] == "1"
    assert joined["runtime_env"]["env_vars"]["VERL_FILE_LOGGER_PATH"] == "/here/metrics.jsonl"


def test_what_verl_asserts_of_settings_is_told_as_an_error_of_theirs(config: DictConfig) -> None:
    check(config)
    actor = config.actor_rollout_ref.actor
    actor.use_dynamic_bsz, actor.ppo_micro_batch_size_per_gpu, config.trainer.n_gpus_per_node = False, 8, 3
    with pytest.raises(ValueError, match=r"settings = 'x': do not fit each other by verl's check: .*64.*Fix: "):
        check(config)


def test_an_address_where_no_cluster_is_stops_a_training_before_it_starts(
    config: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ValueError, match=r"RAY_ADDRESS = '127\.0\.0\.1:1': must be a Ray cluster that runs .*Fix: "):
        train(config, tmp_path / "logs")
    assert not list(tmp_path.iterdir())
