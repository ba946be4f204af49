"""Floors 0 and 1 must work where nothing heavy is installed, and start at once where it is."""

import subprocess
import sys
from pathlib import Path

import pytest

import verl_socio

PACKAGE = Path(verl_socio.__file__).parent
LIGHT = (
    "errors",
    "text",
    "nested",
    "geometry",
    "loose_json",
    "masks",
    "answer",
    "render",
    "metrics",
    "bootstrap",
    "box_metrics",
    "count_metrics",
    "rewards",
    "data",
    "recipes",
    "episode",
    "teacher",
    "city",
)
HEAVY = ("torch", "verl", "vllm", "sam2", "ray", "transformers", "torchvision", "tensordict")
# Lighter, but still too slow to be loaded before someone asks for them.
LAZY = ("datasets", "pyarrow", "scipy.optimize", "pandas", "cv2", "pycocotools")


def modules():
    found = []
    for name in LIGHT:
        path = PACKAGE / name
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
        for file in files:
            if file.is_file():
                parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
                found.append(".".join(parts).removesuffix(".__init__"))
    return found


def loaded_after(statements):
    """Names of all modules that a fresh interpreter holds after the statements."""
    code = f"{statements}\nimport sys\nsys.stdout.write('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines())


def test_all_light_rooms_are_looked_at():
    assert {"verl_socio.geometry", "verl_socio.answer", "verl_socio.rewards.registry"} <= set(modules())


def test_light_rooms_load_nothing_heavy():
    loaded = loaded_after("\n".join(f"import {name}" for name in modules()))
    assert loaded.isdisjoint(HEAVY)
    assert loaded.isdisjoint(LAZY)


def test_the_check_sees_a_heavy_import():
    assert "scipy.optimize" in loaded_after("import scipy.optimize")


@pytest.mark.parametrize("name", modules())
def test_each_light_module_loads_by_itself(name):
    # In an order of its own: a cycle between modules shows only where the first import enters it.
    loaded = loaded_after(f"import {name}")
    assert name in loaded
    assert loaded.isdisjoint(HEAVY)
