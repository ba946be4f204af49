"""How the rows of one training step are told apart: which stage of which rollout of which question.

verl names a row `<question>_<session>_<output>`. An episode with S stages takes S sessions, one a stage: verl then
keeps each row's own reward (of several outputs of one session it keeps the last reward only), and with rows of one
stage at a time its group of a question is the group of (question, stage).

Two rollouts (n = 2) of one question `q` in a recipe of two stages give
    q_0_0  rollout 0, stage 0        q_2_0  rollout 1, stage 0
    q_1_0  rollout 0, stage 1        q_3_0  rollout 1, stage 1
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from transfer_queue import KVBatchMeta

STAGE_TAG = "stage"


def session_of(rollout: int, stage: int, num_stages: int) -> int:
    """The session number of one stage of one rollout."""
    return rollout * num_stages + stage


def rollout_of(key: str, num_stages: int) -> int:
    """The rollout of a row."""
    return int(key.rsplit("_", 2)[1]) // num_stages


def stage_of(key: str, tag: dict[str, Any], num_stages: int) -> int:
    """The stage of a row. Rows that fill a batch up carry it as a tag, copied from the row they were made from."""
    if STAGE_TAG in tag:
        return int(tag[STAGE_TAG])
    return int(key.rsplit("_", 2)[1]) % num_stages


def split_by_stage(batch: KVBatchMeta, num_stages: int) -> list[KVBatchMeta]:
    """Cut a batch into one batch a stage, in the order of the stages; stages without rows are left out."""
    stages = [stage_of(key, tag, num_stages) for key, tag in zip(batch.keys, batch.tags, strict=True)]
    parts = []
    for stage in range(num_stages):
        rows = [row for row, of in enumerate(stages) if of == stage]
        if rows:
            parts.append(
                KVBatchMeta(
                    keys=[batch.keys[row] for row in rows],
                    tags=[{**batch.tags[row], STAGE_TAG: stage} for row in rows],
                    partition_id=batch.partition_id,
                    fields=batch.fields,
                    extra_info=dict(batch.extra_info),
                )
            )
    return parts


def alone(batch: KVBatchMeta) -> list[str]:
    """The keys of rows whose question has no other row in a batch of one stage."""
    questions = [key.rsplit("_", 2)[0] for key in batch.keys]
    counts = Counter(questions)
    return [key for key, question in zip(batch.keys, questions, strict=True) if counts[question] == 1]


def join(parts: list[KVBatchMeta]) -> KVBatchMeta:
    """Put batches together again, stage after stage."""
    return KVBatchMeta(
        keys=[key for part in parts for key in part.keys],
        tags=[tag for part in parts for tag in part.tags],
        partition_id=parts[0].partition_id,
        fields=parts[0].fields,
        extra_info=dict(parts[0].extra_info),
    )


def plain(column: Iterable[Any]) -> list[Any]:
    """The values of a column that holds no tensors: TransferQueue wraps them in one of several list types."""
    return [getattr(value, "data", value) for value in column]
