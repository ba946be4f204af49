"""Every configuration with a GPU on every hardware: by verl's own classes, and by the estimate of memory."""

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from verl_socio.train.memory import GB, estimate, shape_of
from verl_socio.train.settings import CONFIGS, ROOT, names, resolve

HARDWARE = [path.stem for path in sorted((CONFIGS / "hardware").glob("*.yaml"))]
ON_GPU = [name for name in names() if not name.startswith("sft") and name != "embedded"]
PARTS = ("actor_rollout_ref.actor", "actor_rollout_ref.rollout", "algorithm")


@pytest.mark.parametrize("name", ON_GPU)
@pytest.mark.parametrize("hardware", HARDWARE)
def test_verl_takes_it_and_by_the_estimate_it_fits(name: str, hardware: str) -> None:
    from verl.utils.config import omega_conf_to_dataclass

    config = resolve(name, [f"hardware={hardware}"])
    for part in PARTS:
        assert omega_conf_to_dataclass(OmegaConf.select(config, part)) is not None, part
    gpus, rollout = config.trainer.n_gpus_per_node, config.actor_rollout_ref.rollout
    assert gpus == int(re.search(r"_(\d)x", hardware)[1])
    assert config.data.train_batch_size * rollout.n % gpus == 0
    assert config.actor_rollout_ref.actor.ppo_max_token_len_per_gpu >= rollout.max_model_len
    assert rollout.max_model_len >= config.data.max_prompt_length + config.data.max_response_length
    found = estimate(config, shape_of(config.actor_rollout_ref.model.path), config.hardware.memory_gb)
    assert found.peak < config.hardware.memory_gb * GB
    assert found.generating["vLLM"] > found.vllm_weights + GB, "room for a cache"


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
