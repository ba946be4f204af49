"""What the training scripts start, with a GPU and without one: everything but set-up and the verb itself."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SFT, SEG_ZERO, SOCIO = "run_sft_socioseg", "run_qwen2_5_3b_refcocog", "run_qwen2_5_3b_socioseg"


@pytest.fixture
def started(tmp_path: Path) -> Callable[..., list[str]]:
    """Runs a script in a clone that is set up for a device; gives the words that the command `verl-socio` got."""

    def start(device: str, script: str, *words: str) -> list[str]:
        scripts = tmp_path / "training_scripts"
        shutil.copytree(ROOT / "training_scripts", scripts, ignore=shutil.ignore_patterns("setup.sh", "__pycache__"))
        (scripts / "setup.sh").write_text(f"verl_socio_device={device} verl_socio_root={ROOT}\nPATH={tmp_path}:$PATH\n")
        verb = tmp_path / "verl-socio"
        verb.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        verb.chmod(0o755)
        done = subprocess.run(
            ["bash", str(scripts / f"{script}.sh"), *words], capture_output=True, text=True, check=True, cwd=tmp_path
        )
        lines = done.stdout.splitlines()
        assert lines[0].startswith("No GPU here: ") is (lines[0] != "train")
        return lines[lines.index("train") + 1 :]

    return start


@pytest.mark.parametrize("script", ["train_embedded_vlm", "train_embedded_sam2"])
def test_shipped_weights_are_replaced_only_where_they_are_named(script: str) -> None:
    command = [sys.executable, str(ROOT / "training_scripts" / f"{script}.py"), "--scenes", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "the following arguments are required: --out" in done.stderr


@pytest.mark.parametrize(
    ("script", "on_gpu", "without"),
    [
        (SFT, ["sft_qwen2_5_vl_3b_socioseg"], ["sft_embedded"]),
        (SOCIO, ["qwen2_5_vl_3b_socioseg"], ["embedded"]),
        (SEG_ZERO, ["qwen2_5_vl_3b_refcocog"], ["embedded", "recipe=embedded/seg_zero"]),
    ],
)
@pytest.mark.parametrize("words", [[], ["data.train_files=a folder", "--dry-run"]])
def test_without_a_gpu_a_script_trains_the_embedded_form(
    started: Callable[..., list[str]], tmp_path: Path, script: str, on_gpu: list[str], without: list[str],
    words: list[str],
) -> None:  # fmt: skip
    assert started("gpu", script, *words) == [*on_gpu, *words]
    shutil.rmtree(tmp_path / "training_scripts")
    assert started("cpu", script, *words) == [*without, *words]


def test_a_dry_run_of_named_hardware_shows_the_published_form_anywhere(started: Callable[..., list[str]]) -> None:
    words = ["hardware=lora_1x24gb", "--dry-run"]
    assert started("cpu", SEG_ZERO, *words) == ["qwen2_5_vl_3b_refcocog", *words]


def test_a_recipe_on_the_command_line_goes_before_the_scripts(started: Callable[..., list[str]]) -> None:
    assert started("cpu", SEG_ZERO, "recipe=mine.yaml") == ["embedded", "recipe=mine.yaml"]


@pytest.mark.parametrize("name", ["one_stage", "think2seg", "embedded/one_stage"])
def test_without_a_gpu_a_shipped_recipe_is_the_one_that_the_small_model_was_taught(
    started: Callable[..., list[str]], tmp_path: Path, name: str
) -> None:
    words = [f"recipe={name}", "run=a run"]
    assert started("gpu", SOCIO, *words) == ["qwen2_5_vl_3b_socioseg", *words]
    shutil.rmtree(tmp_path / "training_scripts")
    taken = f"recipe=embedded/{name.removeprefix('embedded/')}"
    assert started("cpu", SOCIO, *words) == ["embedded", taken, "run=a run"]


def test_hardware_without_a_gpu_is_refused_and_the_fix_is_told(started: Callable[..., list[str]]) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        started("cpu", SEG_ZERO, "hardware=lora_1x24gb")
    assert refused.value.returncode == 2 and refused.value.stdout == ""
    assert "Fix: leave it out, or add --dry-run" in refused.value.stderr
