"""The synchronous trainer that treats each stage of an episode as a batch of its own."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
import transfer_queue as tq
from omegaconf import OmegaConf, open_dict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.utils import Role
from verl.trainer.ppo.v1 import PPOTrainerSync, register_trainer
from verl.utils import tensordict_utils as tu

from verl_socio.checkpoints import check_disk, keep_newest, make_room, mark_whole, newest_whole, unmark
from verl_socio.engine.actor import HybridWorker
from verl_socio.engine.filling import fill_up
from verl_socio.engine.metrics import agreement, stage_metrics
from verl_socio.engine.rows import alone, join, plain, rollout_of, split_by_stage
from verl_socio.recipes import Recipe
from verl_socio.segment.pool import SegmenterPool

logger = logging.getLogger(__name__)


@register_trainer("episode")
class EpisodeTrainer(PPOTrainerSync):
    """GRPO over episodes (SocioReasoner, arXiv 2601.10477, section 4.3).

    Every stage keeps its own rewards; a row's advantage is taken within (question, stage); rows of stage 1 update the
    policy first, then rows of stage 2. Each of verl's own steps is called once a stage, on that stage's rows.
    """

    def __init__(self, config: Any) -> None:
        self._recipe = Recipe.from_config(OmegaConf.to_container(config.recipe, resolve=True))
        self._limit_s = float(config.trainer.weight_update_timeout_s)
        self._segmenters = SegmenterPool.find()
        super().__init__(config)
        # verl looks every 2 s whether the rollouts are done, which is most of a small step.
        self.replay_buffer.poll_interval = config.trainer.poll_interval_s

    @property
    def trainer_mode(self) -> str:
        """Verl keys a synchronous trainer's behaviour on this name; "episode" is only the name it is registered by."""
        return "sync"

    @trainer_mode.setter
    def trainer_mode(self, value: str) -> None:
        pass

    @property
    def _num_stages(self) -> int:
        return len(self._recipe.stages)

    def _init_resource_pool_mgr(self) -> None:
        super()._init_resource_pool_mgr()
        for role in (Role.ActorRollout, Role.ActorRolloutRef):
            if role in self.role_worker_mapping:
                self.role_worker_mapping[role] = ray.remote(HybridWorker)

    def _init_dataloader(self) -> None:
        super()._init_dataloader()
        # verl moves the learning-rate schedule once an update, and each stage is an update.
        optim = self.config.actor_rollout_ref.actor.optim
        with open_dict(optim):
            optim.total_training_steps *= self._num_stages
            if optim.lr_warmup_steps > 0:
                optim.lr_warmup_steps *= self._num_stages

    # --- one step --------------------------------------------------------------------------------------------------

    def _balance_batch(self, batch: KVBatchMeta, metrics: dict[str, Any], **kwargs: Any) -> KVBatchMeta:
        self._check_rollouts(metrics)
        metrics.update(self._segmenter_metrics(batch))
        multiple = self._get_required_batch_multiple(self._num_shares())
        parts = [fill_up(part, multiple) for part in split_by_stage(batch, self._num_stages)]
        assert parts, "verl's replay buffer refuses an empty batch"
        return join([super(EpisodeTrainer, self)._balance_batch(part, metrics, **kwargs) for part in parts])

    def _num_shares(self) -> int:
        """How many shares the ranks cut a batch into; asked once and kept where verl keeps it."""
        workers = self.actor_rollout_wg
        shares = workers._dispatch_info.get("actor") or workers._query_dispatch_info("actor")
        workers._dispatch_info["actor"] = shares
        return int(max(shares)) + 1

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        batch = super()._compute_old_log_prob(batch, metrics)
        fields = ["rollout_log_probs", "old_log_probs", "response_mask"]
        for stage, part in zip(self._recipe.stages, split_by_stage(batch, self._num_stages), strict=False):
            data = tq.kv_batch_get(
                keys=part.keys, partition_id=part.partition_id, select_fields=fields
            ).to_padded_tensor()
            values = agreement(data["rollout_log_probs"], data["old_log_probs"], data["response_mask"])
            metrics.update({f"{stage.name}/agreement/{name}": value for name, value in values.items()})
            self._check_agreement(stage.name, values)
        return batch

    def _check_agreement(self, stage: str, values: dict[str, float]) -> None:
        floor = self.config.trainer.min_agreement
        if values["pearson"] < floor:
            raise RuntimeError(
                f"stage {stage}: vLLM's and the actor's log-probabilities correlate by {values['pearson']:.5f}, below "
                f"trainer.min_agreement = {floor:g} (mean difference {values['mean_diff']:.2g} nats): they do not have "
                "the same weights, or do not see the same images, or the policy fell to pieces and wants to write the "
                "placeholders of images, which verl lets vLLM never draw (then lower actor.optim.lr)"
            )

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        parts = split_by_stage(batch, self._num_stages)
        done = [super(EpisodeTrainer, self)._compute_advantage(part, metrics) for part in parts]
        if self.config.algorithm.adv_estimator == "grpo":
            for part in parts:
                self._teach_nothing(part.partition_id, alone(part))
        return join(done)

    def _teach_nothing(self, partition: str, keys: list[str]) -> None:
        # verl takes the reward of a row that is alone in its group, as where the others failed, for its advantage.
        if keys:
            given = tq.kv_batch_get(keys, partition, select_fields=["advantages", "returns"])
            tq.kv_batch_put(keys, partition, fields=given.apply(torch.zeros_like))

    def _update_actor(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        parts = []
        for stage, part in zip(self._recipe.stages, split_by_stage(batch, self._num_stages), strict=False):
            of_stage: dict[str, Any] = {}
            parts.append(super()._update_actor(part, of_stage))
            metrics.update({f"{stage.name}/{name}": value for name, value in of_stage.items()})
        return join(parts)

    def on_init_end(self) -> None:
        """Send the first weights to vLLM."""
        self._within_limit(super().on_init_end)

    def on_step_end(self) -> None:
        """Send the step's weights to vLLM."""
        self._within_limit(super().on_step_end)

    def _within_limit(self, send_weights: Callable[[], None]) -> None:
        # A worker that dies while it receives leaves verl waiting for ever.
        executor = ThreadPoolExecutor(1, thread_name_prefix="send-weights")
        try:
            executor.submit(send_weights).result(timeout=self._limit_s)
        except TimeoutError as error:
            message = f"vLLM did not take the new weights within {self._limit_s:g} s (trainer.weight_update_timeout_s)"
            raise RuntimeError(message) from error
        finally:
            executor.shutdown(wait=False)

    # --- checkpoints -----------------------------------------------------------------------------------------------

    def _load_checkpoint(self) -> None:
        # verl's own marker is written in place: a process killed meanwhile leaves it empty.
        newest = newest_whole(Path(self.config.trainer.default_local_dir))
        if self.config.trainer.resume_mode == "auto":
            self.config.trainer.resume_mode = "disable" if newest is None else "resume_path"
            self.config.trainer.resume_from_path = str(newest)
        super()._load_checkpoint()

    def _save_checkpoint(self) -> None:
        folder, count = Path(self.config.trainer.default_local_dir), self.config.trainer.max_actor_ckpt_to_keep
        checkpoint = folder / f"global_step_{self.global_steps}"
        make_room(folder, count)
        check_disk(folder)
        unmark(checkpoint)
        super()._save_checkpoint()
        mark_whole(checkpoint)
        keep_newest(folder, count)

    # --- what is reported ------------------------------------------------------------------------------------------

    def _step_once(self, metrics: dict[str, Any], *args: Any, **kwargs: Any) -> KVBatchMeta:
        try:
            return super()._step_once(metrics, *args, **kwargs)
        except RuntimeError:
            # When no rollout gave a row, verl says so; the workers know why.
            self._check_rollouts(metrics)
            raise

    def _check_rollouts(self, metrics: dict[str, Any]) -> None:
        """Ask the workers what happened.

        Raises:
            RuntimeError: A rollout failed for another reason than the segmenter, or the segmenter failed too often.
        """
        report = self.agent_loop_manager.take_report()
        if report.errors:
            count = len(report.errors)
            raise RuntimeError(f"{count} rollouts of step {self.global_steps} failed; the first:\n{report.errors[0]}")
        failures, allowed = report.failures, self.config.trainer.max_segmenter_failures
        if failures and (len(failures) > allowed * report.episodes or len(failures) == report.episodes):
            raise RuntimeError(
                f"the segmenter failed in {len(failures)} of {report.episodes} episodes of step {self.global_steps}, "
                f"of which trainer.max_segmenter_failures = {allowed:g} may fail; the first: {failures[0]}"
            )
        metrics.update({"episodes/count": report.episodes, "episodes/segmenter_failures": len(failures)})
        for reason in dict.fromkeys(failures):
            logger.warning("episode left out: %s", reason)

    def _compute_metrics(self, batch: KVBatchMeta, metrics: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        super()._compute_metrics(batch, metrics, *args, **kwargs)
        for name, (records, questions) in self._records(batch).items():
            metrics.update(stage_metrics(name, records, questions))

    def _records(self, batch: KVBatchMeta) -> dict[str, tuple[list[dict[str, Any]], list[str]]]:
        """What the rows of each stage earned, and the question of each; stages without rows are left out."""
        found = {}
        for stage, part in zip(self._recipe.stages, split_by_stage(batch, self._num_stages), strict=False):
            rows = [key for key, tag in zip(part.keys, part.tags, strict=True) if not tag.get("is_padding", False)]
            data = tq.kv_batch_get(keys=rows, partition_id=part.partition_id, select_fields=["uid", "extra_fields"])
            records = [fields["reward_extra_info"] for fields in plain(data["extra_fields"])]
            found[stage.name] = records, plain(data["uid"])
        return found

    def _segmenter_metrics(self, batch: KVBatchMeta) -> dict[str, float]:
        """What the segmenters did for this step's rollouts, with the image encodes for each distinct image."""
        counters = asdict(asyncio.run(self._segmenters.counters(reset=True)))
        rows = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=["sample"])
        images = {sample["satellite"] for sample in plain(rows["sample"])}
        counters["encodes_per_image"] = counters["encodes"] / len(images)
        return {f"segmenter/{name}": value for name, value in counters.items()}

    def _log_rollout_data(self, batch: KVBatchMeta, timing_raw: dict[str, float], rollout_data_dir: str) -> None:
        """Write what every rollout answered and earned: `<rollout_data_dir>/step_<N>.jsonl`, a line a row."""
        lines = []
        for stage, part in zip(self._recipe.stages, split_by_stage(batch, self._num_stages), strict=False):
            keys = [key for key, tag in zip(part.keys, part.tags, strict=True) if not tag.get("is_padding", False)]
            data = tq.kv_batch_get(keys, part.partition_id, select_fields=["sample", "responses", "extra_fields"])
            columns = (plain(data["sample"]), data["responses"].unbind(), plain(data["extra_fields"]))
            for key, sample, tokens, extra in zip(keys, *columns, strict=True):
                rollout = rollout_of(key, self._num_stages)
                text = self.tokenizer.decode(tokens, skip_special_tokens=True)
                about = {"id": sample["id"], "question": sample["question"], "rollout": rollout, "stage": stage.name}
                lines.append({**about, "text": text, **extra["reward_extra_info"]})
        lines.sort(key=lambda line: (line["id"], line["rollout"]))
        path = Path(rollout_data_dir) / f"step_{self.global_steps}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")

    # --- validation ------------------------------------------------------------------------------------------------

    def _validate(self) -> dict[str, float]:
        """Ask the questions of the validation set, and report every stage as in training.

        verl's own validation keeps only the last output of a session and knows no masks.
        """
        partition = "val"
        earned: dict[str, tuple[list[dict[str, Any]], list[str]]] = {}
        for rows in self.val_dataloader:
            rows["uid"] = np.array([str(uuid.uuid4()) for _ in rows["raw_prompt"]], dtype=object)
            batch = tu.get_tensordict(rows)
            tu.assign_non_tensor_data(batch, "global_steps", self.global_steps)
            tu.assign_non_tensor_data(batch, "validate", True)
            tags = [{"is_prompt": True, "status": "pending", "global_steps": self.global_steps} for _ in batch["uid"]]
            tq.kv_batch_put(keys=list(batch["uid"]), partition_id=partition, tags=tags)
            self.agent_loop_manager.generate_sequences(batch)
            done, _ = self.replay_buffer.sample(self.global_steps, partition, batch_size=len(batch))
            for name, (records, questions) in self._records(done).items():
                all_records, all_questions = earned.setdefault(name, ([], []))
                all_records += records
                all_questions += questions
            # Batch by batch: the rows hold the features of their images, which nobody reads here.
            tq.kv_clear(keys=done.keys, partition_id=partition)
        rollouts: dict[str, float] = {}
        self._check_rollouts(rollouts)
        asyncio.run(self._segmenters.counters(reset=True))  # what validation asked for is no part of a step
        metrics = {f"val/{name}": value for name, value in rollouts.items()}
        for name, (records, questions) in earned.items():
            metrics |= stage_metrics(f"val/{name}", records, questions)
        return metrics
