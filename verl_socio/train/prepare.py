"""Makes what the word `embedded` stands for: the small model and the city, once, below the output folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from verl_socio.data.write import new_folder
from verl_socio.train.settings import model_key

EMBEDDED = "embedded"
# Beside the runs, and named unlike any of them.
FOLDER = ".embedded"
CITY_SAMPLES = 800
CITY_SEED = 0


def prepare(config: DictConfig) -> None:
    """Replace every `embedded` in the settings by the path of what it stands for, made where it is missing."""
    output_root = Path(config.output_root)
    if OmegaConf.select(config, model_key(config)) == EMBEDDED:
        OmegaConf.update(config, model_key(config), str(embedded_model(output_root)))
    for key in ("train_files", "val_files"):
        if config.data[key] == EMBEDDED:
            config.data[key] = str(embedded_city(output_root))


def embedded_model(output_root: Path) -> Path:
    """The folder of the tiny Qwen2.5-VL: the one that ships, read where it lies, or one of random weights."""
    from verl_socio.embedded.qwen2_5_vl import build, shipped

    def make(folder: Path) -> None:
        with new_folder(folder) as draft:
            build(draft)

    return shipped() or _once(output_root / FOLDER / "qwen2_5_vl", make)


def embedded_city(output_root: Path) -> Path:
    """The folder of the generated city."""
    from verl_socio.city import generate

    # Named for its numbers: a city of others, left by an earlier state of the project, is not taken for this one.
    name = f"city_{CITY_SAMPLES}_{CITY_SEED}"
    return _once(output_root / FOLDER / name, lambda folder: generate(folder, samples=CITY_SAMPLES, seed=CITY_SEED))


def _once(folder: Path, make: Callable[[Path], object]) -> Path:
    if not folder.exists():
        try:
            make(folder)
        except (ValueError, OSError):
            # Of two commands that began at once the other was faster, and what it made is the same.
            if not folder.exists():
                raise
    return folder
