"""From a checkpoint of sharded weights to a Hugging Face model folder, verified."""

import json
import logging
import os
import shutil
import tempfile
from pathlib import Path

import torch
from rich.console import Console

from verl_socio.errors import invalid
from verl_socio.torchvision_cpu import make_importable
from verl_socio.train.shards import Checkpoint, Lora, find_newest, open_checkpoint, steps_below

REPORT = "merge.json"

# The largest difference of log-probs (nats) between the written model and the checkpoint's own shards, both rounded to
# bfloat16 and computed in float32. It leaves room for another order of summation, not for a wrong weight.
TOLERANCE = 1e-4

_console = Console(stderr=True, soft_wrap=True)


def merge(local_dir: Path | None = None, target_dir: Path | None = None) -> Path:
    """Merge a checkpoint's shards into a Hugging Face model folder and compare it with the checkpoint.

    The shards are joined by verl's own merger, a LoRA adapter is merged into the base model; weights are bfloat16. The
    folder is written under another name beside the target and gets its name when it is whole and its log-probs on a
    sample of two images and a text are those of a model filled with the checkpoint's shards directly. What was compared
    is written to `merge.json` in the folder.

    Args:
        local_dir: A checkpoint's `actor` folder, its `global_step_<N>` folder, or any folder above checkpoints, of
            which the newest whole one is taken. None searches `outputs` below the working directory.
        target_dir: Folder to write, which must not exist; None writes `<run>/merged/global_step_<N>`.

    Returns:
        The folder written.

    Raises:
        ValueError: If there is no whole checkpoint, the target exists, or an adapter's scale is unknown.
        RuntimeError: If the written model does not agree with the checkpoint; nothing is left behind then.
        OSError: If the disk is full; nothing is left behind then either.
    """
    checkpoint = _locate(local_dir)
    target = Path(target_dir) if target_dir is not None else _default_target(checkpoint.actor)
    if target.exists():
        fix = "delete it, or give another target_dir"
        raise invalid("target_dir", str(target), "must not exist: a model is never overwritten", fix)
    _console.print(f"Merging {checkpoint.actor} (FSDP ranks: {checkpoint.world_size}, {_describe(checkpoint.lora)})")
    make_importable()
    # The shards' device meshes are read in one process without process groups, which torch warns of once a file.
    logging.getLogger("torch.distributed.device_mesh").setLevel(logging.ERROR)
    target.parent.mkdir(parents=True, exist_ok=True)
    workplace = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        model = _write(checkpoint, workplace)
        report = _verify(checkpoint, model)
        (model / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        os.rename(model, target)
    finally:
        shutil.rmtree(workplace)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    _console.print(
        f"Wrote {target} ({size / 1e6:.1f} MB, bfloat16). Log-probs of {report['tokens']} tokens with two images "
        f"differ from the checkpoint's by at most {report['max_abs_difference']:.1e} "
        f"(its weights unrounded: {report['max_abs_difference_unrounded']:.1e})."
    )
    return target


def _locate(local_dir: Path | None) -> Checkpoint:
    """Find the checkpoint a user means."""
    if local_dir is None:
        return find_newest(Path("outputs"))
    folder = Path(local_dir)
    if (folder / "actor").is_dir():
        return open_checkpoint(folder / "actor")
    if not (folder / "fsdp_config.json").is_file() and steps_below(folder):
        return find_newest(folder)
    return open_checkpoint(folder)


def _default_target(actor: Path) -> Path:
    """`<run>/merged/global_step_<N>` for `<run>/checkpoints/global_step_<N>/actor`."""
    step = actor.resolve().parent
    return step.parent.parent / "merged" / step.name


def _describe(lora: Lora | None) -> str:
    return "all weights" if lora is None else f"LoRA of rank {lora.rank}, alpha {lora.alpha:g}"


def _write(checkpoint: Checkpoint, workplace: Path) -> Path:
    """Write the merged model below `workplace`.

    Returns:
        The model's folder.
    """
    from verl_socio.engine.merger import write_merged

    _check_names(checkpoint)
    model = workplace / "model"
    write_merged(checkpoint.actor, model)
    if checkpoint.lora is not None:
        base = model.rename(workplace / "base")
        _merge_adapter(base, model, checkpoint.lora)
    # The tokenizer, the processor and the chat template are the training run's own files, byte by byte.
    for path in checkpoint.config.iterdir():
        if path.is_file() and not path.name.startswith(_REWRITTEN) and path.suffix not in (".safetensors", ".bin"):
            shutil.copyfile(path, model / path.name)
    return model


# Written by the merge itself: the data type of the weights stands in the first, the shards' names in the second.
_REWRITTEN = ("config.json", "model.safetensors", "pytorch_model.bin")


def _check_names(checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint whose weights and `lora_train_meta.json` contradict each other."""
    names = torch.load(checkpoint.shard(0), map_location="cpu", mmap=True, weights_only=False).keys()
    adapter = [name for name in names if "lora_" in name]
    if adapter and checkpoint.lora is None:
        rule = "must exist: the checkpoint holds a LoRA adapter and its scale is unknown"
        fix = 'write {"r": RANK, "lora_alpha": ALPHA} there with the run\'s lora_rank and lora_alpha'
        raise invalid("checkpoint", str(checkpoint.actor / "lora_train_meta.json"), rule, fix)
    if adapter and len(adapter) == len(names):
        rule = "holds the LoRA adapter alone, the base model's weights are not in it"
        fix = "train with save_lora_only=False, which is the default"
        raise invalid("checkpoint", str(checkpoint.actor), rule, fix)


def _merge_adapter(base: Path, target: Path, lora: Lora) -> None:
    """Merge the adapter in `base/lora_adapter` into the model in `base` and write the result to `target`.

    verl's `adapter_config.json` is not used: it names modules by their last part only ("0" in a sequence), which can
    match modules that were never adapted.
    """
    from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
    from safetensors.torch import load_file
    from transformers import AutoModelForImageTextToText

    weights = load_file(base / "lora_adapter" / "adapter_model.safetensors")
    modules = sorted({name.removeprefix("base_model.model.").partition(".lora_")[0] for name in weights})
    model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    adapted = get_peft_model(model, LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=modules))
    result = set_peft_model_state_dict(adapted, weights)
    left_out = [name for name in result.missing_keys if "lora_" in name]
    assert not left_out and not result.unexpected_keys, f"adapter weights without a place: {left_out}, {result}"
    merged = adapted.merge_and_unload(safe_merge=True)
    merged.to(torch.bfloat16).save_pretrained(target)


def _verify(checkpoint: Checkpoint, model: Path) -> dict[str, object]:
    """Compare the written model's log-probs with the checkpoint's.

    Returns:
        What was compared, for `merge.json`.
    """
    from verl_socio.train.merge_check import compare

    tokens, difference, unrounded = compare(checkpoint, model)
    if not difference <= TOLERANCE:  # also catches NaN
        raise RuntimeError(
            f"The model merged from {checkpoint.actor} is not the checkpoint's: log-probs differ by {difference:.2e}, "
            f"allowed is {TOLERANCE:.0e} (rounding to bfloat16 taken out). It was not kept."
        )
    return {
        "checkpoint": str(checkpoint.actor.resolve()),
        "world_size": checkpoint.world_size,
        "lora": None if checkpoint.lora is None else {"rank": checkpoint.lora.rank, "alpha": checkpoint.lora.alpha},
        "dtype": "bfloat16",
        "tokens": tokens,
        "max_abs_difference": difference,
        "max_abs_difference_unrounded": unrounded,
    }
