import subprocess
import sys
from pathlib import Path

import pytest

from verl_socio.segment import SegmenterConfig, create


def test_settings_are_checked_without_anything_heavy() -> None:
    code = """
import sys
from verl_socio.segment import SegmenterConfig, create, locate
locate(SegmenterConfig(weights="facebook/sam2-hiera-large"))
try:
    create(SegmenterConfig(weights="/not/there"))
except ValueError:
    heavy = {"torch", "sam2", "ray", "hydra", "transformers", "verl", "vllm"} & set(sys.modules)
    print(sorted(heavy))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_create_follows_the_weights(caplog: pytest.LogCaptureFixture) -> None:
    from verl_socio.segment.box_segmenter import BoxSegmenter
    from verl_socio.segment.sam2_segmenter import Sam2Segmenter

    caplog.set_level("WARNING", logger="verl_socio.segment")
    boxes = create(SegmenterConfig(weights="boxes"))
    assert isinstance(boxes, BoxSegmenter)
    assert "every mask is its box" in caplog.text
    embedded = create(SegmenterConfig(device="cpu"))
    assert isinstance(embedded, Sam2Segmenter)
    embedded.close()


def test_missing_weights_are_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is none in it"):
        create(SegmenterConfig(weights=str(tmp_path)))
