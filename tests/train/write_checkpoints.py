"""Write real checkpoints with verl's FSDP2 and its checkpoint manager on the CPU: `python write_checkpoints.py FOLDER`.

For 1 and 2 ranks, with and without LoRA: `FOLDER/<full|lora><ranks>/checkpoints/global_step_3/actor`; and what was
sharded, before it was: `FOLDER/model` (all weights) and `FOLDER/merged.pt` (the LoRA model's weights, merged by peft).
"""

import copy
import sys
from pathlib import Path

import torch
import torch.distributed
import torch.multiprocessing
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy

from verl_socio.checkpoints import mark_whole
from verl_socio.torchvision_cpu import make_importable

make_importable()

import transformers  # noqa: E402
from peft import LoraConfig, TaskType, get_peft_model  # noqa: E402
from verl.utils.checkpoint.fsdp_checkpoint_manager import FSDPCheckpointManager  # noqa: E402
from verl.utils.fsdp_utils import apply_fsdp2  # noqa: E402

from verl_socio.embedded.qwen2_5_vl import build  # noqa: E402

STEP = 3


def write(rank: int, world_size: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous{world_size}", rank=rank, world_size=world_size
    )
    mesh = init_device_mesh("cpu", (world_size,), mesh_dim_names=("fsdp",))
    for kind in ("full", "lora"):
        model = transformers.AutoModelForImageTextToText.from_pretrained(folder / "model")
        if kind == "lora":
            torch.manual_seed(1)
            lora = LoraConfig(task_type=TaskType.CAUSAL_LM, r=4, lora_alpha=6, target_modules="all-linear")
            model = get_peft_model(model, lora)
            for name, parameter in model.named_parameters():
                if "lora_B" in name:  # zero at the start of a training, which would hide a lost adapter
                    torch.nn.init.normal_(parameter, std=0.05)
            if world_size == 1:
                torch.save(copy.deepcopy(model).merge_and_unload().state_dict(), folder / "merged.pt")
        policy = MixedPrecisionPolicy(param_dtype=torch.float32, reduce_dtype=torch.float32)
        apply_fsdp2(model, {"mesh": mesh, "mp_policy": policy, "reshard_after_forward": True}, {})
        processor = transformers.AutoProcessor.from_pretrained(folder / "model")
        manager = FSDPCheckpointManager(
            model, processing_class=processor, checkpoint_config={"save_contents": ["model"], "load_contents": []}
        )
        step = folder / f"{kind}{world_size}" / "checkpoints" / f"global_step_{STEP}"
        manager.save_checkpoint(str(step / "actor"), global_step=STEP)
        if rank == 0:
            mark_whole(step)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    target = Path(sys.argv[1])
    build(target / "model")
    torch.multiprocessing.start_processes(write, (2, target), nprocs=2, start_method="fork")
    write(0, 1, target)
