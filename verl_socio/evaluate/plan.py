"""What one start evaluates: a case for each split and each way, all through one vLLM."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from verl_socio.errors import invalid
from verl_socio.evaluate.settings import AUTO, resolve
from verl_socio.train.settings import CONFIGS

ABLATIONS = CONFIGS / "evaluate" / "ablations"
# One engine answers all cases, and what is compared is measured alike on the same data.
_SHARED = (
    "model", "host", "served_model", "vllm", "workers", "ray", "data", "data_format", "question", "question_seed",
    "annotations", "split", "max_samples", "protocol", "output_root", "name",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One evaluation.

    Attributes:
        config: Its settings; `split` is one name.
        way: The ablation's name; "" where there are none.
    """

    config: DictConfig
    way: str


def plan(overrides: Sequence[str]) -> list[Case]:
    """Lay out the evaluations of one start.

    Args:
        overrides: `key=value` on top of `configs/evaluate/eval.yaml`; `split` may be a list, `ablations` a file.

    Returns:
        The cases, split by split, and within a split in the order of the ablations.

    Raises:
        ValueError: A setting, or an ablation's, breaks a rule.
    """
    base = resolve(overrides)
    splits = _splits(base.split)
    ways = {"": base}
    if base.ablations is not None:
        ways = {way: _way(way, overrides, changes, base) for way, changes in _ablations(base.ablations).items()}
    cases = []
    for split in splits:
        for way, config in ways.items():
            words = [split] * (len(splits) > 1) + [way] * (len(ways) > 1)
            plain = [re.sub(r"[^A-Za-z0-9._]", "_", word) for word in words]
            name = base.name if base.name == AUTO else "-".join([str(base.name), *plain])
            settled = OmegaConf.merge(config, {"split": split, "name": name})
            assert isinstance(settled, DictConfig)
            cases.append(Case(settled, way))
    return cases


def _splits(given: Any) -> list[str]:
    names = list(given) if OmegaConf.is_list(given) else [given]
    if not names or len(set(map(str, names))) != len(names) or not all(isinstance(name, str) for name in names):
        shown = OmegaConf.to_container(given) if OmegaConf.is_list(given) else given
        raise invalid("split", shown, "must be a split's name, or a list of different ones", "write split=[val,test]")
    return names


def _ablations(given: Any) -> dict[str, list[str]]:
    """Read a file of ablations: a name of `configs/evaluate/ablations`, or a path."""
    path = ABLATIONS / f"{given}.yaml"
    path = path if path.is_file() else Path(str(given)).expanduser()
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in ABLATIONS.glob("*.yaml")))
        raise invalid("ablations", given, "must be a YAML file", f"use one of {known}, or give a path")
    try:
        ways = OmegaConf.to_container(OmegaConf.load(path))
    except (YAMLError, OSError, UnicodeDecodeError) as error:
        raise invalid("ablations", str(path), f"must be YAML ({error})", "correct the file") from error
    if not isinstance(ways, Mapping) or not ways or not all(_is_way(name, way) for name, way in ways.items()):
        rule = "must map names to lists of settings"
        raise invalid("ablations", str(path), rule, "write `greedy: [sampling.temperature=0]`, a line each")
    return {str(name): list(way) for name, way in ways.items()}


def _is_way(name: Any, changes: Any) -> bool:
    return isinstance(name, str) and isinstance(changes, list) and all(isinstance(text, str) for text in changes)


def _way(way: str, overrides: Sequence[str], changes: Sequence[str], base: DictConfig) -> DictConfig:
    try:
        config = resolve([*overrides, *changes])
    except ValueError as error:
        raise ValueError(f"ablations.{way}: {error}") from error
    for key in _SHARED:
        if config[key] != base[key]:
            rule = f"may not change {key}: all ablations share the model, its engine, the data and what is measured"
            raise invalid(f"ablations.{way}", list(changes), rule, "evaluate it by a command of its own")
    return config
