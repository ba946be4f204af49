"""The estimates of memory, on cases worked out by hand."""

import json
import math
from pathlib import Path

import pytest
from safetensors import safe_open

from verl_socio.train.memory import GB, PUBLISHED, Shape, estimate, host_estimate, shape_of
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


@pytest.mark.parametrize("field", ["model_dtype", "mixed_precision.param_dtype"])
def test_a_precision_that_verl_does_not_know_is_named(field: str) -> None:
    config = config_with(f"actor_rollout_ref.actor.fsdp_config.{field}=fp64")
    with pytest.raises(ValueError, match=f"^{field} = 'fp64': must be one of fp32, .*Fix: "):
        host_estimate(config, SMALL)


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
    # A rank's share of 584 parameters, and what it is filled from; embedding or head, whole.
    assert found.loading == {"weights": 2 * 584 * 4 / 2, "whole": 4 * 40}
    # Rows of different lengths: 130 places for 100 tokens.
    assert found.training == {
        "weights": 584 * 4 / 2,
        "gradients": 584 * 4 / 2,
        "optimizer": 2 * 584 * 4 / 2,
        "gathered": 2 * (80 + 2 * 156),
        "activations": 130 * (2 * 4 * 2 + 4 * (24 + 8 + 18)),
        "images": 8 * 100 * 2 * 1,
        "logits": 12 * 130 * 10,
        "vLLM": 1.5e9,
    }
    assert found.generating == {"vLLM": 40 * GB, "weights": 584 * 2, "optimizer": 584 * 4}
    # Two of the three SAM2 on the fuller GPU.
    assert found.always == {"SAM2": 2 * (4 * 224e6 + 1e9 + 100 * 11e6), "processes": pytest.approx(2.1e9)}
    cache = pytest.approx(40 * GB - 4e9 - 2 * 584)
    assert found.vllm == {"weights": 2 * 584, "largest batch": 2.5e9, "graphs": 1.5e9, "cache": cache}
    assert found.peak == sum(found.generating.values()) + sum(found.always.values())


def test_offloaded_weights_take_nothing_but_while_they_are_loaded_and_adapters_little() -> None:
    found = estimate(config_with("actor_rollout_ref.actor.fsdp_config.offload_policy=true"), SMALL, 80)
    assert found.training["weights"] == found.training["gradients"] == found.training["optimizer"] == 0
    assert found.loading["weights"] == 584 * 4 / 2
    adapters = estimate(config_with("actor_rollout_ref.model.lora_rank=2"), SMALL, 80).training
    assert adapters["weights"] == (584 + 248) * 4 / 2
    assert adapters["gradients"] == 248 * 4 / 2
    assert adapters["optimizer"] == 2 * 248 * 4 / 2


def test_the_7b_model_passes_through_a_gpu_of_24_gb_only_in_parts() -> None:
    shape = PUBLISHED["Qwen/Qwen2.5-VL-7B-Instruct"]
    alone, eight = (
        estimate(config_with("hardware=lora_1x24gb", f"trainer.n_gpus_per_node={ranks}"), shape, 24) for ranks in (1, 8)
    )
    assert sum(alone.loading.values()) > 35e9 and alone.peak >= sum(alone.loading.values())
    assert sum(eight.loading.values()) < 7e9


def test_without_padding_a_micro_batch_takes_what_it_counts() -> None:
    length = "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=100"
    training = estimate(config_with(length, "actor_rollout_ref.model.use_remove_padding=true"), SMALL, 80).training
    assert training["logits"] == 12 * 100 * 10
    assert training["activations"] == 100 * (2 * 4 * 2 + 4 * 50)


def test_micro_batches_of_rows_hold_whole_rows() -> None:
    config = config_with(
        "actor_rollout_ref.actor.use_dynamic_bsz=false",
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=2",
        "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=100",
    )
    assert estimate(config, SMALL, 80).training["logits"] == pytest.approx(12 * 1.3 * 2 * (4096 + 2048) * 10)


def test_without_sleep_vllm_keeps_its_share_while_the_others_train() -> None:
    config = config_with("actor_rollout_ref.rollout.free_cache_engine=false")
    assert estimate(config, SMALL, 80).training["vLLM"] == 40 * GB


def test_without_gradient_checkpointing_every_layer_is_kept() -> None:
    config = config_with(
        "actor_rollout_ref.model.enable_gradient_checkpointing=false",
        "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=100",
    )
    training = estimate(config, SMALL, 80).training
    assert training["activations"] == 130 * 2 * 2 * 50
    assert training["images"] == 64 * 100 * 2


def test_it_fits_where_the_peak_does_and_vllm_has_room_for_a_cache() -> None:
    found = estimate(config_with(), SMALL, 80)
    assert found.fits(found.peak / GB) and not found.fits(found.peak / GB * 0.99)
    # Half of 8 GB is what vLLM takes beside its cache.
    cramped = estimate(config_with(), SMALL, 8)
    assert not cramped.has_cache and not cramped.fits(80)


def test_fine_tuning_has_no_vllm_and_its_own_segmenter() -> None:
    overrides = ["data.max_token_len_per_gpu=100", "segmenter.cache_images=100", "segmenter.num_actors=9"]
    found = estimate(config_with(*overrides, name="sft_qwen2_5_vl_3b_socioseg"), SMALL, 80)
    assert found.training["weights"] == 584 * 4 / 2 and found.training["logits"] == 12 * 130 * 10
    assert found.generating == found.vllm == {} and found.has_cache and "vLLM" not in found.training
    assert found.always == {"SAM2": 4 * 224e6 + 1e9 + 100 * 11e6, "processes": 0.7e9}


def test_the_host_memory_of_all_weights_by_hand() -> None:
    config = config_with("data.train_batch_size=4", "actor_rollout_ref.rollout.n=8")
    found = host_estimate(config, SMALL)
    waiting = {"weights": 1.7 * 584 * 4, "reference": 1.7 * 584 * 4}
    assert found.loading == {"copies": 584 * 4, **waiting}, "embedding and head are two: one rank reads"
    # 32 rollouts with two stages of two pictures: six numbers of two bytes a pixel, in two places.
    pictures = 2 * 32 * 4 * 6 * 768 * 768 * 2
    assert found.running == {**waiting, "optimizer": pytest.approx(1.7 * 2 * 584 * 4), "pictures": pictures}
    assert found.always == {"processes": 10e9 + 2 * 8e9}
    assert found.peak == sum(found.running.values()) + 26e9


def test_in_host_memory_every_rank_reads_a_model_whose_embedding_is_its_head() -> None:
    tied = Shape(4, 2, 6, 8, 10, tied=True)
    assert host_estimate(config_with(), tied).loading["copies"] == 2 * tied.parameters * 4


def test_in_host_memory_offloaded_gradients_wait_and_a_run_without_kl_has_no_reference() -> None:
    overrides = [f"actor_rollout_ref.actor.{key}" for key in ("fsdp_config.offload_policy=true", "use_kl_loss=false")]
    running = host_estimate(config_with(*overrides), SMALL).running
    assert running["gradients"] == running["weights"] == 1.7 * 584 * 4
    assert running["optimizer"] == 2 * 584 * 4, "AdamW makes its own there, which need not be page-locked"
    assert "reference" not in running


def test_in_host_memory_adapters_have_no_reference_and_vllm_remembers_the_rest() -> None:
    running = host_estimate(config_with("actor_rollout_ref.model.lora_rank=2"), SMALL).running
    assert running["vLLM"] == 1.7 * 2 * 584 * 2 and "reference" not in running
    shared = ["actor_rollout_ref.model.lora_rank=2", "actor_rollout_ref.rollout.tensor_model_parallel_size=2"]
    assert host_estimate(config_with(*shared), SMALL).running["vLLM"] == 1.7 * 2 * 584
    awake = ["actor_rollout_ref.model.lora_rank=2", "actor_rollout_ref.rollout.free_cache_engine=false"]
    assert "vLLM" not in host_estimate(config_with(*awake), SMALL).running


def test_in_host_memory_pictures_in_float32_take_twice_as_much_and_those_of_a_stage_left_out_nothing() -> None:
    half, full, one = (
        host_estimate(config_with(*overrides), SMALL).running["pictures"]
        for overrides in (
            [],
            ["actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype=fp32"],
            ["recipe.stages.refine=null"],
        )
    )
    assert full == 2 * half == 4 * one


def test_in_host_memory_fine_tuning_has_its_processes_and_what_it_reads() -> None:
    found = host_estimate(config_with(name="sft_qwen2_5_vl_3b_socioseg"), SMALL)
    assert found.loading == {"copies": 584 * 4} and found.running == {}


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", json.dumps({"vision_config": {}}), json.dumps({"hidden_size": 3})]
)
def test_a_configuration_of_another_architecture_is_not_known(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    assert shape_of(str(tmp_path)) is None
