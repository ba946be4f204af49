from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from verl_socio.engine.run import _check_places, _ray_init, check, train
from verl_socio.train.settings import resolve

THREE_B = "qwen2_5_vl_3b_socioseg"
STORES = "transfer_queue.backend.SimpleStorage.num_data_storage_units"


@pytest.fixture
def config() -> DictConfig:
    return resolve("embedded", ["run=x"])


def test_a_run_has_a_cluster_of_its_own_whatever_runs_on_the_machine(config: DictConfig) -> None:
    started = _ray_init(config, None)
    assert started["address"] == "local"
    assert (started["num_cpus"], started["num_gpus"]) == (16, 1)


@pytest.mark.parametrize(
    ("name", "overrides", "cores", "places"),
    [
        # Three a rank; one each for the trainer, its queue, the queue's stores and the segmenters; and a free one.
        ("embedded", ["trainer.n_gpus_per_node=4"], 2, 17),
        ("embedded", ["ray_kwargs.ray_init.num_cpus=1"], 2, 8),
        (THREE_B, ["trainer.n_gpus_per_node=1", f"{STORES}=1"], 4, 9),
        (THREE_B, ["trainer.n_gpus_per_node=1", f"{STORES}=8"], 4, 16),
        (THREE_B, ["trainer.n_gpus_per_node=1"], 64, 64),
        (THREE_B, ["hardware=full_8x80gb", f"{STORES}=1"], 16, 36),
        (THREE_B, ["hardware=full_8x80gb", f"{STORES}=1", "segmenter.num_cpus=0.3"], 16, 31),
    ],
)
def test_a_cluster_of_its_own_has_a_place_for_every_process(
    name: str, overrides: list[str], cores: int, places: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("verl_socio.engine.run.get_num_cpus", lambda **_: cores)
    assert _ray_init(resolve(name, overrides), None)["num_cpus"] == places


def node(cpus: int, gpus: int, alive: bool = True) -> dict[str, Any]:
    """As Ray describes one."""
    return {"Alive": alive, "Resources": {"CPU": float(cpus)} | ({"GPU": float(gpus)} if gpus else {})}


def test_a_cluster_that_is_joined_has_to_have_the_places() -> None:
    config = resolve(THREE_B, ["trainer.n_gpus_per_node=2", "trainer.nnodes=2", f"{STORES}=1"])
    _check_places(config, [node(12, 2), node(4, 0), node(12, 4)])
    message = r"nnodes = 2: .* with 2 of Ray's GPUs and 12 of its CPUs; .*have 2 and 12, 2 and 11, 1 and 99\. Fix: "
    with pytest.raises(ValueError, match=message):
        _check_places(config, [node(12, 2), node(11, 2), node(99, 1), node(99, 2, alive=False)])


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
