"""What the word `embedded` stands for: the small model that ships, and the city, made once below the output folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from verl_socio.train.run_folder import SETTINGS
from verl_socio.train.settings import model_key

EMBEDDED = "embedded"
# Beside the runs, and named unlike any of them.
FOLDER = ".embedded"
CITY_SAMPLES = 800
CITY_SEED = 0
_CITY = "city_"


def prepare(config: DictConfig) -> None:
    """Replace every `embedded` in the settings by the path of what it stands for; the city is made where it is missing.

    Raises:
        ValueError: The embedded model is not there.
    """
    output_root = Path(config.output_root)
    if OmegaConf.select(config, model_key(config)) == EMBEDDED:
        OmegaConf.update(config, model_key(config), str(embedded_model()))
    for key in ("train_files", "val_files"):
        if config.data[key] == EMBEDDED:
            config.data[key] = str(_begun_with(config, key) or embedded_city(output_root))


def embedded_model() -> Path:
    """The folder of the tiny Qwen2.5-VL that ships, read where it lies.

    Raises:
        ValueError: It is not there.
    """
    from verl_socio.embedded.qwen2_5_vl import shipped

    return shipped()


def embedded_city(output_root: Path) -> Path:
    """The folder of the generated city."""
    from verl_socio.city import generate
    from verl_socio.embedded.made_by import made_by

    # Named for its numbers and its generator: a city of others, left by an earlier state of the project, is not taken
    # for this one.
    name = f"{_CITY}{CITY_SAMPLES}_{CITY_SEED}_{made_by(rooms=('city',))}"
    return _once(output_root / FOLDER / name, lambda folder: generate(folder, samples=CITY_SAMPLES, seed=CITY_SEED))


def _begun_with(config: DictConfig, key: str) -> Path | None:
    """The embedded city that the run has in its folder's settings, as long as it is there.

    Data that a run began with may not change, and a generator may: who pulls a new one can still go on.
    """
    settings = Path(config.run_dir) / SETTINGS
    if not settings.is_file():
        return None
    city = Path(str(OmegaConf.select(OmegaConf.load(settings), f"data.{key}")))
    is_ours = city.parent == Path(config.output_root) / FOLDER and city.name.startswith(_CITY)
    return city if is_ours and city.is_dir() else None


def _once(folder: Path, make: Callable[[Path], object]) -> Path:
    if not folder.exists():
        try:
            make(folder)
        except (ValueError, OSError):
            # Of two commands that began at once the other was faster, and what it made is the same.
            if not folder.exists():
                raise
    return folder
