"""The resolved settings of a run: verl's defaults, the project's, the chosen configuration, the command line."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from verl_socio.errors import invalid
from verl_socio.overrides import unquoted
from verl_socio.recipes import Recipe

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
_OWN = "recipe=own_recipe"
# What somebody else checks key by key: the recipe's and the segmenter's own classes, and ray.init.
_CHECKED_ELSEWHERE = ("recipe", "segmenter", "ray_kwargs.ray_init")


# What the configurations are built on, and verl's own file that each of these is built on.
_BASES = {"train": "ppo_trainer.yaml", "sft": "sft_trainer_engine.yaml"}


def names() -> list[str]:
    """The configurations that a run can start from."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml") if path.stem not in _BASES)


def is_supervised(config: DictConfig) -> bool:
    """Whether a run learns from right answers; else it learns by reward."""
    return "actor_rollout_ref" not in config


def model_key(config: DictConfig) -> str:
    """The setting that names a run's model."""
    return "model.path" if is_supervised(config) else "actor_rollout_ref.model.path"


def resolve(name: str, overrides: Sequence[str]) -> DictConfig:
    """Compose the settings of a run.

    Args:
        name: A file in `configs/`, without its suffix.
        overrides: `key=value` as hydra reads them; a key that does not exist is an error, `+key=value` adds one.

    Returns:
        The settings, every interpolation resolved. `run` and every path in `run_dir` are set.

    Raises:
        ValueError: An unknown configuration or key, a value of the wrong kind, or a setting left open.
    """
    if name not in names():
        raise invalid("config", name, f"must be one of {', '.join(names())}", "choose one or add a file to configs/")
    _own_recipe(overrides)
    # For odd values hydra lets plain errors of Python through.
    with explained(overrides, HydraException, OmegaConfBaseException, YAMLError, TypeError, ValueError):
        config = _composed(name, overrides)
    with explained(overrides, OmegaConfBaseException):
        _check_groups(config)
        _fill_in(config, name, overrides)
        OmegaConf.resolve(config)
    _check_kinds(OmegaConf.to_container(config), _base(config), overrides)
    return config


@contextmanager
def explained(
    overrides: Sequence[str], *errors: type[Exception], see: str = "see configs/ for the keys and their values"
) -> Iterator[None]:
    """Say of settings that cannot be composed what is wrong with them and what helps.

    Args:
        overrides: As the user gave them.
        errors: What the libraries raise.
        see: Where the keys are.

    Raises:
        ValueError: In place of one of the errors.
    """
    try:
        yield
    except errors as error:
        # The first line says what is wrong, unless it announces the next; a YAML error tells file and line last.
        first, *more = str(error).split("\n")
        rule = " ".join([first, *more] if isinstance(error, YAMLError) else [first, *more[: first.endswith(":")]])
        fix = see
        # The second is what hydra makes of a comma.
        if isinstance(error, OverrideParseException) or first.startswith("Ambiguous value"):
            fix = f"quote a value with such characters, for hydra and for the shell: 'key=\"value\"'; or {see}"
        raise invalid("settings", " ".join(overrides), rule, fix) from error


def _composed(name: str, overrides: Sequence[str]) -> DictConfig:
    verl = find_spec("verl")  # hydra's own pkg:// would import verl, and with it torch and Ray: seconds
    assert verl is not None and verl.submodule_search_locations, "verl is a dependency of this package"
    return composed(name, overrides, [f"file://{verl.submodule_search_locations[0]}/trainer/config"])


def composed(name: str, overrides: Sequence[str], searchpath: Sequence[str] = ()) -> DictConfig:
    """Let hydra compose a configuration; `recipe=FILE.yaml` takes a recipe that lies anywhere.

    Args:
        name: A file in `configs/`, without its suffix.
        overrides: `key=value` as hydra reads them.
        searchpath: Where else hydra looks for configurations.

    Returns:
        The composed settings. Prompts and the file of terms that lie beside a recipe of one's own have absolute paths.

    Raises:
        ValueError: There is no such recipe file.
    """
    own = _own_recipe(overrides)
    with TemporaryDirectory() as folder:
        if own is not None:
            # Under a name that no shipped recipe has, in a folder that hydra is told of.
            (Path(folder) / "recipe").mkdir()
            shutil.copyfile(own, Path(folder) / "recipe" / "own_recipe.yaml")
            overrides = [_OWN if _names_recipe(override) else override for override in overrides]
            searchpath = [*searchpath, f"file://{folder}"]
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(CONFIGS), version_base=None):
            config: DictConfig = compose(name, [*overrides, f"hydra.searchpath={list(searchpath)}"])
    if own is not None:
        _resolve_beside(config, own.parent)
    return config


def _base(config: DictConfig) -> str:
    return "sft" if is_supervised(config) else "train"


def _names_recipe(override: str) -> bool:
    return override.startswith("recipe=") and override.strip("'\"").endswith((".yaml", ".yml"))


def _own_recipe(overrides: Sequence[str]) -> Path | None:
    named = [override for override in overrides if _names_recipe(override)]
    if not named:
        return None
    path = unquoted(named[-1].removeprefix("recipe="))
    if not os.path.isfile(path):
        shipped = (
            file.relative_to(CONFIGS / "recipe").with_suffix("") for file in (CONFIGS / "recipe").rglob("*.yaml")
        )
        rule = f"must be a file, or one of {', '.join(sorted(map(str, shipped)))}"
        raise invalid("recipe", path, rule, "correct the path; it is relative to where the command runs")
    return Path(path).resolve()


def _resolve_beside(config: DictConfig, folder: Path) -> None:
    """Files that lie beside the recipe's own file are found from anywhere, in any process."""
    stages = config.recipe.get("stages")
    places = [(config.recipe, "terms_file")]
    if OmegaConf.is_dict(stages):  # else it is told with its place when the recipe is built
        places += [(stage, "prompt") for stage in stages.values() if OmegaConf.is_dict(stage)]
    for place, key in places:
        if isinstance(place.get(key), str) and os.path.isfile(folder / place[key]):
            place[key] = str(folder / place[key])


@cache
def _schema(base: str) -> Any:
    """Verl's defaults and the project's: they have nearly every key, and mostly a value of its kind."""
    schema = _composed(base, ["data.train_files=''"])
    return OmegaConf.to_container(schema, resolve=True)


def _check_groups(config: DictConfig) -> None:
    for key, default in _schema(_base(config)).items():
        if isinstance(default, dict) and not OmegaConf.is_dict(config[key]):
            raise invalid(key, config[key], "is a group of settings", f"set its members, as in {key}.NAME=VALUE")


def _check_kinds(config: Any, base: str, overrides: Sequence[str]) -> None:
    added = tuple(override.lstrip("+").split("=")[0] for override in overrides if override.startswith("+"))
    given = {override.split("=")[0] for override in overrides}
    found = [
        departure
        for departure in _departures(config, _schema(base), "", keys_are_known=True)
        if not departure[0].startswith((*_CHECKED_ELSEWHERE, *added))
    ]
    if found:  # a wrong value is wrong wherever it is copied to: name the one that was given, or else the highest
        key, value, rule = min(found, key=lambda departure: (departure[0] not in given, departure[0].count(".")))
        fix = f"see configs/{base}.yaml and verl's {_BASES[base]} for keys and values"
        raise invalid(key, value, rule, fix)


def _departures(
    config: Mapping[str, Any], schema: Mapping[str, Any], prefix: str, keys_are_known: bool
) -> Iterator[tuple[str, object, str]]:
    # verl builds a class from what has a _target_; the class may have more fields than verl's file shows.
    keys_are_known = keys_are_known and "_target_" not in schema
    for name, value in config.items():
        key, default = f"{prefix}{name}", schema.get(name)
        if name not in schema:
            if keys_are_known:
                yield key, value, "is not a known setting"
        elif isinstance(default, dict):
            if isinstance(value, dict) and default:
                yield from _departures(value, default, f"{key}.", keys_are_known)
        elif isinstance(default, bool):
            if not isinstance(value, bool | None):
                yield key, value, "must be true or false"
        elif isinstance(default, int | float) and (
            isinstance(value, bool) or not isinstance(value, int | float | None)
        ):
            yield key, value, "must be a number"


def _fill_in(config: DictConfig, name: str, overrides: Sequence[str]) -> None:
    if not isinstance(config.output_root, str):
        raise invalid("output_root", config.output_root, "must be a folder", "give a path")
    output_root = Path(config.output_root)
    config.output_root = str(output_root if output_root.is_absolute() else ROOT / output_root)
    if config.run == "auto":
        changed = sorted(override for override in overrides if not override.startswith(("run=", "output_root=")))
        mark = hashlib.sha256("\n".join(changed).encode()).hexdigest()[:6]
        config.run = f"{name}-{mark}" if changed else name
    if config.trainer.n_gpus_per_node == "auto":
        import torch

        config.trainer.n_gpus_per_node = torch.cuda.device_count()
    backend = "actor_rollout_ref.rollout.engine_kwargs.vllm.distributed_executor_backend"
    if OmegaConf.select(config, backend) == "auto":
        alone = config.actor_rollout_ref.rollout.tensor_model_parallel_size == 1
        OmegaConf.update(config, backend, "uni" if alone else "mp")
    if OmegaConf.is_missing(config.data, "train_files") or config.data.train_files is None:
        raise invalid("data.train_files", None, "must be set", "add data.train_files=DIR to the command")


def shipped_recipe(name: str) -> Recipe:
    """A recipe of `configs/recipe/` by its name, such as `socioreasoner` or `embedded/one_stage`.

    Raises:
        ValueError: There is no such recipe, or it breaks a rule.
    """
    overrides = [f"recipe={name}"]
    with explained(overrides, HydraException, OmegaConfBaseException):
        config = _composed("train", overrides)
    return Recipe.from_config(OmegaConf.to_container(config.recipe, resolve=True))


def shown(config: DictConfig) -> str:
    """The settings as YAML text."""
    return OmegaConf.to_yaml(config)
