"""Where a SAM2's weights and configuration are: found and checked by looking at files only, without torch or sam2."""

from __future__ import annotations

import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path

from verl_socio.errors import invalid
from verl_socio.segment.config import BOXES, EMBEDDED, SegmenterConfig

CHECKPOINT_SUFFIXES = (".pt", ".pth", ".safetensors")
_YAML_SUFFIXES = (".yaml", ".yml")
_SIZES = {"tiny": "t", "small": "s", "base-plus": "b+", "large": "l"}

# Hub id -> (checkpoint in that repository, YAML in the sam2 package), as the sam2 package knows them.
PUBLISHED = {
    f"facebook/sam{version}-hiera-{size}": (
        f"sam{version}_hiera_{size.replace('-', '_')}.pt",
        f"configs/sam{version}/sam{version}_hiera_{letter}.yaml",
    )
    for version in ("2", "2.1")
    for size, letter in _SIZES.items()
}
_YAML_OF_FILE = dict(PUBLISHED.values())


@dataclass(frozen=True)
class Source:
    """A SAM2 to be built.

    Attributes:
        model_yaml: Its configuration.
        checkpoint: Its local weights; None where they are on the Hub.
        hub: Repository and file name on the Hub; None where the weights are local.
    """

    model_yaml: Path
    checkpoint: Path | None = None
    hub: tuple[str, str] | None = None


def locate(config: SegmenterConfig) -> Source | None:
    """Find the weights and the YAML that a configuration asks for.

    Args:
        config: The segmenter's settings. A path that exists goes before a Hub id of the same name.

    Returns:
        What to build, or None for the two segmenters that need no file: "embedded" and "boxes". Whether a Hub file
        can be downloaded is only known when it is.

    Raises:
        ValueError: There is no such file, folder or published model; a folder without weights or with several; no
            YAML for a checkpoint; or a `config` that would go unused.
    """
    # os.path's tests, unlike pathlib's, take any text, however long or odd, for a path that is not there.
    path = Path(os.path.expanduser(config.weights))
    is_word = config.weights in (EMBEDDED, BOXES)
    if not is_word and os.path.isdir(path):
        path = _checkpoint_in(path)
    if not is_word and os.path.isfile(path):
        if path.suffix not in CHECKPOINT_SUFFIXES:
            rule = f"must be a checkpoint ending in {', '.join(CHECKPOINT_SUFFIXES)}"
            raise invalid("segmenter.weights", str(path), rule, "give the checkpoint, or the folder that holds it")
        return Source(_yaml_of(path, config.config), checkpoint=path)
    if not is_word and config.weights not in PUBLISHED:
        rule = f"must be '{EMBEDDED}', an existing file or folder, or one of {', '.join(PUBLISHED)}"
        fix = "correct the path or the name; download other models first and give their folder"
        raise invalid("segmenter.weights", config.weights, rule, fix)
    if config.config is not None:
        rule = f"is used with local weights only, but the weights are {config.weights}"
        raise invalid("segmenter.config", config.config, rule, "set it to null, or give a local checkpoint")
    if is_word:
        return None
    file_name, yaml_name = PUBLISHED[config.weights]
    return Source(_package_yaml(yaml_name), hub=(config.weights, file_name))


def _checkpoint_in(folder: Path) -> Path:
    found = sorted(path for path in folder.iterdir() if path.suffix in CHECKPOINT_SUFFIXES)
    published = [path for path in found if path.name in _YAML_OF_FILE]
    # A published repository holds its checkpoint a second time in another library's format.
    choice = published or found
    if not choice:
        rule = f"must hold a checkpoint ({', '.join(CHECKPOINT_SUFFIXES)}), but there is none in it"
        raise invalid("segmenter.weights", str(folder), rule, "put the weights there, or give another folder")
    if len(choice) > 1:
        names = ", ".join(path.name for path in choice)
        raise invalid("segmenter.weights", str(folder), f"holds several checkpoints: {names}", "give the file itself")
    return choice[0]


def model_yaml(name: str) -> Path:
    """The YAML of a model: a file, or one of the sam2 package's by its name, such as "sam2.1_hiera_s".

    Raises:
        ValueError: There is neither.
    """
    path = Path(os.path.expanduser(name))
    return path if os.path.isfile(path) else _package_yaml(name)


def _yaml_of(checkpoint: Path, asked: str | None) -> Path:
    if asked is not None:
        return model_yaml(asked)
    beside = sorted(path for path in checkpoint.parent.iterdir() if path.suffix in _YAML_SUFFIXES)
    same_stem = [path for path in beside if path.stem == checkpoint.stem]
    if same_stem:
        return same_stem[0]
    if checkpoint.name in _YAML_OF_FILE:
        return _package_yaml(_YAML_OF_FILE[checkpoint.name])
    if len(beside) == 1:
        return beside[0]
    rule = f"is needed for {checkpoint}: of {len(beside)} YAML files beside it none is {checkpoint.stem}.yaml"
    raise invalid("segmenter.config", None, rule, "name the model's YAML, a file or one of the sam2 package's")


def _package_yaml(name: str) -> Path:
    """The YAML of that name in the sam2 package; "sam2_hiera_l", with or without folder and suffix."""
    spec = importlib.util.find_spec("sam2")
    if spec is None or spec.origin is None:
        raise invalid("sam2", None, "must be installed", "run `bash training_scripts/setup.sh`")
    folder = Path(spec.origin).parent / "configs"
    shipped = {path.stem: path for path in sorted(folder.glob("sam2*/*.yaml")) if "training" not in path.parent.name}
    stem = re.sub(r"\.ya?ml$", "", name.rsplit("/", 1)[-1])
    if stem not in shipped:
        rule = f"must be an existing YAML file or one of {', '.join(sorted(shipped))}"
        raise invalid("segmenter.config", name, rule, "correct the path or the name")
    return shipped[stem]
