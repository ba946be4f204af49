"""The project's samples as the data set class that verl loads (`data.custom_cls`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig
from torch.utils.data import Dataset

from verl_socio.data import load_samples
from verl_socio.data.sample import Sample
from verl_socio.engine.group import AGENT_NAME


def with_split(source: str, split: str) -> str:
    """Name a split of a source, as `SampleDataset` takes it.

    Verl tells the data set class which files to read, but not whether they are for training or for validation: where
    both are splits of one source, only the name itself can tell.

    Args:
        source: As for `load_samples`; a path is made absolute, since Ray's processes may run elsewhere.
        split: A split of it.

    Returns:
        `<source>#<split>`.
    """
    path = Path(source)
    return f"{path.resolve() if path.exists() else source}#{split}"


def samples_of(data_files: str | list[str] | ListConfig, max_samples: int) -> list[Sample]:
    """The samples of one split of a source, or of several, as `with_split` names them.

    Args:
        data_files: The names.
        max_samples: Keep only the first so many; -1 keeps all.
    """
    samples: list[Sample] = []
    for name in [data_files] if isinstance(data_files, str) else data_files:
        source, mark, split = name.rpartition("#")
        assert mark, f"{name} names no split"
        samples += load_samples(source, split)
    return samples if max_samples < 0 else samples[:max_samples]


class SampleDataset(Dataset):
    """Rows of strings: where a sample's images are and what is asked. Images are opened where they are used.

    Args:
        data_files: One split of a source, or several, as `with_split` names them.
        tokenizer: Unused; verl passes it.
        processor: Unused; verl passes it.
        config: Unused; verl passes its `data` section.
        max_samples: Keep only the first so many rows; -1 keeps all.
    """

    def __init__(
        self,
        data_files: str | list[str] | ListConfig,
        tokenizer: Any = None,
        processor: Any = None,
        config: DictConfig | None = None,
        max_samples: int = -1,
    ) -> None:
        self._samples = samples_of(data_files, max_samples)
        first = data_files if isinstance(data_files, str) else data_files[0]
        self._source = first.rpartition("#")[2]

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self._samples[index]
        return {
            # verl counts rows by this column; the agent loop builds the real prompt.
            "raw_prompt": [{"role": "user", "content": sample.question}],
            "agent_name": AGENT_NAME,
            "data_source": self._source,
            "index": index,
            "sample": sample.to_row(),
        }
