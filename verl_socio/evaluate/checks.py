"""What an evaluation's settings have to be, checked before anything is read or started."""

from __future__ import annotations

from urllib.parse import urlsplit

from omegaconf import DictConfig, OmegaConf

from verl_socio.errors import invalid
from verl_socio.evaluate.placement import check_this_machine, placement_of
from verl_socio.evaluate.published import papers_of
from verl_socio.evaluate.station import VLLM, build, limits_of, sampling_of
from verl_socio.recipes import Recipe
from verl_socio.segment import SegmenterConfig

_LEAST = {
    "concurrency": 1,
    "workers": 1,
    "pictures": 0,
    "thumbnails": 0,
    "best_of": 1,
    "max_prompt_length": 1,
    "max_response_length": 1,
}


def checked(config: DictConfig) -> Recipe:
    """Check that settings lie in their ranges and fit each other and this machine.

    Args:
        config: As `resolve` gives them.

    Returns:
        Their recipe.

    Raises:
        ValueError: One does not; nothing was read or started.
    """
    recipe = Recipe.from_config(OmegaConf.to_container(config.recipe, resolve=True))
    for key, low in {**_LEAST, **({} if config.max_samples is None else {"max_samples": 1})}.items():
        if not isinstance(config[key], int) or config[key] < low:
            raise invalid(key, config[key], f"must be a whole number of {low} or more", f"set {key}={low} or more")
    allowed = config.max_failures
    if isinstance(allowed, bool) or not isinstance(allowed, int | float) or not 0 <= allowed <= 1:
        rule = "must be a share of the samples, 0 to 1"
        raise invalid("max_failures", allowed, rule, "0.1 lets a tenth of the samples fail")
    if not isinstance(config.retry_failed, bool):
        raise invalid("retry_failed", config.retry_failed, "must be true or false", "set it to one of them")
    placement = placement_of(config)
    if config.workers > 1:
        check_this_machine(config.workers, placement)
    build(SegmenterConfig, "segmenter", config.segmenter)
    limits_of(config, recipe)
    papers_of(config)
    if config.host != VLLM and not _is_address(str(config.host)):
        rule = f"must be {VLLM}, or the address of a server"
        raise invalid("host", config.host, rule, "write host=http://HOST:PORT/v1")
    sampling = sampling_of(config)
    if config.best_of > 1 and sampling.temperature == 0:
        rule = "needs answers that differ, but sampling.temperature is 0"
        raise invalid("best_of", config.best_of, rule, "set sampling.temperature=1.0, or best_of=1")
    return recipe


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, brackets that do not close
        return False
