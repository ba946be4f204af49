"""Advantages as the trainer computes them, on a real TransferQueue, against numbers worked out by hand.

A question with four rollouts and two stages. In stage 1 the rollouts earn 1, 2, 3 and 6 (mean 3, sample standard
deviation sqrt(14/3)), in stage 2 they earn 4, 0, 2 and 2 (mean 2, sample standard deviation sqrt(8/3)).
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from verl_socio.engine.rows import session_of
from verl_socio.recipes import Recipe

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SHIPPED = Path(__file__).parents[2] / "configs" / "recipe" / "socioreasoner.yaml"
REWARDS = {0: [1.0, 2.0, 3.0, 6.0], 1: [4.0, 0.0, 2.0, 2.0]}
MEANS = {0: 3.0, 1: 2.0}
DEVIATIONS = {0: math.sqrt(14 / 3), 1: math.sqrt(8 / 3)}
EPSILON = 1e-6  # verl adds it to the deviation


@pytest.fixture(scope="module")
def queue() -> Iterator[Any]:
    import ray
    import transfer_queue

    ray.init(num_cpus=4, include_dashboard=False, object_store_memory=150_000_000, log_to_driver=False)
    transfer_queue.init(OmegaConf.create({"backend": {"SimpleStorage": {"num_data_storage_units": 1}}}))
    yield transfer_queue
    transfer_queue.close()
    ray.shutdown()


@pytest.fixture
def trainer(request: pytest.FixtureRequest) -> Any:
    """The trainer without the workers, models and data that its construction would start."""
    from verl_socio.engine.trainer import EpisodeTrainer

    trainer = object.__new__(EpisodeTrainer)
    trainer._recipe = Recipe.from_config(OmegaConf.to_container(OmegaConf.load(SHIPPED), resolve=True))
    trainer.config = OmegaConf.create(
        {
            "algorithm": {
                "adv_estimator": "grpo",
                "gamma": 1.0,
                "lam": 1.0,
                "use_kl_in_reward": False,
                "norm_adv_by_std_in_grpo": getattr(request, "param", True),
            },
            "actor_rollout_ref": {"rollout": {"n": 4}},
        }
    )
    return trainer


def row(question: str, reward: float, length: int) -> dict[str, Any]:
    """A row as verl's agent loop worker writes it: the reward stands on the last token of the answer."""
    scores = torch.zeros(length)
    scores[-1] = reward
    return {
        "uid": question,
        "prompts": torch.arange(3),
        "responses": torch.arange(length),
        "response_mask": torch.ones(length, dtype=torch.int64),
        "rm_scores": scores,
        "rollout_log_probs": torch.full((length,), -1.0),
        "old_log_probs": torch.full((length,), -1.0),
    }


def put(queue: Any, question: str, rewards: dict[int, Sequence[float | None]], partition: str = "train") -> Any:
    """Write a question's rows, each of another length, in the order in which episodes end; None leaves one out."""
    from transfer_queue import KVBatchMeta
    from verl.utils.tensordict_utils import list_of_dict_to_tensordict

    keys, rows = [], []
    for rollout in (2, 0, 3, 1):
        for stage, of_stage in rewards.items():
            reward = of_stage[rollout]
            if reward is not None:
                keys.append(f"{question}_{session_of(rollout, stage, 2)}_0")
                rows.append(row(question, reward, length=3 + rollout + stage))
    tags = [{"status": "success", "seq_len": len(each["responses"]) + 3} for each in rows]
    queue.kv_batch_put(keys=keys, partition_id=partition, tags=tags, fields=list_of_dict_to_tensordict(rows))
    return KVBatchMeta(keys=keys, tags=tags, partition_id=partition)


def advantages(queue: Any, batch: Any) -> dict[str, list[float]]:
    """The advantage of each row's tokens, by key."""
    data = queue.kv_batch_get(
        keys=batch.keys, partition_id=batch.partition_id, select_fields=["advantages", "responses"]
    )
    columns = zip(batch.keys, data["advantages"].unbind(), data["responses"].unbind(), strict=True)
    found = {}
    for key, values, responses in columns:
        assert len(values) == len(responses), "one a token of the answer"
        found[key] = values.tolist()
    return found


def joined(*batches: Any) -> Any:
    from verl_socio.engine.rows import join

    return join(list(batches))


def expected(question: str, rewards: dict[int, Sequence[float]], by_deviation: bool) -> dict[str, float]:
    return {
        f"{question}_{session_of(rollout, stage, 2)}_0": (reward - MEANS[stage])
        / ((DEVIATIONS[stage] + EPSILON) if by_deviation else 1.0)
        for stage, of_stage in rewards.items()
        for rollout, reward in enumerate(of_stage)
    }


def assert_advantages(found: dict[str, list[float]], wanted: dict[str, float]) -> None:
    assert found.keys() == wanted.keys()
    for key, values in found.items():
        assert values == pytest.approx([wanted[key]] * len(values), abs=1e-6), key


@pytest.mark.parametrize(("trainer", "by_deviation"), [(True, True), (False, False)], indirect=["trainer"])
def test_a_group_of_four_is_normalised_stage_by_stage(queue: Any, trainer: Any, by_deviation: bool) -> None:
    question = f"q{by_deviation}"
    batch = put(queue, question, REWARDS)
    done = trainer._compute_advantage(batch, {})
    assert sorted(done.keys) == sorted(batch.keys)
    stages = [int(key.split("_")[1]) % 2 for key in done.keys]
    assert stages == [0] * 4 + [1] * 4, "stage 1 before stage 2, as they will update"
    found = advantages(queue, batch)
    assert_advantages(found, expected(question, REWARDS, by_deviation))
    if not by_deviation:  # the numbers themselves
        assert found[f"{question}_0_0"] == pytest.approx([-2.0] * 3)
        assert found[f"{question}_6_0"] == pytest.approx([3.0] * 6)
        assert found[f"{question}_1_0"] == pytest.approx([2.0] * 4)
        assert found[f"{question}_3_0"] == pytest.approx([-2.0] * 5)


def test_questions_are_groups_of_their_own_and_one_that_earns_the_same_everywhere_teaches_nothing(
    queue: Any, trainer: Any
) -> None:
    same = {0: [2.5, 2.5, 2.5, 2.5], 1: [0.0, 0.0, 0.0, 0.0]}
    one, other = put(queue, "one", REWARDS), put(queue, "same", same)
    batch = joined(one, other)
    trainer._compute_advantage(batch, {})
    found = advantages(queue, batch)
    assert_advantages({key: found[key] for key in one.keys}, expected("one", REWARDS, by_deviation=True))
    for key in other.keys:
        assert found[key] == [0.0] * len(found[key])


def test_an_episode_that_failed_in_the_second_stage_leaves_the_rest_as_it_is(queue: Any, trainer: Any) -> None:
    # Rollout 1 has no second row: the others' second stage is a group of three, 4, 2 and 2.
    whole = put(queue, "whole", REWARDS)
    part = put(queue, "part", {0: REWARDS[0], 1: [4.0, None, 2.0, 2.0]})
    batch = joined(whole, part)
    trainer._compute_advantage(batch, {})
    found = advantages(queue, batch)
    assert_advantages({key: found[key] for key in whole.keys}, expected("whole", REWARDS, by_deviation=True))
    first = expected("part", {0: REWARDS[0]}, by_deviation=True)
    deviation = math.sqrt(4 / 3) + EPSILON
    second = {
        key: (reward - 8 / 3) / deviation
        for key, reward in zip(("part_1_0", "part_5_0", "part_7_0"), (4, 2, 2), strict=True)
    }
    assert_advantages({key: found[key] for key in part.keys}, first | second)


@pytest.mark.parametrize(("trainer", "by_deviation"), [(True, True), (False, False)], indirect=["trainer"])
def test_an_episode_that_is_alone_in_its_group_teaches_nothing(queue: Any, trainer: Any, by_deviation: bool) -> None:
    # The others failed: there is nothing that its reward could be compared with.
    whole = put(queue, f"beside{by_deviation}", REWARDS)
    lone = put(queue, f"lone{by_deviation}", {0: REWARDS[0], 1: [None, None, 2.0, None]})
    batch = joined(whole, lone)
    trainer._compute_advantage(batch, {})
    found = advantages(queue, batch)
    assert found.pop(f"lone{by_deviation}_5_0") == [0.0] * 6
    first = expected(f"lone{by_deviation}", {0: REWARDS[0]}, by_deviation)
    assert_advantages(found, expected(f"beside{by_deviation}", REWARDS, by_deviation) | first)
    returns = queue.kv_batch_get(keys=lone.keys, partition_id=lone.partition_id, select_fields=["returns"])["returns"]
    assert [values.sum().item() for key, values in zip(lone.keys, returns.unbind(), strict=True) if "_5_" in key] == [0]


def test_a_step_in_which_no_episode_reached_the_second_stage_still_counts(queue: Any, trainer: Any) -> None:
    batch = put(queue, "short", {0: REWARDS[0]})
    done = trainer._compute_advantage(batch, {})
    assert sorted(done.keys) == sorted(batch.keys)
    assert_advantages(advantages(queue, batch), expected("short", {0: REWARDS[0]}, by_deviation=True))


def test_rows_that_fill_a_batch_up_are_copies_that_teach_nothing(queue: Any) -> None:
    from transfer_queue import KVBatchMeta
    from verl.utils.tensordict_utils import list_of_dict_to_tensordict

    from verl_socio.engine.filling import fill_up
    from verl_socio.engine.rows import plain

    pictures = {"pixel_values": torch.arange(6.0).reshape(3, 2), "image_grid_thw": torch.tensor([[1, 1, 3]])}
    rows = [{**row("seen", 2.0, length), "multi_modal_inputs": pictures, "session_id": 7} for length in (5, 3, 4)]
    keys, tags = [f"seen_{index}_0" for index in range(3)], [{"seq_len": length} for length in (8, 6, 7)]
    queue.kv_batch_put(keys=keys, partition_id="fill", tags=tags, fields=list_of_dict_to_tensordict(rows))
    batch = KVBatchMeta(keys=keys, tags=tags, partition_id="fill")
    assert fill_up(batch, 3) is batch
    filled = fill_up(batch, 5)
    assert filled.keys[:3] == keys and len(set(filled.keys)) == 5
    assert filled.tags[:3] == tags and filled.tags[3:] == [{"seq_len": 6, "is_padding": True}] * 2
    data = queue.kv_batch_get(keys=filled.keys[3:], partition_id="fill")
    (question,) = set(plain(data["uid"]))
    assert all(key.startswith(f"{question}_") for key in filled.keys[3:]) and question != "seen"
    for index in range(2):
        assert data["responses"][index].tolist() == [0, 1, 2], "the shortest row's"
        assert not data["response_mask"][index].any() and not data["rm_scores"][index].any()
        assert torch.equal(plain(data["multi_modal_inputs"])[index]["pixel_values"], pictures["pixel_values"])


def test_padding_rows_change_no_advantage(queue: Any, trainer: Any) -> None:
    """They have a group of their own, in the stage they were made for."""
    from verl_socio.engine.filling import fill_up
    from verl_socio.engine.rows import split_by_stage

    part = put(queue, "padded", {0: REWARDS[0], 1: [4.0, None, 2.0, 2.0]})
    first, second = split_by_stage(part, 2)
    padded = fill_up(second, 4)
    assert len(padded) == 4
    batch = joined(first, padded)
    done = trainer._compute_advantage(batch, {})
    assert len(done) == 8
    assert [len(each) for each in split_by_stage(done, 2)] == [4, 4], "the padding stays in its stage"
    found = advantages(queue, batch)
    deviation = math.sqrt(4 / 3) + EPSILON
    assert found["padded_1_0"] == pytest.approx([(4 - 8 / 3) / deviation] * 4, abs=1e-6)
    assert found["padded_0_0"] == pytest.approx([-2 / (DEVIATIONS[0] + EPSILON)] * 3, abs=1e-6)
    (padding,) = (key for key in padded.keys if key.startswith("pad") and key not in part.keys)
    assert set(found[padding]) == {0.0}
