"""Build SAM2's image predictor from the Hub, from local files or from the package's own tiny weights."""

from __future__ import annotations

import pickle
import shutil
from functools import cache
from pathlib import Path

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from yaml import YAMLError

from verl_socio.errors import invalid
from verl_socio.segment.config import BOXES, EMBEDDED, SegmenterConfig
from verl_socio.segment.library import import_sam2
from verl_socio.segment.weights import Source, locate, model_yaml

import_sam2()

from sam2.modeling.sam2_base import SAM2Base  # noqa: E402
from sam2.sam2_image_predictor import SAM2ImagePredictor  # noqa: E402

# What sam2's own loader adds to the published models, whose YAML does not mention it: where a single mask is asked for
# and proves unstable, the best of the three takes its place.
_STABILITY = {
    "dynamic_multimask_via_stability": True,
    "dynamic_multimask_stability_delta": 0.05,
    "dynamic_multimask_stability_thresh": 0.98,
}
_YAML_FIX = "use a YAML of the sam2 package or one like them"
_UNREADABLE = (
    OSError, RuntimeError, EOFError, LookupError, TypeError, ValueError, pickle.UnpicklingError, SafetensorError,
)  # fmt: skip


def load_predictor(config: SegmenterConfig) -> SAM2ImagePredictor:
    """Build the predictor that a configuration asks for, in evaluation mode on its device.

    Args:
        config: The segmenter's settings.

    Returns:
        sam2's own image predictor; its feature sizes fit the model's image size.

    Raises:
        ValueError: The weights, their YAML or the device are not there or not what they should be.
    """
    source = locate(config)
    device = _device(config.device)
    if source is not None:
        model = _build(source)
    elif config.weights == EMBEDDED:
        model = _build(embedded_source())
    else:
        assert config.weights == BOXES
        raise invalid("segmenter.weights", BOXES, "is not a SAM2", "make it with verl_socio.segment.create")
    return predictor_of(model.to(device))


def predictor_of(model: SAM2Base) -> SAM2ImagePredictor:
    """Wrap a SAM2 model; sam2's own predictor takes 1024 px for granted when it cuts up the features."""
    model.eval().requires_grad_(False)
    predictor = SAM2ImagePredictor(model)
    predictor._bb_feat_sizes = [(model.image_size // stride,) * 2 for stride in (4, 8, 16)]
    # Frozen, what the trunk adds to an image's patches is always the same; it would be interpolated for each image.
    trunk = model.image_encoder.trunk
    trunk._get_pos_embed = cache(trunk._get_pos_embed)
    return predictor


def embedded_source() -> Source:
    """The embedded SAM2: its YAML and the trained weights that ship with the package.

    Raises:
        ValueError: The weights are not there. Random ones would give masks that mean nothing.
    """
    from verl_socio.embedded import sam2 as embedded

    checkpoint = embedded.shipped()
    if checkpoint is None:
        missing = str(embedded.WEIGHTS / embedded.CHECKPOINT)
        fix = f"install it again, or run python3 training_scripts/train_embedded_sam2.py --out {embedded.WEIGHTS}"
        raise invalid("embedded segmenter", missing, "is missing, but ships with the package", fix)
    return Source(embedded.CONFIG, checkpoint)


def write_random(name: str, folder: Path, seed: int = 0) -> Path:
    """Write a model of random weights, to measure a published shape where its weights cannot be had.

    Args:
        name: The model's YAML: a file, or one of the sam2 package's such as "sam2_hiera_l".
        folder: Where to write the checkpoint (bfloat16) and its YAML, which makes it a segmenter's `weights`.
        seed: Seed of the weights.

    Returns:
        The checkpoint's path.

    Raises:
        ValueError: There is no such YAML, or it describes no SAM2.
    """
    source = model_yaml(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _instantiate(source)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / f"{source.stem}.safetensors"
    save_file({key: value.to(torch.bfloat16).contiguous() for key, value in model.state_dict().items()}, checkpoint)
    shutil.copyfile(source, checkpoint.with_suffix(".yaml"))
    return checkpoint


def _device(asked: str) -> torch.device:
    available = torch.cuda.is_available()
    if asked == "auto":
        return torch.device("cuda" if available else "cpu")
    device = torch.device(asked)
    if device.type == "cuda" and (not available or (device.index or 0) >= torch.cuda.device_count()):
        rule = f"must exist, but this process sees {torch.cuda.device_count() if available else 0} CUDA devices"
        raise invalid("segmenter.device", asked, rule, "use auto or cpu, or give the process a GPU")
    return device


def _build(source: Source) -> SAM2Base:
    state = _read(_download(*source.hub) if source.hub is not None else source.checkpoint)
    model = _instantiate(source.model_yaml)
    expected = model.state_dict()
    wrong = sorted(expected.keys() ^ state.keys())
    wrong += [name for name in expected if name in state and expected[name].shape != state[name].shape]
    if wrong:
        rule = f"does not fit {source.model_yaml}: {len(wrong)} weights differ, such as {', '.join(wrong[:3])}"
        found = str(source.checkpoint or source.hub)
        raise invalid("segmenter.weights", found, rule, "set segmenter.config to the YAML of these weights")
    model.load_state_dict(state)
    return model


def _instantiate(path: Path) -> SAM2Base:
    # As sam2.build_sam.build_sam2 does, but without Hydra's global search path, which a program may be using itself.
    try:
        config = OmegaConf.load(path)
        settings = OmegaConf.select(config, "model")
        if isinstance(settings, DictConfig):
            if "sam_mask_decoder_extra_args" not in settings:
                settings.sam_mask_decoder_extra_args = _STABILITY
            OmegaConf.resolve(config)
            model = instantiate(settings, _recursive_=True)
        else:
            model = settings
    except (OSError, YAMLError, OmegaConfBaseException, InstantiationException) as error:
        rule = f"must be the YAML of a SAM2 model ({type(error).__name__}: {error})"
        raise invalid("segmenter.config", str(path), rule, _YAML_FIX) from error
    if not isinstance(model, SAM2Base):
        rule = f"must describe a SAM2Base, but describes a {type(model).__name__}"
        raise invalid("segmenter.config", str(path), rule, _YAML_FIX)
    return model


def _read(checkpoint: Path | None) -> dict[str, torch.Tensor]:
    assert checkpoint is not None
    try:
        if checkpoint.suffix == ".safetensors":
            state = load_file(checkpoint)
        else:
            state = torch.load(checkpoint, map_location="cpu", weights_only=True)["model"]
    except _UNREADABLE as error:
        rule = f"must be safetensors, or a torch file holding 'model' ({type(error).__name__}: {error})"
        raise invalid("segmenter.weights", str(checkpoint), rule, "download or copy the file again") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise invalid("segmenter.weights", str(checkpoint), "must hold tensors by name", "use a SAM2 checkpoint")
    return state


def _download(repository: str, file_name: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return Path(hf_hub_download(repo_id=repository, filename=file_name))
    except (OSError, EntryNotFoundError) as error:
        rule = f"must be in the Hugging Face cache or downloadable ({type(error).__name__}: {error})"
        fix = f"connect to the Hub, or copy {file_name} here and give its path"
        raise invalid("segmenter.weights", repository, rule, fix) from error
