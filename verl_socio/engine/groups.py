"""Lets verl check the groups of settings that it makes a class of."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf
from verl.utils.config import omega_conf_to_dataclass

from verl_socio.errors import invalid


def check_groups(config: DictConfig, groups: Sequence[str], file: str) -> None:
    """Make verl's class of each group of settings.

    Args:
        config: The settings.
        groups: Their names, such as `actor_rollout_ref.actor`.
        file: verl's own file that lists their keys.

    Raises:
        ValueError: A key of a group is unknown to verl's class, or has a value that it refuses.
    """
    for group in groups:
        try:
            omega_conf_to_dataclass(OmegaConf.select(config, group))
        except InstantiationException as error:
            rule = str(error.__cause__ or error).split("\n")[0]
            raise invalid(group, "settings", rule, f"see verl's {file} for its keys") from error
