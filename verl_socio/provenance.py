"""What a result came from: hashes of weights and of the code, versions of packages, the kind of device."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import torch

import verl_socio
from verl_socio.errors import invalid
from verl_socio.segment import EMBEDDED, SegmenterConfig, locate


def device_name() -> str:
    """The GPU's name, or "cpu"."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """Versions of those packages that are installed."""
    installed = {found.name.lower().replace("_", "-"): found.version for found in metadata.distributions()}
    return {name: installed[name] for name in packages if name in installed}


def code_hash(without: Collection[str]) -> str:
    """Hash the package's own sources: between two releases the version says nothing.

    Args:
        without: Files and folders right below the package that are left out.
    """
    root = Path(verl_socio.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        place = path.relative_to(root)
        if place.parts[0] not in without:
            digest.update(f"{place} {file_hash(path)}\n".encode())
    return digest.hexdigest()


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
        ValueError: There are no such weights, the Hub does not give them, or the embedded ones are not there.
    """
    source = locate(config)
    if source is not None:
        checkpoint = source.checkpoint if source.hub is None else _download(*source.hub)
        assert checkpoint is not None
        return f"{file_hash(checkpoint)} {file_hash(source.model_yaml)}"
    if config.weights == EMBEDDED:
        from verl_socio.embedded import sam2
        from verl_socio.segment.loader import embedded_source

        embedded = embedded_source()
        assert embedded.checkpoint is not None
        # Its class is no part of the sam2 package. Results are compared by this hash: any change of the file ends that.
        files = (embedded.checkpoint, embedded.model_yaml, Path(sam2.__file__))
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
