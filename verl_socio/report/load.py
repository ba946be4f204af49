"""An evaluation's folder, read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from verl_socio.errors import invalid
from verl_socio.evaluate.protocols import PROTOCOLS, Protocol
from verl_socio.evaluate.rows import SampleRow, read_rows
from verl_socio.evaluate.subject import title_of


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation left behind.

    Attributes:
        folder: Its folder.
        config: Its settings.
        protocol: What was measured; it asks for masks.
        mark: Its fingerprint: `sha256`, `identity` and `notes`.
        stages: The names of the recipe's stages, in order.
        rows: The samples that are done, in the set's order.
    """

    folder: Path
    config: DictConfig
    protocol: Protocol
    mark: Mapping[str, Any]
    stages: tuple[str, ...]
    rows: tuple[SampleRow, ...]

    @property
    def title(self) -> str:
        """The model and what it was evaluated on."""
        return f"{title_of(str(self.config.model))} on {self.config.data}, split {self.config.split}"

    @property
    def has_summary(self) -> bool:
        """Whether the summary is there, which is written once all samples are done."""
        return (self.folder / "summary.json").is_file()

    @property
    def size(self) -> int | None:
        """Samples of the set; None where the fingerprint is from before it said so."""
        size: int | None = self.mark["notes"].get("samples")
        return size

    @property
    def missing(self) -> int:
        """Samples that have no row; where the set's size is not known, those before the last one that has."""
        return (self.size or self.rows[-1].index + 1) - len(self.rows)

    @property
    def is_finished(self) -> bool:
        """Whether all samples are done, as far as the folder tells."""
        return self.has_summary and not self.missing


def load(folder: Path) -> Evaluated:
    """Read an evaluation's folder.

    Raises:
        ValueError: It holds no evaluation, or nothing was evaluated yet, or a file of it cannot be read.
    """
    for name in ("fingerprint.json", "config.yaml", "results.jsonl"):
        if not (folder / name).is_file():
            rule = f"must be an evaluation's folder, but has no {name}"
            raise invalid("folder", str(folder), rule, "give <run>/eval/<name>, as `verl-socio evaluate` prints it")
    try:
        config = OmegaConf.load(folder / "config.yaml")
        assert isinstance(config, DictConfig)
        mark = json.loads((folder / "fingerprint.json").read_text(encoding="utf-8"))
        protocol = PROTOCOLS[config.protocol]
        stages = tuple(str(name) for name, stage in config.recipe.stages.items() if stage is not None)
        identity, notes = mark["identity"], mark["notes"]
        assert isinstance(identity, dict) and isinstance(notes, dict) and isinstance(mark["sha256"], str)
        assert isinstance(notes.get("samples"), int | None)
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError, YAMLError) as error:
        found = f"{type(error).__name__}: {error}".splitlines()[0]
        rule = f"must hold the settings and the fingerprint of an evaluation ({found})"
        raise invalid("folder", str(folder), rule, "evaluate again, under another name") from error
    if not protocol.needs_masks:
        rule = f"must be an evaluation of masks, but its protocol is {protocol.name}"
        raise invalid("folder", str(folder), rule, "read its table: the same command shows it again")
    rows = tuple(sorted(read_rows(folder / "results.jsonl"), key=lambda row: row.index))
    if not rows:
        raise invalid("folder", str(folder), "holds no result yet", "finish the evaluation first: the same command")
    if odd := next((row for row in rows if row.failure is None and _names(row) != stages), None):
        rule = f"has a result of other stages ({odd.id}: {', '.join(_names(odd))}) than its recipe's"
        raise invalid("folder", str(folder), rule, "evaluate again, under another name")
    return Evaluated(folder, config, protocol, mark, stages, rows)


def _names(row: SampleRow) -> tuple[str, ...]:
    return tuple(stage.name for stage in row.stages)
