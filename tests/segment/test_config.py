import math

import pytest

from verl_socio.segment.config import SegmenterConfig


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("weights", ""),
        ("weights", None),
        ("config", " "),
        ("device", "gpu"),
        ("device", "cuda:"),
        ("multimask", 1),
        ("cache_images", 0),
        ("cache_images", 1.5),
        ("num_actors", 0),
        ("num_actors", True),
        ("num_gpus", -0.1),
        ("num_gpus", 1.5),  # Ray takes whole GPUs above one
        ("num_cpus", math.inf),
        ("num_cpus", "2"),
        ("timeout_s", 0),
        ("timeout_s", math.nan),
        ("restarts", -1),
    ],
)
def test_a_wrong_field_is_named(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^segmenter.{field} = "):
        SegmenterConfig(**{field: value})


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:3"])
def test_right_settings_pass(device: str) -> None:
    config = SegmenterConfig(device=device, num_gpus=2, num_cpus=0, timeout_s=1, restarts=0)
    assert (config.device, config.num_gpus) == (device, 2)
