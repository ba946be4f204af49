"""Rows that fill a batch up to a number that ranks can share: copies of a real row that teach nothing.

verl fills up with rows of text alone. Where such a row is alone in a micro-batch there is no picture in it, and verl
0.9.1 then fails in Qwen2.5-VL's image encoder, whose output is no plain tensor in transformers 5.
"""

from __future__ import annotations

import uuid
from typing import Any

import torch
import transfer_queue as tq
from transfer_queue import KVBatchMeta
from verl.utils.tensordict_utils import list_of_dict_to_tensordict

# With these at 0 no token of a row counts in a loss, a reward or a log-probability that is compared.
_SILENT = ("response_mask", "loss_mask", "rm_scores")


def fill_up(batch: KVBatchMeta, multiple: int) -> KVBatchMeta:
    """Add rows until the batch has a multiple of so many.

    Args:
        batch: At least one row; their tags tell `seq_len`.
        multiple: 1 or more.

    Returns:
        The batch, with copies of its shortest row behind its own. verl's own tag, `is_padding`, tells them apart, and
        as a question they have one of their own: they are in no group.
    """
    missing = -len(batch) % multiple
    if not missing:
        return batch
    shortest = min(range(len(batch)), key=lambda row: batch.tags[row]["seq_len"])
    source = tq.kv_batch_get(keys=[batch.keys[shortest]], partition_id=batch.partition_id)[0]
    question = f"pad{uuid.uuid4().hex}"
    row: dict[str, Any] = {key: source[key] for key in source.keys()}
    row |= {name: torch.zeros_like(row[name]) for name in _SILENT if name in row} | {"uid": question}
    keys = [f"{question}_{index}_0" for index in range(missing)]
    tags = [{**batch.tags[shortest], "is_padding": True} for _ in keys]
    rows = [{**row, "session_id": index} if "session_id" in row else row for index in range(missing)]
    tq.kv_batch_put(keys=keys, partition_id=batch.partition_id, fields=list_of_dict_to_tensordict(rows), tags=tags)
    return KVBatchMeta(
        keys=[*batch.keys, *keys],
        tags=[*batch.tags, *tags],
        partition_id=batch.partition_id,
        fields=batch.fields,
        extra_info=batch.extra_info,
    )
