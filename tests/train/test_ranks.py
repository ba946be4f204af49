"""What the machine must have; counts and rows are looked at in test_checks.py and test_supervised_checks.py."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import DictConfig

from verl_socio.checkpoints import mark_whole
from verl_socio.doctor import GIB, NEEDS_GIB, Gpu
from verl_socio.train.ranks import check_ranks
from verl_socio.train.settings import resolve

RL, SFT = "qwen2_5_vl_3b_socioseg", "sft_qwen2_5_vl_3b_socioseg"
WEIGHTS = 4 * 3_754_622_976
WHOLE = 3 * WEIGHTS


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU with all that it takes."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("verl_socio.train.ranks.missing_to_compile", lambda: "")


def config_of(name: str, folder: Path, *overrides: str) -> DictConfig:
    return resolve(name, ["trainer.n_gpus_per_node=1", f"output_root={folder}", "run=r", *overrides])


def free(monkeypatch: pytest.MonkeyPatch, number: float) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=number))


@pytest.mark.parametrize("name", [RL, SFT])
@pytest.mark.parametrize(
    ("listed", "told"),
    [
        (([Gpu("NVIDIA A100", "535.1", 80, 79)], ""), r"driver: 535\.1\)\. Fix: update NVIDIA's driver to 580"),
        (([], "nvidia-smi failed with code 9"), "driver: nvidia-smi failed with code 9"),
        (([], ""), "driver: nvidia-smi lists none"),
    ],
)
def test_gpus_that_only_the_driver_sees_are_none(
    gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, listed: tuple[list[Gpu], str], told: str
) -> None:
    free(monkeypatch, 1e15)
    check_ranks(config_of(name, tmp_path))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("verl_socio.train.ranks.list_gpus", lambda: listed)
    with pytest.raises(ValueError, match=rf"^trainer\.device = 'cuda': needs GPUs .*{told}"):
        check_ranks(config_of(name, tmp_path))


@pytest.mark.parametrize("name", [RL, SFT])
def test_without_a_compiler_no_gpu_is_trained_on(
    gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("verl_socio.train.ranks.missing_to_compile", lambda: "a C compiler (gcc, clang)")
    with pytest.raises(ValueError, match=r"^trainer\.device = 'cuda': .*needs a C compiler .*python3\.11-dev gcc"):
        check_ranks(config_of(name, tmp_path))


@pytest.mark.parametrize(
    ("name", "overrides", "needed"),
    [
        (RL, [], 4 * WHOLE),
        (SFT, [], 4 * WHOLE),
        (RL, ["trainer.max_actor_ckpt_to_keep=1"], 2 * WHOLE),
        (RL, ["trainer.max_actor_ckpt_to_keep=null"], 13 * WHOLE),
        (RL, ["trainer.total_training_steps=2"], WHOLE),
        (RL, ["trainer.total_training_steps=40"], 2 * WHOLE),
        (SFT, ["trainer.max_ckpt_to_keep=null"], WHOLE),
        (SFT, ["trainer.total_training_steps=9", "trainer.save_freq=-1"], WHOLE),
        (RL, ["actor_rollout_ref.actor.checkpoint.save_contents=[model]"], 4 * WEIGHTS),
        (RL, ["actor_rollout_ref.actor.fsdp_config.model_dtype=bf16"], 2 * WHOLE),
    ],
)
def test_a_disk_that_cannot_hold_the_checkpoints_is_refused(
    gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, overrides: list[str], needed: int
) -> None:
    config = config_of(name, tmp_path, *overrides)
    free(monkeypatch, needed)
    check_ranks(config)
    free(monkeypatch, needed - 1)
    with pytest.raises(ValueError, match=r"ckpt_to_keep = .*needs room for .* GB are free.*Fix: .*output_root=DIR"):
        check_ranks(config)


def test_adapters_come_with_the_model_unless_they_are_saved_alone(
    gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = "+actor_rollout_ref.actor.checkpoint.save_lora_only=true"
    free(monkeypatch, 4 * WEIGHTS)
    with pytest.raises(ValueError, match=r"4 more checkpoints of 15\.\d GB, but 60\.1 GB are free"):
        check_ranks(config_of(RL, tmp_path, "hardware=lora_1x24gb"))
    free(monkeypatch, 4e9)
    check_ranks(config_of(RL, tmp_path, "hardware=lora_1x24gb", alone))


def test_a_run_that_goes_on_needs_what_it_has_not_yet(
    gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (20, 40):
        checkpoint = tmp_path / "r" / "checkpoints" / f"global_step_{step}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "model.pt").write_bytes(b"x" * 100)
        mark_whole(checkpoint)
    for overrides, needed in (
        ([], 200),
        (["trainer.max_actor_ckpt_to_keep=1"], 0),
        (["trainer.total_training_steps=60"], 100),
        (["trainer.total_training_steps=40"], 0),
        (["trainer.save_freq=-1"], 0),
    ):
        free(monkeypatch, needed)
        check_ranks(config_of(RL, tmp_path, *overrides))
        if needed:
            free(monkeypatch, needed - 1)
            with pytest.raises(ValueError, match="needs room"):
                check_ranks(config_of(RL, tmp_path, *overrides))


def test_a_model_of_unknown_sizes_is_not_reckoned_with(
    gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, 0)
    check_ranks(config_of(RL, tmp_path, "actor_rollout_ref.model.path=some/model"))


def test_the_disk_that_the_doctor_asks_for_holds_them(
    gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With what is fetched and merged, each of them 8 GB.
    free(monkeypatch, NEEDS_GIB["gpu"]["disk"] * GIB - 16e9)
    check_ranks(config_of(RL, tmp_path))
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert f"{NEEDS_GIB['gpu']['disk']} GiB beside `.venv`" in readme
