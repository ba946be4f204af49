"""Everything that has to be wrong before Ray or a model is started, and the line that a user then reads."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from verl_socio import geometry
from verl_socio.chat import ChatModel
from verl_socio.train.checks import check
from verl_socio.train.settings import resolve

MODEL = "actor_rollout_ref.model.path"
BATCH = "data.train_batch_size"
MINI_BATCH = "actor_rollout_ref.actor.ppo_mini_batch_size"
ROLLOUTS = "actor_rollout_ref.rollout.n"
TENSOR_PARALLEL = "actor_rollout_ref.rollout.tensor_model_parallel_size"
RANKS = "trainer.n_gpus_per_node"


@pytest.fixture(scope="module")
def sound(tiny_model: Path, tiny_data: Path) -> DictConfig:
    overrides = [f"{MODEL}={tiny_model}", f"data.train_files={tiny_data}", f"{BATCH}=4", "run=r"]
    return resolve("embedded", overrides)


@pytest.fixture
def config(sound: DictConfig) -> DictConfig:
    return copy.deepcopy(sound)


@pytest.fixture
def data(tiny_data: Path, tmp_path: Path, config: DictConfig) -> Path:
    """A copy of the data that a test may break, and that `config` points at."""
    copied = tmp_path / "data"
    shutil.copytree(tiny_data, copied)
    config.data.train_files = config.data.val_files = str(copied)
    return copied


def change(config: DictConfig, **values: object) -> None:
    for key, value in values.items():
        OmegaConf.update(config, key, value)


def refused(config: DictConfig, message: str) -> str:
    with pytest.raises(ValueError, match=message + r"(.|\n)*Fix: ") as caught:
        check(config)
    return str(caught.value)


@pytest.mark.parametrize("share", [-0.1, 1.5, "some", True, None])
def test_the_share_of_episodes_that_may_fail_is_one(config: DictConfig, share: object) -> None:
    change(config, **{"trainer.max_segmenter_failures": share})
    refused(config, r"trainer\.max_segmenter_failures = .*: must be a share of the episodes, 0 to 1")


def test_groups_are_not_filtered_over_several_stages(config: DictConfig) -> None:
    change(config, **{"algorithm.filter_groups": {"enable": True}})
    refused(config, r"algorithm\.filter_groups\.enable = True: compares .* over all 2 stages")
    change(config, **{"recipe.stages.refine": None})
    check(config)


def test_a_sound_run_passes(config: DictConfig) -> None:
    check(config)


def test_several_sources_are_one_data_set(config: DictConfig, tiny_data: Path) -> None:
    config.data.train_files = [str(tiny_data), str(tiny_data)]
    change(config, **{BATCH: 16, MINI_BATCH: 16})
    check(config)


# --- the model -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/no/such/model", "./models/mine", "models", "a/b/c", ""])
def test_a_model_path_that_does_not_exist(config: DictConfig, path: str) -> None:
    OmegaConf.update(config, MODEL, path)
    refused(config, rf"actor_rollout_ref\.model\.path = '{path}': must (be a model folder or a Hub id|hold config)")


def test_a_name_that_the_hub_does_not_know(config: DictConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    # Offline, as transformers reports it; with a network it raises the same kind of error.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    OmegaConf.update(config, MODEL, "nobody-here/no-such-model")
    refused(config, r"actor_rollout_ref\.model\.path = 'nobody-here/no-such-model': must hold a processor")


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("config.json", r"must hold config\.json"),
        ("model.safetensors", r"must hold weights \(\*\.safetensors\)"),
    ],
)
def test_a_model_folder_that_is_not_whole(
    config: DictConfig, tiny_model: Path, tmp_path: Path, gone: str, message: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / gone).unlink()
    OmegaConf.update(config, MODEL, str(folder))
    refused(config, rf"actor_rollout_ref\.model\.path = .*{message}")


def test_a_model_folder_without_a_processor(config: DictConfig, tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).symlink_to(tiny_model / name)
    OmegaConf.update(config, MODEL, str(folder))
    refused(config, r"actor_rollout_ref\.model\.path = .*must hold a processor and a configuration")


# --- ranks and batches -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [BATCH, MINI_BATCH, ROLLOUTS, TENSOR_PARALLEL, RANKS, "trainer.nnodes"])
@pytest.mark.parametrize("value", [0, -1, None, 1.5])
def test_a_count_must_be_one(config: DictConfig, key: str, value: object) -> None:
    OmegaConf.update(config, key, value)
    refused(config, rf"^{key} = {value}: must be a whole number of 1 or more")


def test_several_machines_need_a_cluster(config: DictConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    config.trainer.nnodes = 2
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    refused(config, r"trainer\.nnodes = 2: needs a Ray cluster of as many machines")
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    check(config)


def test_too_few_gpus_for_the_ranks(config: DictConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    change(config, **{"trainer.device": "cuda", RANKS: 4})
    refused(config, r"trainer\.n_gpus_per_node = 4: needs as many GPUs, but 2 are visible here")
    OmegaConf.update(config, RANKS, 2)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("verl_socio.train.ranks.missing_to_compile", lambda: "")
    check(config)


def test_tensor_parallel_ranks_that_do_not_divide_the_ranks(config: DictConfig) -> None:
    change(config, **{RANKS: 3, TENSOR_PARALLEL: 2, BATCH: 6, MINI_BATCH: 6})
    refused(config, r"tensor_model_parallel_size = 2: must divide the 3 ranks")


def test_a_batch_that_the_ranks_cannot_share(config: DictConfig) -> None:
    change(config, **{RANKS: 3, BATCH: 4, ROLLOUTS: 4})
    refused(
        config, r"data\.train_batch_size = 4: times rollout\.n = 4 gives 16 rows a stage, which 3 ranks cannot share"
    )


def test_a_mini_batch_that_does_not_divide_the_batch(config: DictConfig) -> None:
    OmegaConf.update(config, MINI_BATCH, 3)
    refused(config, r"ppo_mini_batch_size = 3: must divide data\.train_batch_size = 4")


def test_a_batch_larger_than_the_data(config: DictConfig) -> None:
    change(config, **{BATCH: 9, MINI_BATCH: 9})
    refused(config, r"data\.train_batch_size = 9: must not exceed the 8 training samples")
    change(config, **{BATCH: 8, MINI_BATCH: 8, "data.train_max_samples": 4})
    refused(config, r"data\.train_batch_size = 8: must not exceed the 4 training samples")


def test_an_answer_without_others_to_compare_it_with(config: DictConfig) -> None:
    OmegaConf.update(config, ROLLOUTS, 1)
    refused(config, r"actor_rollout_ref\.rollout\.n = 1: must be 2 or more")
    config.algorithm.adv_estimator = "reinforce_plus_plus"
    check(config)


@pytest.mark.parametrize(
    ("limit", "switch"),
    [
        ("actor.ppo_max_token_len_per_gpu", "actor.use_dynamic_bsz"),
        ("rollout.log_prob_max_token_len_per_gpu", "rollout.log_prob_use_dynamic_bsz"),
        ("ref.log_prob_max_token_len_per_gpu", "ref.log_prob_use_dynamic_bsz"),
    ],
)
def test_a_micro_batch_that_cannot_hold_the_longest_row(config: DictConfig, limit: str, switch: str) -> None:
    longest = config.data.max_prompt_length + config.data.max_response_length
    for tokens in (None, longest - 1):
        OmegaConf.update(config, f"actor_rollout_ref.{limit}", tokens)
        refused(config, rf"actor_rollout_ref\.{limit} = {tokens}: must (be a whole number|hold .* = {longest})")
    OmegaConf.update(config, f"actor_rollout_ref.{switch}", False)
    check(config)
    change(config, **{f"actor_rollout_ref.{switch}": True, f"actor_rollout_ref.{limit}": longest})
    check(config)


def test_epochs_that_end_before_the_steps_do(config: DictConfig) -> None:
    # 8 questions, 4 a step.
    change(config, **{"trainer.total_epochs": 2, "trainer.total_training_steps": 5})
    text = refused(config, r"trainer\.total_epochs = 2: gives 4 steps, fewer than trainer\.total_training_steps = 5")
    assert text.endswith("raise it to 3.")
    for steps in (4, None):
        config.trainer.total_training_steps = steps
        check(config)
    config.data.train_max_samples = 7
    config.trainer.total_training_steps = 3
    refused(config, r"trainer\.total_epochs = 2: gives 2 steps, fewer than trainer\.total_training_steps = 3")


@pytest.mark.parametrize("key", ["trainer.total_epochs", "trainer.total_training_steps"])
def test_a_run_of_no_steps(config: DictConfig, key: str) -> None:
    OmegaConf.update(config, key, 0)
    refused(config, rf"^{key} = 0: must be a whole number of 1 or more")


# --- the data --------------------------------------------------------------------------------------------------------


def test_a_data_path_that_does_not_exist(config: DictConfig) -> None:
    config.data.train_files = "/no/such/data"
    refused(config, r"'/no/such/data'")


def test_a_split_that_does_not_exist(config: DictConfig) -> None:
    config.data.val_split = "validation"
    refused(config, r"validation")


def unreadable_image(sample: Path) -> None:
    (sample / "sat.png").write_bytes(b"no image")


def missing_image(sample: Path) -> None:
    (sample / "sat.png").unlink()


def mask_of_another_size(sample: Path) -> None:
    Image.new("L", (10, 10), 255).save(sample / "mask.png")


def empty_mask(sample: Path) -> None:
    Image.new("L", (64, 48), 0).save(sample / "mask.png")


def broken_question(sample: Path) -> None:
    (sample / "question.json").write_text('{"problem": ')


def no_map(sample: Path) -> None:
    (sample / "map.png").unlink()


FAULTS = (unreadable_image, missing_image, mask_of_another_size, empty_mask, broken_question, no_map)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_data_is_listed_with_its_sample(
    config: DictConfig, data: Path, split: str, fault: Callable[[Path], None]
) -> None:
    fault(data / split / f"{split}_1")
    text = refused(config, rf"data\.{split}_files = .*has 1 faults:\n  .*{split}_1")
    assert f"verl-socio data validate {data} --split {split}" in text


def test_only_the_first_faults_are_listed_but_all_are_counted(
    config: DictConfig, data: Path, write_sample: Callable[..., Path]
) -> None:
    for index in range(12):
        missing_image(write_sample(data, f"more_{index:02}", "train"))
    text = refused(config, r"has 12 faults:")
    assert "more_09" in text
    assert "more_10" not in text


def test_a_recipe_without_maps_takes_data_without_them(config: DictConfig, data: Path) -> None:
    for sample in (*(data / "train").iterdir(), *(data / "val").iterdir()):
        no_map(sample)
    refused(config, r"has 8 faults:")
    for stage in config.recipe.stages.values():
        stage.images = ["satellite"]
    check(config)


# --- prompts ---------------------------------------------------------------------------------------------------------


def test_a_prompt_budget_that_is_too_small_is_told_with_its_numbers(config: DictConfig) -> None:
    config.data.max_prompt_length = 20
    text = refused(config, r"data\.max_prompt_length = 20: is too small: stage localise of sample .* needs \d+ tokens")
    needed = int(text.split(" needs ")[1].split(" ")[0])
    config.data.max_prompt_length = needed
    text = refused(
        config, rf"data\.max_prompt_length = {needed}: is too small: stage refine of sample .* needs \d+ tok"
    )
    config.data.max_prompt_length = int(text.split(" needs ")[1].split(" ")[0])
    check(config)


def test_the_budget_counts_the_points_that_a_stage_asks_for(config: DictConfig) -> None:
    first, second = (OmegaConf.to_container(config.recipe.stages.refine) for _ in range(2))
    first |= {"feedback": False, "prompt": config.recipe.stages.localise.prompt}
    del first["reward"]["terms"]["refine_format"]
    config.recipe.stages = {"first": first, "second": second}
    needed = []
    for points in (2, 6):
        config.recipe.stages.first.points = points
        config.data.max_prompt_length = 100
        text = refused(config, r"stage second of sample .* needs \d+ tokens")
        needed.append(int(text.split(" needs ")[1].split(" ")[0]))
    # At least the digits of four more points for each of the items that are told.
    assert needed[1] - needed[0] > 4 * 4 * config.recipe.told_items


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_budget_is_that_of_the_largest_image_and_the_longest_question(
    config: DictConfig, data: Path, write_sample: Callable[..., Path], tiny_chat: ChatModel, split: str
) -> None:
    write_sample(data, "large", split, size_wh=(240, 200))
    write_sample(data, "wordy", split, question="the place of many words " * 5)
    config.data.max_prompt_length = 10
    small = int(refused(config, r"sample large needs \d+ tokens").split(" needs ")[1].split(" ")[0])
    shutil.rmtree(data / split / "wordy")
    less = int(refused(config, r"sample large needs \d+ tokens").split(" needs ")[1].split(" ")[0])
    words = len(tiny_chat.tokenizer.encode("the place of many words " * 5)) - len(tiny_chat.tokenizer.encode("Zoo"))
    assert small - less == pytest.approx(words, abs=2)
    shutil.rmtree(data / split / "large")
    least = int(refused(config, r"needs \d+ tokens").split(" needs ")[1].split(" ")[0])
    tokens = tiny_chat.grid.num_tokens
    # Beside the images' tokens, a few digits more in the text.
    assert less - least == pytest.approx(2 * (tokens((240, 200)) - tokens((64, 48))), abs=20)


def test_a_model_length_that_cannot_hold_prompt_and_answer(config: DictConfig) -> None:
    config.actor_rollout_ref.rollout.max_model_len = 700
    total = config.data.max_prompt_length + config.data.max_response_length
    assert f"raise it to {total}" in refused(config, rf"max_model_len = 700: must hold .* = {total}")
    config.actor_rollout_ref.rollout.max_model_len = None
    check(config)


def test_a_question_with_a_control_token(config: DictConfig, data: Path) -> None:
    (data / "val" / "val_0" / "question.json").write_text(json.dumps({"problem": "Zoo <|image_pad|>"}))
    refused(config, r"question = 'Zoo <\|image_pad\|>': must not hold the model's control tokens")


def test_a_chat_template_that_drops_images(config: DictConfig, tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    template = "{% for m in messages %}{% for p in m.content %}{{ p.text or '' }}{% endfor %}{% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    OmegaConf.update(config, MODEL, str(folder))
    refused(config, r"chat template = '0 placeholders for 2 images'")


# --- recipe and segmenter --------------------------------------------------------------------------------------------


def test_a_recipe_that_breaks_a_rule(config: DictConfig) -> None:
    config.recipe.refine_from = "worst"
    refused(config, r"recipe\.refine_from = 'worst'")


def test_a_reward_that_its_stage_cannot_earn_is_found_before_training(config: DictConfig) -> None:
    # Format of the second answer asked of the first: no error until a reward is computed.
    terms = config.recipe.stages.localise.reward.terms
    OmegaConf.set_struct(terms, False)
    terms.refine_format = {"weight": 1.0}
    refused(config, r"reward\.refine_format = 'first stage': needs the answer of the stage before")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": "/no/such/sam"}, r"segmenter\.weights = '/no/such/sam'"),
        ({"wieghts": "embedded"}, r"segmenter\.wieghts = 'embedded': is not a known setting"),
        ({"num_actors": 0}, r"segmenter\.num_actors = 0: must be a whole number"),
        ({"device": "gpu"}, r"segmenter\.device = 'gpu'"),
    ],
)
def test_a_segmenter_that_breaks_a_rule(config: DictConfig, settings: dict[str, object], message: str) -> None:
    OmegaConf.set_struct(config, False)
    config.segmenter = {**OmegaConf.to_container(config.segmenter), **settings}
    refused(config, message)


def test_a_model_family_without_a_known_frame(config: DictConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(geometry.MODEL_FRAMES, "qwen2_5_vl")
    refused(config, r"model_type = 'qwen2_5_vl': must be one of qwen2_vl, qwen3_vl")
