"""The resolved settings of an evaluation: the defaults, what the model was trained with, the command line."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from verl_socio.errors import invalid
from verl_socio.evaluate.published import SOCIOSEG
from verl_socio.evaluate.subject import NEWEST, newest_merged, subject_of
from verl_socio.segment import EMBEDDED as EMBEDDED_SEGMENTER
from verl_socio.train import settings as training
from verl_socio.train.prepare import EMBEDDED, embedded_model

AUTO = "auto"
SAM2 = "facebook/sam2-hiera-large"

# A setting here, and the one of a training run that it is taken from.
_TRAINED = {
    "frame": "frame",
    "segmenter.weights": "segmenter.weights",
    "segmenter.config": "segmenter.config",
    "segmenter.multimask": "segmenter.multimask",
    "max_prompt_length": "data.max_prompt_length",
    "max_response_length": "data.max_response_length",
}


def resolve(overrides: Sequence[str]) -> DictConfig:
    """Compose the settings of an evaluation.

    Args:
        overrides: `key=value` as hydra reads them; a key that does not exist is an error.

    Returns:
        The settings of `configs/evaluate/eval.yaml`. `model` stays "newest" where there is no merged model yet;
        "embedded" stands for what the project generates itself.

    Raises:
        ValueError: An unknown key, a value of the wrong kind, or a recipe's file that is no YAML.
    """
    see = "see configs/evaluate/eval.yaml and configs/recipe/ for the keys"
    with training.explained(overrides, HydraException, OmegaConfBaseException, YAMLError, UnicodeDecodeError, see=see):
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        # These go on top of the recipe that the model was trained with, which is known only after the rest.
        of_recipe = [override for override in parsed if override.key_or_group.startswith("recipe.")]
        rest = [override for override in parsed if override not in of_recipe]
        config = _compose([str(override.input_line) for override in rest])
        _settle(config, {override.key_or_group for override in rest})
        for override in of_recipe:
            _apply(config, override)
        if config.images is not None:
            # What is no mapping is told with its place when the recipe is built.
            stages = config.recipe.stages if OmegaConf.is_dict(config.recipe.stages) else {}
            for stage in filter(OmegaConf.is_dict, stages.values()):
                stage.images = config.images
        OmegaConf.resolve(config)
    return config


def _compose(overrides: list[str]) -> DictConfig:
    return training.composed("evaluate/eval", overrides)


def _settle(config: DictConfig, given: set[str]) -> None:
    """Replace "auto" and "newest" by what they stand for, and take over what the model was trained with."""
    root = Path(config.output_root)
    root = root if root.is_absolute() else training.ROOT / root
    config.output_root = str(root)
    gpu = torch.cuda.is_available()
    if config.data == AUTO:
        config.data = SOCIOSEG if gpu else EMBEDDED
    if config.model == NEWEST:
        config.model = str(newest_merged(root) or NEWEST)
    if config.model != NEWEST:
        # The embedded model knows its own prompts only.
        embedded = config.model == EMBEDDED
        trained = _embedded() if embedded else subject_of(config.model, root).trained_with()
        if trained is not None:
            _take_over(config, trained, given)
    if config.segmenter.weights == AUTO:
        config.segmenter.weights = SAM2 if gpu else EMBEDDED_SEGMENTER


@cache
def _embedded() -> DictConfig:
    # It takes a second, and every ablation asks for it.
    return training.resolve(EMBEDDED, [])


def _take_over(config: DictConfig, trained: DictConfig, given: set[str]) -> None:
    if "recipe" not in given and "recipe" in trained:
        # Replaced, not merged: the recipes may have stages of other names.
        config.recipe = trained.recipe
        OmegaConf.set_struct(config.recipe, True)
    for key, of_run in _TRAINED.items():
        value = OmegaConf.select(trained, of_run)
        if key not in given and value is not None:
            OmegaConf.update(config, key, value)


def _apply(config: DictConfig, override: Override) -> None:
    if override.is_delete() or override.is_sweep_override():
        fix = "write KEY=VALUE; KEY=null switches a reward term off"
        raise invalid("settings", override.input_line, "is no single value for a key", fix)
    OmegaConf.update(config, override.key_or_group, override.value(), force_add=override.is_add())


def model_of(config: DictConfig) -> str:
    """The model's folder or Hub id; the embedded one lies in the package."""
    if config.model == EMBEDDED:
        return str(embedded_model())
    return str(config.model)
