"""verl's supervised trainer with the project's rows and checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, open_dict
from torch.utils.data import DataLoader
from verl.trainer.sft_trainer import SFTTrainer
from verl.utils.checkpoint import CheckpointHandler
from verl.utils.device import auto_set_device
from verl.utils.distributed import destroy_global_process_group, initialize_global_process_group

from verl_socio.checkpoints import check_disk, keep_newest, make_room, mark_whole, newest_whole, unmark
from verl_socio.engine.cpu import is_cpu_build, join_gloo_group


def fit(config: DictConfig) -> None:
    """Train until the configured step, as one rank of the processes that the environment describes."""
    auto_set_device(config)
    if is_cpu_build():
        join_gloo_group()
    else:
        initialize_global_process_group()
    SupervisedTrainer(config).fit()
    destroy_global_process_group()


class SupervisedTrainer(SFTTrainer):
    """verl's trainer; the loss is the mean over all answer tokens of a step."""

    def _build_dataset(self) -> None:
        # verl hands its data set class nothing but this section: what an episode needs travels in it.
        with open_dict(self.config.data):
            self.config.data.episode = {name: self.config[name] for name in ("recipe", "segmenter", "frame")}
        super()._build_dataset()

    def _build_dataloader(self) -> None:
        super()._build_dataloader()
        self.train_sampler.seed = self.config.data.seed
        # verl drops the last batch, and with it the whole of a small validation set.
        self.val_dataloader = DataLoader(
            dataset=self.val_dataset,
            batch_size=self.train_batch_size_per_dp,
            sampler=self.val_sampler,
            collate_fn=self.collate_fn,
            num_workers=self.config.data.num_workers,
        )

    def _build_ckpt_handler(self) -> None:
        self.ckpt_handler = WholeCheckpoints(
            engine=self.engine,
            train_dataloader=self.train_dataloader,
            default_local_dir=self.config.trainer.default_local_dir,
            max_ckpt_to_keep=self.config.trainer.max_ckpt_to_keep,
            resume_mode=self.config.trainer.resume_mode,
            resume_from_path=self.config.trainer.resume_from_path,
            lora_train_meta=self._get_lora_train_meta(),
        )


class WholeCheckpoints(CheckpointHandler):
    """Checkpoints as reinforcement learning writes them, so that a run goes on and is merged in the same way.

    <run>/checkpoints/global_step_<N>/{actor/..., data_<rank>.pt, complete.json}
    """

    def save_checkpoint(self, step: int) -> None:
        """Write a checkpoint and mark it when every rank's part is there."""
        folder = Path(self.default_local_dir) / f"global_step_{step}"
        if self.rank == 0:
            make_room(folder.parent, self.max_ckpt_to_keep)
        torch.distributed.barrier()
        check_disk(folder.parent)
        unmark(folder)
        actor = folder / "actor"
        self.engine.save_checkpoint(str(actor), global_step=step, max_ckpt_to_keep=self.max_ckpt_to_keep)
        torch.save(self.train_dataloader.state_dict(), folder / f"data_{self.rank}.pt")
        if self.rank == 0 and self.lora_train_meta is not None:
            (actor / "lora_train_meta.json").write_text(json.dumps(self.lora_train_meta), encoding="utf-8")
        torch.distributed.barrier()
        if self.rank == 0:
            mark_whole(folder)
            keep_newest(folder.parent, self.max_ckpt_to_keep)
        torch.distributed.barrier()

    def _determine_resume_path(self) -> str | None:
        # verl's own marker does not tell whether the checkpoint that it names was written to its end.
        if self.resume_mode == "auto" and self.resume_from_path is None:
            step = newest_whole(Path(self.default_local_dir))
        else:
            given = super()._determine_resume_path()
            step = None if given is None else Path(given)
        return None if step is None else str(step / "actor")

    def _load_dataloader_state(self, checkpoint_path: str) -> None:
        state: dict[str, Any] = torch.load(
            Path(checkpoint_path).parent / f"data_{self.rank}.pt", map_location="cpu", weights_only=False
        )
        # At the end of an epoch verl itself begins the next one: a state of the last would make it skip one.
        if self.resume_global_step % len(self.train_dataloader):
            self.train_dataloader.load_state_dict(state)
