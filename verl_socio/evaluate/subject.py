"""Which model is evaluated, and to which run its results belong."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from verl_socio.errors import invalid
from verl_socio.train.run_folder import SETTINGS

NEWEST = "newest"
_MERGED, _STEP = "merged", "global_step_"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
# Other formats of the same weights lie in many repositories.
_NEEDED = ("*.json", "*.safetensors", "*.txt", "*.jinja", "*.model")
_TRAIN = "bash training_scripts/run_qwen2_5_3b_socioseg.sh"
_MERGE = "python3 training_scripts/model_merger.py"


@dataclass(frozen=True)
class Subject:
    """The model under evaluation.

    Attributes:
        name: A word for it: the last part of its folder or Hub id.
        source: Its folder (absolute), or its Hub id.
        run_dir: The folder of its run; results go to `<run_dir>/eval`.
    """

    name: str
    source: str
    run_dir: Path

    @property
    def title(self) -> str:
        """Its name for people."""
        return title_of(self.source)

    @property
    def is_local(self) -> bool:
        """Whether the model is on this machine."""
        return os.path.isabs(self.source)

    def trained_with(self) -> DictConfig | None:
        """The settings of the run that trained the model, or None where they are not known."""
        settings = self.run_dir / SETTINGS
        if not self.is_local or Path(self.source).parent.parent != self.run_dir or not settings.is_file():
            return None
        config = OmegaConf.load(settings)
        assert isinstance(config, DictConfig)
        return config

    def folder(self, *, weights: bool = True) -> Path:
        """The model's folder; a model of the Hub is downloaded to the Hugging Face cache.

        Args:
            weights: Whether they are needed here; a server elsewhere has its own.

        Raises:
            ValueError: The Hub does not give the model, or its folder holds no whole model.
        """
        folder = Path(self.source) if self.is_local else _download(self.source, weights=weights)
        if not (folder / "config.json").is_file():
            raise invalid("model", str(folder), "must hold config.json", "give the folder of a Hugging Face model")
        if weights and not any(found for pattern in _WEIGHTS for found in folder.glob(pattern)):
            raise invalid("model", str(folder), "must hold weights (*.safetensors)", f"merge them first: {_MERGE}")
        return folder


def title_of(model: str) -> str:
    """A model's name for people: the last part of its folder or Hub id, a run's merged model with the run before it.

    All runs call their merged models alike (`<run>/merged/global_step_<N>`).
    """
    path = Path(model)
    of_run = path.parent.name == _MERGED and path.name.startswith(_STEP)
    return f"{path.parent.parent.name}/{path.name}" if of_run else path.name


def newest_merged(root: Path) -> Path | None:
    """The merged model written last below the folder of all runs (`<root>/<run>/merged/global_step_<N>`), or None."""
    found = [path for path in root.glob(f"*/{_MERGED}/{_STEP}*") if (path / "config.json").is_file()]
    return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)


def subject_of(model: str, root: Path) -> Subject:
    """Find what a user means by `model`.

    Args:
        model: "newest", a model folder or a Hub id. A folder that exists goes before a Hub id of the same name.
        root: The folder of all runs, absolute.

    Returns:
        The model; whether the Hub has it is known when its `folder` is asked for.

    Raises:
        ValueError: There is no merged model yet, or the text is neither a folder nor a Hub id.
    """
    if model == NEWEST:
        newest = newest_merged(root)
        if newest is None:
            rule = f"needs a merged model in {root}/<run>/merged, but there is none"
            raise invalid("model", model, rule, f"make one: {_TRAIN} && {_MERGE} - or give model=FOLDER_OR_HUB_ID")
        model = str(newest)
    # os.path's test, unlike pathlib's, takes any text for a path that is not there.
    if os.path.isdir(os.path.expanduser(model)):
        folder = Path(os.path.expanduser(model)).resolve()
        run_dir = folder.parent.parent
        of_run = folder.parent.name == _MERGED and (run_dir.parent == root.resolve() or (run_dir / SETTINGS).is_file())
        return Subject(folder.name, str(folder), run_dir if of_run else root / folder.name)
    if _HUB_ID.fullmatch(model):
        name = model.rpartition("/")[2]
        return Subject(name, model, root / name)
    raise invalid("model", model, "must be newest, an existing model folder or a Hub id", "correct the path or the id")


def _download(repository: str, *, weights: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import EntryNotFoundError

    wanted = [pattern for pattern in _NEEDED if weights or pattern not in _WEIGHTS]
    try:
        return Path(snapshot_download(repository, allow_patterns=wanted))
    except (OSError, EntryNotFoundError) as error:
        rule = f"must be in the Hugging Face cache or downloadable ({type(error).__name__}: {error})"
        raise invalid("model", repository, rule, "connect to the Hub, or give a local folder") from error
