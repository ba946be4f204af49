import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensordict import TensorDict
from transfer_queue import KVBatchMeta

from verl_socio.engine.rows import STAGE_TAG, alone, join, plain, rollout_of, session_of, split_by_stage, stage_of


def batch_of(keys: list[str], tags: list[dict] | None = None) -> KVBatchMeta:
    tags = tags or [{"seq_len": number} for number, _ in enumerate(keys)]
    return KVBatchMeta(keys=keys, tags=tags, partition_id="train", fields=["uid"], extra_info={"temperature": 1.0})


def test_two_rollouts_of_two_stages_are_numbered_as_documented() -> None:
    sessions = {(rollout, stage): session_of(rollout, stage, 2) for rollout in range(2) for stage in range(2)}
    assert sessions == {(0, 0): 0, (0, 1): 1, (1, 0): 2, (1, 1): 3}


@given(
    rollout=st.integers(0, 1000),
    num_stages=st.integers(1, 5),
    question=st.text(alphabet="ab_-0", min_size=1),
    data=st.data(),
)
def test_a_key_tells_its_rollout_and_stage(rollout: int, num_stages: int, question: str, data: st.DataObject) -> None:
    stage = data.draw(st.integers(0, num_stages - 1))
    key = f"{question}_{session_of(rollout, stage, num_stages)}_0"
    assert rollout_of(key, num_stages) == rollout
    assert stage_of(key, {}, num_stages) == stage


def test_a_padding_row_is_of_the_stage_it_carries_as_a_tag() -> None:
    # Padding rows are numbered from 0: by its number alone, this one would be of stage 0.
    assert stage_of("pad123_0_0", {STAGE_TAG: 1}, 2) == 1


def test_a_row_is_alone_where_its_question_has_no_other() -> None:
    assert alone(batch_of(["q_1_0", "a_b_0_0", "q_0_0", "a_2_0", "pad123_0_0"])) == ["a_b_0_0", "a_2_0", "pad123_0_0"]
    assert alone(batch_of(["q_1_0", "q_0_0"])) == []


def test_a_batch_is_cut_by_stage_in_order() -> None:
    batch = batch_of(["q_3_0", "q_0_0", "r_1_0", "q_2_0"])
    first, second = split_by_stage(batch, 2)
    assert first.keys == ["q_0_0", "q_2_0"]
    assert second.keys == ["q_3_0", "r_1_0"]
    assert [tag["seq_len"] for tag in first.tags + second.tags] == [1, 3, 0, 2]
    assert {tag[STAGE_TAG] for tag in first.tags} == {0}
    assert {tag[STAGE_TAG] for tag in second.tags} == {1}
    assert (second.partition_id, second.fields, second.extra_info) == ("train", ["uid"], {"temperature": 1.0})


def test_a_stage_without_rows_is_left_out() -> None:
    parts = split_by_stage(batch_of(["q_0_0", "q_3_0"]), 3)
    assert [part.keys for part in parts] == [["q_0_0", "q_3_0"]]
    assert split_by_stage(batch_of([]), 2) == []


@given(st.permutations([f"{question}_{session}_0" for question in "ab" for session in range(6)]), st.integers(1, 3))
def test_cutting_and_joining_keeps_every_row_once(keys: list[str], num_stages: int) -> None:
    joined = join(split_by_stage(batch_of(keys), num_stages))
    assert sorted(joined.keys) == sorted(keys)
    assert [keys[tag["seq_len"]] for tag in joined.tags] == joined.keys, "tags stay with their rows"
    stages = [stage_of(key, {}, num_stages) for key in joined.keys]
    assert stages == sorted(stages)


def test_the_parts_of_a_batch_share_nothing() -> None:
    first, second = split_by_stage(batch_of(["q_0_0", "q_1_0"]), 2)
    first.extra_info["temperature"] = 0.0
    assert second.extra_info == {"temperature": 1.0}


@pytest.mark.parametrize("values", [["a", "b"], [{"x": 1}, {"x": 2}], [{}, {"y": [1, 2]}]])
def test_columns_without_tensors_come_back_plain(values: list[object]) -> None:
    from tensordict.tensorclass import NonTensorData, NonTensorStack

    stacked = NonTensorStack(*(NonTensorData(value) for value in values))
    assert plain(TensorDict({"column": stacked}, batch_size=[len(values)])["column"]) == values
    assert plain(values) == values
