"""Every configuration with a GPU on every hardware: by verl's own classes, and by the estimate of memory."""

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from verl_socio.doctor import GIB, LEAST_GPU_GIB, NEEDS_GIB
from verl_socio.train.memory import GB, estimate, host_estimate, shape_of
from verl_socio.train.settings import CONFIGS, ROOT, names, resolve

HARDWARE = [path.stem for path in sorted((CONFIGS / "hardware").glob("*.yaml"))]
ON_GPU = [name for name in names() if not name.startswith("sft") and name != "embedded"]
# By the estimate, the 7B model does not even pass through this GPU while it is loaded.
TOO_LARGE = "lora_1x24gb", "Qwen/Qwen2.5-VL-7B-Instruct"
PARTS = ("actor_rollout_ref.actor", "actor_rollout_ref.rollout", "algorithm")


@pytest.mark.parametrize("name", ON_GPU)
@pytest.mark.parametrize("hardware", HARDWARE)
def test_verl_takes_it_and_by_the_estimate_it_fits_with_a_tenth_to_spare(name: str, hardware: str) -> None:
    from verl.utils.config import omega_conf_to_dataclass

    config = resolve(name, [f"hardware={hardware}"])
    for part in PARTS:
        assert omega_conf_to_dataclass(OmegaConf.select(config, part)) is not None, part
    gpus, rollout = config.trainer.n_gpus_per_node, config.actor_rollout_ref.rollout
    assert gpus == int(re.search(r"_(\d)x", hardware)[1])
    assert config.data.train_batch_size * rollout.n % gpus == 0
    assert config.actor_rollout_ref.actor.ppo_max_token_len_per_gpu >= rollout.max_model_len
    assert rollout.max_model_len >= config.data.max_prompt_length + config.data.max_response_length
    memory_gb, model = config.hardware.memory_gb, config.actor_rollout_ref.model.path
    found = estimate(config, shape_of(model), memory_gb)
    if (hardware, model) == TOO_LARGE:
        assert not found.fits(memory_gb)
        return
    assert found.peak <= 0.9 * memory_gb * GB
    assert found.vllm["cache"] > 2 * GB


@pytest.mark.parametrize("hardware", HARDWARE)
def test_the_table_shows_the_estimates(hardware: str) -> None:
    table = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    gpu, host = [], []
    for name in ("qwen2_5_vl_3b_socioseg", "qwen2_5_vl_7b_socioseg"):
        config = resolve(name, [f"hardware={hardware}"])
        memory_gb, model = config.hardware.memory_gb, config.actor_rollout_ref.model.path
        too_large = (hardware, model) == TOO_LARGE
        gpu.append("-" if too_large else f"{estimate(config, shape_of(model), memory_gb).peak / GB:.1f}")
        host.append("-" if too_large else f"{host_estimate(config, shape_of(model)).peak / GB:.0f}")
    (row,) = (line for line in table.splitlines() if line.startswith(f"| `{hardware}` |"))
    assert row.endswith(f"| {' / '.join(gpu)} of {memory_gb} GB | {' / '.join(host)} GB |")


def test_the_doctor_asks_for_what_the_smallest_takes() -> None:
    config = resolve("qwen2_5_vl_3b_socioseg", ["hardware=lora_1x24gb"])
    shape = shape_of(config.actor_rollout_ref.model.path)
    wanted = NEEDS_GIB["gpu"]["memory"]
    assert wanted - 8 < host_estimate(config, shape).peak / GIB < wanted
    assert estimate(config, shape, 24).peak / GIB < LEAST_GPU_GIB < 24 * GB / GIB, "a card of 24 GB can have it free"
    assert f"| {wanted} GiB for adapters" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_there_are_scripts_for_every_recipe() -> None:
    launched = {script.stem for script in (ROOT / "training_scripts").glob("run_*.sh")}
    assert {
        "run_qwen2_5_3b_socioseg", "run_qwen2_5_7b_socioseg", "run_qwen2_5_3b_refcocog", "run_visionreasoner_7b",
        "run_think2seg_3b_earthreason", "run_think2seg_7b_earthreason", "run_sft_socioseg",
    } <= launched  # fmt: skip


@pytest.mark.parametrize("script", sorted((ROOT / "training_scripts").glob("run_*.sh")), ids=lambda path: path.stem)
def test_a_script_names_a_configuration_and_the_embedded_form_of_its_recipe(script: Path) -> None:
    launched = re.search(r'^launch (\S+) (\S+) "\$@"$', script.read_text(encoding="utf-8"), re.MULTILINE)
    config, recipe = launched.groups()
    assert f"embedded/{resolve(config, ['trainer.n_gpus_per_node=1']).recipe.name}" == recipe
    assert resolve("embedded", [f"recipe={recipe}"]).recipe.name == recipe.removeprefix("embedded/")


def test_the_embedded_run_takes_no_hardware() -> None:
    with pytest.raises(ValueError, match=r"hardware=lora_1x24gb.*Fix: "):
        resolve("embedded", ["hardware=lora_1x24gb"])
