"""Makes what the word `embedded` stands for: the small model and the city, once, below the output folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

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

    return shipped() or _once(output_root / FOLDER / "qwen2_5_vl", build)


def embedded_city(output_root: Path) -> Path:
    """The folder of the generated city."""
    from verl_socio.city import generate

    # Named for its numbers: a city of others, left by an earlier state of the project, is not taken for this one.
    name = f"city_{CITY_SAMPLES}_{CITY_SEED}"
    return _once(output_root / FOLDER / name, lambda folder: generate(folder, samples=CITY_SAMPLES, seed=CITY_SEED))


def _once(folder: Path, make: Callable[[Path], object]) -> Path:
    if not folder.exists():
        # Made beside its place and moved when whole: a run that is stopped meanwhile leaves nothing half-made.
        draft = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(draft, ignore_errors=True)
        draft.parent.mkdir(parents=True, exist_ok=True)
        make(draft)
        draft.rename(folder)
    return folder
