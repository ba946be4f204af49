"""The remedy is judged in fresh processes: it changes what a process can import."""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import torch

from verl_socio.torchvision_cpu import _nms, make_importable


def _run(code: str, *extra_path: Path) -> str:
    program = f"import sys; sys.path[:0] = {[str(path) for path in extra_path]!r}\n" + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_transforms_work_after_the_remedy() -> None:
    shape = _run("""
        from verl_socio.torchvision_cpu import make_importable
        make_importable(); make_importable()
        import torch
        from torchvision.transforms import v2
        print(tuple(v2.Resize((8, 4))(torch.zeros(3, 16, 16)).shape))
        make_importable()
    """)
    assert shape == "(3, 8, 4)"


def test_the_operator_runs() -> None:
    kept = _run("""
        from verl_socio.torchvision_cpu import make_importable
        make_importable()
        import torch, torchvision
        boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30]])
        print(torch.ops.torchvision.nms(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5).tolist())
    """)
    assert kept == "[1, 2]"


def test_a_torchvision_already_there_is_left_alone() -> None:
    make_importable()
    import torchvision

    make_importable()
    assert sys.modules["torchvision"] is torchvision


def test_nms_keeps_what_pairwise_comparison_keeps() -> None:
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 50, (60, 2))
    boxes = torch.from_numpy(np.concatenate([low, low + rng.uniform(1, 30, (60, 2))], axis=1)).float()
    scores = torch.from_numpy(rng.uniform(0, 1, 60)).float()

    def iou(a: torch.Tensor, b: torch.Tensor) -> float:
        wh = (torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])).clamp(min=0)
        both = float(wh[0] * wh[1])
        return both / float((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - both)

    expected: list[int] = []
    for index in scores.argsort(descending=True).tolist():
        if all(iou(boxes[index], boxes[other]) <= 0.4 for other in expected):
            expected.append(index)
    assert 1 < len(expected) < 60
    assert _nms(boxes, scores, 0.4).tolist() == expected
    assert _nms(boxes[:0], scores[:0], 0.4).tolist() == []


def test_a_broken_torchcodec_is_hidden_on_cpu(tmp_path: Path) -> None:
    package = tmp_path / "torchcodec"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('Could not load libtorchcodec')\n")
    (package / "libtorchcodec_core8.so").write_bytes(b"not a library")
    found = _run(
        """
        import importlib.util
        from verl_socio.torchvision_cpu import make_importable
        make_importable()
        import torch
        print(importlib.util.find_spec("torchcodec") is None or torch.version.cuda is not None)
        """,
        tmp_path,
    )
    assert found == "True"


def test_nothing_happens_without_torchvision() -> None:
    untouched = _run("""
        import importlib.util
        real = importlib.util.find_spec
        importlib.util.find_spec = lambda name, package=None: None if name == "torchvision" else real(name, package)
        from verl_socio.torchvision_cpu import make_importable
        make_importable()
        print("torch" not in sys.modules)
    """)
    assert untouched == "True"
