"""What has to be wrong before fine-tuning starts; what it shares with reinforcement learning is in test_checks.py."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from verl_socio.train.checks import check
from verl_socio.train.settings import resolve

BATCH = "data.train_batch_size"


@pytest.fixture(scope="module")
def sound(tiny_model: Path, tiny_data: Path) -> DictConfig:
    return resolve("sft_embedded", [f"model.path={tiny_model}", f"data.train_files={tiny_data}", f"{BATCH}=4", "run=r"])


@pytest.fixture
def config(sound: DictConfig) -> DictConfig:
    return copy.deepcopy(sound)


def test_a_sound_run_passes_with_every_row_in_one_step(config: DictConfig) -> None:
    OmegaConf.update(config, BATCH, 16)
    check(config)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.path", "/no/such", r"model\.path = '/no/such': must be a model folder"),
        (BATCH, 0, r"data\.train_batch_size = 0: must be a whole number"),
        (BATCH, 17, r"data\.train_batch_size = 17: must not exceed the 16 rows of 8 training samples"),
        ("data.train_max_samples", 1, r"data\.train_batch_size = 4: must not exceed the 2 rows of 1 training samples"),
        ("trainer.default_hdfs_dir", "hdfs://x", r"trainer\.default_hdfs_dir = 'hdfs://x': must be null"),
        ("trainer.nnodes", 2, r"trainer\.nnodes = 2: must be 1"),
        ("trainer.n_gpus_per_node", 3, r"data\.train_batch_size = 4: must be a multiple of the 3 ranks"),
        ("trainer.n_gpus_per_node", 0, r"trainer\.n_gpus_per_node = 0: .*run on a machine with a GPU"),
        ("trainer.device", "cuda", r"trainer\.n_gpus_per_node = 1: needs as many GPUs, but 0 are visible"),
        ("trainer.total_epochs", 0, r"trainer\.total_epochs = 0: must be a whole number"),
        ("trainer.save_freq", 0, r"trainer\.save_freq = 0: must not be 0"),
        ("trainer.test_freq", 0, r"trainer\.test_freq = 0: must not be 0"),
        ("data.max_token_len_per_gpu", 600, r"max_token_len_per_gpu = 600: must hold .* = 704.*raise it to 704"),
        ("data.max_prompt_length", 20, r"data\.max_prompt_length = 20: is too small: stage localise"),
        (
            "data.max_response_length",
            30,
            r"data\.max_response_length = 30: is too small: the right answer of stage refi",
        ),
        ("segmenter.device", "gpu", r"segmenter\.device = 'gpu'"),
        ("recipe.stages.refine.grammar.max_points", 1, r"prompt\.points_xy = 2: at most 1 a list"),
    ],
)
def test_what_breaks_a_rule_is_named(
    config: DictConfig, key: str, value: object, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    OmegaConf.update(config, key, value, force_add=True)
    with pytest.raises(ValueError, match=message):
        check(config)


def test_epochs_that_end_before_the_steps_do(config: DictConfig) -> None:
    config.trainer.total_epochs, config.trainer.total_training_steps = 2, 9
    with pytest.raises(ValueError, match=r"trainer\.total_epochs = 2: gives 8 steps, fewer than .* = 9.*Fix: .* 3"):
        check(config)
    config.trainer.total_training_steps = 8
    check(config)


def test_only_the_answers_that_will_be_taught_have_to_fit(
    config: DictConfig, tmp_path: Path, write_sample: Callable[..., Path]
) -> None:
    boxes = tuple((4 * index, 2, 4 * index + 3, 40) for index in range(15))
    for name, found in (("a", boxes[:1]), ("b", boxes[:1]), ("c", boxes)):
        write_sample(tmp_path / "data", name, boxes_xyxy=found)
        write_sample(tmp_path / "data", f"v{name}", "val", boxes_xyxy=boxes[:1])
    config.data.train_files = config.data.val_files = str(tmp_path / "data")
    config.data.train_max_samples = 2
    check(config)
    config.data.train_max_samples = -1
    with pytest.raises(ValueError, match=r"max_response_length = 192: .* of stage localise of sample c has \d+ tokens"):
        check(config)
