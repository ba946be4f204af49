"""How many processes and steps a run has, whether its rows can be shared among them, and what the machine must have."""

from __future__ import annotations

import math
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from verl_socio.checkpoints import free_bytes, size_of, step_of, whole
from verl_socio.doctor import COMPILER_FIX, LEAST_DRIVER, list_gpus, missing_to_compile
from verl_socio.errors import invalid
from verl_socio.train.memory import GB, Weights, shape_of
from verl_socio.train.settings import is_supervised


def check_ranks(config: DictConfig) -> None:
    """Check the counts of a run, and that the machine can take it.

    Raises:
        ValueError: A count is no whole number of 1 or more, rows cannot be shared evenly, or one may be too long for a
            micro-batch; there are fewer GPUs, or what they need is missing; the disk cannot hold the checkpoints.
    """
    if is_supervised(config):
        _check_rows(config)
    else:
        _check_rollouts(config)
    _check_disk(config)


def check_epochs(config: DictConfig, rows: int) -> None:
    """Check that a run comes to its last step, after which alone it surely writes what it has learnt.

    Args:
        config: The settings.
        rows: Rows of an epoch: what `data.train_batch_size` counts.

    Raises:
        ValueError: There are fewer steps in all epochs together, or no step is asked for.
    """
    trainer, an_epoch = config.trainer, rows // config.data.train_batch_size
    steps = trainer.total_training_steps
    if steps is not None:
        _check_counts({"trainer.total_training_steps": steps})
    if an_epoch and steps is not None and trainer.total_epochs * an_epoch < steps:
        rule = f"gives {trainer.total_epochs * an_epoch} steps, fewer than trainer.total_training_steps = {steps}"
        raise invalid("trainer.total_epochs", trainer.total_epochs, rule, f"raise it to {-(-steps // an_epoch)}")


def _check_rollouts(config: DictConfig) -> None:
    trainer, rollout, batch_size = config.trainer, config.actor_rollout_ref.rollout, config.data.train_batch_size
    mini_batch = config.actor_rollout_ref.actor.ppo_mini_batch_size
    _check_counts(
        {
            "trainer.n_gpus_per_node": trainer.n_gpus_per_node,
            "trainer.nnodes": trainer.nnodes,
            "trainer.total_epochs": trainer.total_epochs,
            "data.train_batch_size": batch_size,
            "actor_rollout_ref.rollout.n": rollout.n,
            "actor_rollout_ref.rollout.tensor_model_parallel_size": rollout.tensor_model_parallel_size,
            "actor_rollout_ref.actor.ppo_mini_batch_size": mini_batch,
        }
    )
    if config.algorithm.adv_estimator == "grpo" and rollout.n == 1:
        rule = "must be 2 or more: an answer is compared with the others of its group"
        raise invalid("actor_rollout_ref.rollout.n", rollout.n, rule, "raise it")
    ranks = trainer.n_gpus_per_node * trainer.nnodes
    _check_gpus(trainer)
    if trainer.nnodes > 1:
        _check_machines(trainer)
    if ranks % rollout.tensor_model_parallel_size:
        field = "actor_rollout_ref.rollout.tensor_model_parallel_size"
        raise invalid(field, rollout.tensor_model_parallel_size, f"must divide the {ranks} ranks", "choose a divisor")
    rows = batch_size * rollout.n
    if rows % ranks:
        rule = f"times rollout.n = {rollout.n} gives {rows} rows a stage, which {ranks} ranks cannot share evenly"
        raise invalid("data.train_batch_size", batch_size, rule, f"make the rows a multiple of {ranks}")
    if batch_size % mini_batch:
        rule = f"must divide data.train_batch_size = {batch_size}"
        fix = "leave it as it is for one update a stage"
        raise invalid("actor_rollout_ref.actor.ppo_mini_batch_size", mini_batch, rule, fix)
    filled = (
        ("actor.use_dynamic_bsz", "actor.ppo_max_token_len_per_gpu"),
        ("rollout.log_prob_use_dynamic_bsz", "rollout.log_prob_max_token_len_per_gpu"),
        ("ref.log_prob_use_dynamic_bsz", "ref.log_prob_max_token_len_per_gpu"),
    )
    for switch, limit in filled:
        if OmegaConf.select(config.actor_rollout_ref, switch):
            _check_micro_batch(config, f"actor_rollout_ref.{limit}")


def _check_micro_batch(config: DictConfig, field: str) -> None:
    """Check that a micro-batch holds the longest row, with which verl would fail: maybe hours into the run."""
    tokens, longest = OmegaConf.select(config, field), config.data.max_prompt_length + config.data.max_response_length
    _check_counts({field: tokens})
    if tokens < longest:
        rule = f"must hold data.max_prompt_length + data.max_response_length = {longest}"
        raise invalid(field, tokens, rule, f"raise it to {longest}")


def _check_gpus(trainer: DictConfig) -> None:
    if trainer.device != "cuda":
        return
    import torch

    if torch.cuda.device_count() < trainer.n_gpus_per_node:
        rule = f"needs as many GPUs, but {torch.cuda.device_count()} are visible here"
        raise invalid("trainer.n_gpus_per_node", trainer.n_gpus_per_node, rule, "lower it or make more GPUs visible")
    # They are counted by what comes with the driver, however old that is; this asks CUDA itself.
    if not torch.cuda.is_available():
        gpus, trouble = list_gpus()
        driver = gpus[0].driver if gpus else trouble or "nvidia-smi lists none"
        rule = f"needs GPUs that torch's CUDA {torch.version.cuda} can use, but it can use none (driver: {driver})"
        fix = f"update NVIDIA's driver to {LEAST_DRIVER} or newer; if it is, load it anew or restart the machine"
        raise invalid("trainer.device", "cuda", rule, fix)
    if missing := missing_to_compile():
        rule = f"compiles kernels for the GPUs when it starts, which needs {missing}"
        raise invalid("trainer.device", "cuda", rule, COMPILER_FIX)


def _check_disk(config: DictConfig) -> None:
    """Check that there is room for the checkpoints, the last of which is written hours from now."""
    folder = Path(config.trainer.default_local_dir)
    field = "trainer.max_ckpt_to_keep" if is_supervised(config) else "trainer.max_actor_ckpt_to_keep"
    count, held = OmegaConf.select(config, field), whole(folder)
    # One is written before the oldest is removed.
    kept = count + 1 if count is not None and count > 0 else math.inf
    more = min(kept - len(held), _saves(config, step_of(held[-1]) if held else 0))
    if more == math.inf:
        more = 1
    each = size_of(held[-1]) if held else _checkpoint_bytes(config)
    free = free_bytes(folder)
    if more * each > free:
        there = f"{free / GB:.1f} GB are free in {folder}"
        rule = f"needs room for {more:g} more checkpoints of {each / GB:.1f} GB, but {there}"
        raise invalid(field, count, rule, "lower it, free some space, or write elsewhere: output_root=DIR")


def _saves(config: DictConfig, done: int) -> float:
    """How many checkpoints are written after step `done`; infinite where the number of steps depends on the data."""
    steps, every = config.trainer.total_training_steps, config.trainer.save_freq
    if steps is None or every is None:
        return math.inf
    if steps <= done:
        return 0
    if every < 1:  # never, but for fine-tuning's last step
        return int(is_supervised(config))
    return int(-(-steps // every) - done // every)


def _checkpoint_bytes(config: DictConfig) -> float:
    """What verl writes into one checkpoint: weights and AdamW's two moments; 0 where the model's sizes are unknown."""
    if is_supervised(config):
        model, written = config.model, config.checkpoint
    else:
        model, written = config.actor_rollout_ref.model, config.actor_rollout_ref.actor.checkpoint
    shape = shape_of(str(model.path))
    if shape is None:
        return 0
    weights = Weights.of(config, shape)
    adapters_alone = model.lora_rank and written.get("save_lora_only")
    numbers = {"model": weights.trained if adapters_alone else weights.held, "optimizer": 2 * weights.trained}
    return weights.width * sum(count for part, count in numbers.items() if part in written.save_contents)


def _check_machines(trainer: DictConfig) -> None:
    from verl_socio import cluster  # Ray, which one machine need not wait for here

    if cluster.address_to_join() is None:
        rule = "needs a Ray cluster of as many machines"
        fix = "start it (ray start on each machine) and set RAY_ADDRESS, or set it to 1"
        raise invalid("trainer.nnodes", trainer.nnodes, rule, fix)


def _check_counts(counts: dict[str, object]) -> None:
    for field, value in counts.items():
        if not isinstance(value, int) or value < 1:
            fix = "set it to 1 or more" if field != "trainer.n_gpus_per_node" else "run on a machine with a GPU"
            raise invalid(field, value, "must be a whole number of 1 or more", fix)


def _check_rows(config: DictConfig) -> None:
    data, trainer = config.data, config.trainer
    _check_counts(
        {
            "trainer.n_gpus_per_node": trainer.n_gpus_per_node,
            "trainer.nnodes": trainer.nnodes,
            "trainer.total_epochs": trainer.total_epochs,
            "data.train_batch_size": data.train_batch_size,
        }
    )
    _check_gpus(trainer)
    ranks = trainer.n_gpus_per_node
    if trainer.nnodes != 1:
        raise invalid("trainer.nnodes", trainer.nnodes, "must be 1: fine-tuning runs on one machine", "set it to 1")
    if trainer.default_hdfs_dir is not None:
        rule = "must be null: checkpoints are kept on this machine"
        raise invalid("trainer.default_hdfs_dir", trainer.default_hdfs_dir, rule, "copy them when the run is over")
    if data.train_batch_size % ranks:
        rule = f"must be a multiple of the {ranks} ranks"
        raise invalid("data.train_batch_size", data.train_batch_size, rule, "choose a multiple")
    _check_micro_batch(config, "data.max_token_len_per_gpu")
    for field in ("save_freq", "test_freq"):
        # verl divides by them; "after_each_epoch" is its own word.
        if trainer[field] == 0:
            raise invalid(f"trainer.{field}", 0, "must not be 0", "use -1 for never, or a number of steps")
