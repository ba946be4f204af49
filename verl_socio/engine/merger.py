"""verl's own model merger, called as a library."""

from pathlib import Path

from verl.model_merger.base_model_merger import ModelMergerConfig
from verl.model_merger.fsdp_model_merger import FSDPModelMerger


def write_merged(actor: Path, target: Path) -> None:
    """Join the FSDP shards of a checkpoint into a Hugging Face model folder, as `verl.model_merger` does.

    Args:
        actor: The checkpoint's `actor` folder: `model_world_size_<W>_rank_<R>.pt`, `fsdp_config.json`, `huggingface/`.
        target: Folder to write; weights are rounded to bfloat16. Of a LoRA checkpoint the base model is written, and
            beside it the adapter, not merged, in `lora_adapter/`.
    """
    config = ModelMergerConfig(
        operation="merge",
        backend="fsdp",
        local_dir=str(actor),
        target_dir=str(target),
        hf_model_config_path=str(actor / "huggingface"),
    )
    merger = FSDPModelMerger(config)
    merger.merge_and_save()
    merger.cleanup()
