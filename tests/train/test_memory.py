"""The estimate of GPU memory, on cases worked out by hand."""

import json
import math
from pathlib import Path

import pytest
from safetensors import safe_open

from verl_socio.train.memory import GB, PUBLISHED, Shape, estimate, report, shape_of
from verl_socio.train.settings import resolve

# 10 words of width 4, 2 layers; an image encoder of one layer of width 2.
SMALL = Shape(4, 2, 6, 8, 10, tied=False, vision_hidden=2, vision_layers=1, vision_feed_forward=3, patch_values=12)


def config_with(*overrides: str, name: str = "qwen2_5_vl_3b_socioseg"):
    return resolve(name, ["trainer.n_gpus_per_node=2", *overrides])


def test_the_parameters_of_the_published_models_are_those_of_their_files() -> None:
    assert PUBLISHED["Qwen/Qwen2.5-VL-3B-Instruct"].parameters == 3_754_622_976
    assert PUBLISHED["Qwen/Qwen2.5-VL-7B-Instruct"].parameters == 8_292_166_656


def test_the_parameters_of_the_embedded_model_are_those_of_its_file(tiny_model: Path) -> None:
    with safe_open(tiny_model / "model.safetensors", "np") as file:
        counted = sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())
    assert shape_of(str(tiny_model)).parameters == counted


def test_parameters_by_hand() -> None:
    # q and o: 16 + 4 and 16; k and v: 8 x 4 + 8; feed-forward 3 x 4 x 6; two norms of 4.
    assert SMALL.layer == 20 + 16 + 40 + 72 + 8
    assert SMALL.ends == 2 * 40
    # Patches 12 x 2; qkv 6 x 2 + 6, projection 4 + 2, gate, up and down 3 x 6 + 3 + 3 + 2, norms 2 x 2;
    # the part that hands over: norm 2, 8 x 8 + 8, 8 x 4 + 4.
    assert SMALL.vision == 24 + (18 + 6 + 26 + 4) + (2 + 72 + 36)
    assert SMALL.parameters == 80 + 2 * 156 + 4 + 188
    # Rank 2 on both layers: q, o 4 + 4 each; k, v 4 + 4 each; three of 4 + 6.
    assert SMALL.adapters(2) == 2 * 2 * (8 + 8 + 8 + 8 + 30)


def test_all_weights_on_two_gpus_by_hand() -> None:
    config = config_with(
        "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=100",
        "actor_rollout_ref.actor.fsdp_config.param_offload=false",
        "actor_rollout_ref.actor.fsdp_config.optimizer_offload=false",
        "actor_rollout_ref.rollout.gpu_memory_utilization=0.5",
        "segmenter.cache_images=100",
        "segmenter.num_actors=3",
    )
    found = estimate(config, SMALL, 80)
    assert found.training == {
        "weights": 584 * 4 / 2,
        "gradients": 584 * 4 / 2,
        "optimizer": 2 * 584 * 4 / 2,
        "gathered": 2 * (80 + 2 * 156),
        "activations": 100 * (2 * 4 * 2 + 4 * (24 + 8 + 18)),
        "images": 8 * 100 * 2 * 1,
        "logits": 8 * 100 * 10,
    }
    assert found.generating == {"vLLM": 40 * GB, "weights": 584 * 2, "optimizer": 584 * 4}
    # Two of the three SAM2 on the fuller GPU.
    assert found.always == {"SAM2": 2 * (4 * 224e6 + 1e9 + 100 * 11e6), "processes": pytest.approx(2.1e9)}
    assert found.vllm_weights == 2 * 584
    assert found.peak == sum(found.generating.values()) + sum(found.always.values())


def test_offloaded_weights_take_nothing_and_adapters_little() -> None:
    offloaded = config_with("actor_rollout_ref.actor.fsdp_config.offload_policy=true")
    training = estimate(offloaded, SMALL, 80).training
    assert training["weights"] == training["gradients"] == training["optimizer"] == 0
    adapters = estimate(config_with("actor_rollout_ref.model.lora_rank=2"), SMALL, 80).training
    assert adapters["weights"] == (584 + 248) * 4 / 2
    assert adapters["gradients"] == 248 * 4 / 2
    assert adapters["optimizer"] == 2 * 248 * 4 / 2


def test_without_sleep_vllm_keeps_its_share_while_the_others_train() -> None:
    config = config_with("actor_rollout_ref.rollout.free_cache_engine=false")
    assert estimate(config, SMALL, 80).training["vLLM"] == 40 * GB


def test_without_gradient_checkpointing_every_layer_is_kept() -> None:
    config = config_with(
        "actor_rollout_ref.model.enable_gradient_checkpointing=false",
        "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=100",
    )
    training = estimate(config, SMALL, 80).training
    assert training["activations"] == 100 * 2 * 2 * 50
    assert training["images"] == 64 * 100 * 2


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["hardware=full_4x80gb"], ["3.75 billion parameters", "peak 53.", "of 80 GB: fits\n"]),
        ([], ["name the hardware for an estimate"]),
        (["hardware=lora_1x24gb", "hardware.memory_gb=12"], ["DOES NOT FIT"]),
        (["hardware=lora_1x24gb", "hardware.memory_gb=8"], ["DOES NOT FIT", "rollout.gpu_memory_utilization"]),
        (
            ["hardware=full_4x80gb", "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=99999"],
            ["DOES NOT FIT", "ppo_max_token_len_per_gpu"],
        ),
        (["hardware=full_4x80gb", "actor_rollout_ref.model.path=some/other"], ["sizes of some/other are not known"]),
    ],
)
def test_what_a_dry_run_says(overrides: list[str], told: list[str]) -> None:
    text = report(resolve("qwen2_5_vl_3b_socioseg", overrides or ["trainer.n_gpus_per_node=1"]))
    assert all(line.startswith("# ") for line in text.splitlines()), "the rest stays YAML"
    assert all(words in text for words in told), text


def test_a_run_without_a_gpu_needs_no_estimate_and_fine_tuning_has_none() -> None:
    assert report(resolve("embedded", [])) == ""
    assert report(resolve("sft_qwen2_5_vl_3b_socioseg", ["trainer.n_gpus_per_node=1"])) == ""


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", json.dumps({"vision_config": {}}), json.dumps({"hidden_size": 3})]
)
def test_a_configuration_of_another_architecture_is_not_known(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    assert shape_of(str(tmp_path)) is None
