"""The doctor on real metadata where that is cheap, and on written files where the machine cannot be changed."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from verl_socio import doctor
from verl_socio.doctor import Finding, Gpu
from verl_socio.train.settings import resolve

H200 = Gpu("NVIDIA H200", "580.95.05", total_gib=140, free_gib=139)


def test_examining_this_machine_gives_a_fix_for_everything_that_is_not_well():
    findings = doctor.examine()
    assert len({finding.name for finding in findings}) == len(findings)
    for finding in findings:
        assert finding.detail
        assert bool(finding.fix) == (finding.status != "ok"), finding


def test_examining_imports_nothing_heavy():
    code = (
        "import sys; from verl_socio import doctor; doctor.examine();"
        "print([name for name in ('torch', 'verl', 'vllm', 'ray', 'sam2', 'transformers') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_report_shows_every_fix_and_fails_only_for_a_failure():
    shown = io.StringIO()
    console = Console(file=shown, width=200)
    well = Finding("Disk", "ok", "9.0 GiB free in [/data]")
    warned = Finding("Memory", "warn", "3.0 GiB free", "stop other programs")
    failed = Finding("Python", "fail", "3.9", "use Python 3.11")
    assert doctor.report([well, warned], console) == 0
    assert doctor.report([well, warned, failed], console) == 1
    assert "[/data]" in shown.getvalue()
    assert "Memory: stop other programs" in shown.getvalue()
    assert "Python: use Python 3.11" in shown.getvalue()
    assert "\n1 of 2 checks passed, 1 warning.\n" in shown.getvalue()
    assert shown.getvalue().endswith("\n1 of 3 checks passed, 1 warning, 1 failed.\n")


def test_gpus_are_read_from_what_nvidia_smi_prints():
    output = "NVIDIA H200, 580.95.05, 143771, 143156, GPU-8a\nNVIDIA GB10, 580.95.05, [N/A], [N/A], GPU-9b\n"
    first, second = doctor.parse_gpus(output)
    assert (first.name, first.driver, round(first.total_gib), round(first.free_gib)) == (
        "NVIDIA H200",
        "580.95.05",
        140,
        140,
    )
    assert second == Gpu("NVIDIA GB10", "580.95.05", 0, 0, "GPU-9b")
    assert doctor.parse_gpus("No devices were found\n") == []


@given(st.text())
def test_anything_nvidia_smi_may_print_is_read_without_an_error(output: str):
    assert all(gpu.total_gib >= 0 and gpu.free_gib >= 0 for gpu in doctor.parse_gpus(output))


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a program of that name first on the search path: lines of the shell."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    def write(lines: str) -> None:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{lines}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)

    return write


def test_an_nvidia_smi_that_fails_is_no_machine_without_gpus(nvidia_smi: Callable[[str], None]):
    nvidia_smi("echo NVIDIA-SMI has failed; exit 9")
    gpus, trouble = doctor.list_gpus()
    assert (gpus, trouble) == ([], "nvidia-smi failed with code 9 (NVIDIA-SMI has failed)")
    finding = doctor.check_gpus("cpu", gpus, trouble)
    assert (finding.status, finding.detail) == ("warn", trouble) and "nvidia-smi" in finding.fix
    nvidia_smi("echo No devices were found; exit 6")
    assert doctor.list_gpus() == ([], "")
    nvidia_smi("echo NVIDIA H200, 580.95.05, 143771, 143156, GPU-8a")
    assert [gpu.uuid for gpu in doctor.list_gpus()[0]] == ["GPU-8a"]


def test_an_nvidia_smi_that_hangs_or_is_not_there(monkeypatch: pytest.MonkeyPatch):
    def run(command: list[str], **_: object) -> None:
        raise raised

    monkeypatch.setattr(doctor.subprocess, "run", run)
    raised: Exception = subprocess.TimeoutExpired("nvidia-smi", 8)
    assert doctor.list_gpus() == ([], "nvidia-smi did not answer in 8 s")
    raised = FileNotFoundError()
    assert doctor.list_gpus() == ([], "")
    raised = PermissionError("not for you")
    assert "not for you" in doctor.list_gpus()[1]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (None, "abc"), ("0,2", "ac"), ("2, 0", "ca"), ("GPU-b", "b"), ("", ""), ("-1", ""), ("1,7,0", "b"),
        ("GPU-", ""), ("NoDevFiles", ""), ("MIG-GPU-b/1/0", "abc"),
    ],
)  # fmt: skip
def test_what_cuda_hides_is_not_looked_at(chosen: str | None, expected: str):
    gpus = [Gpu("NVIDIA H200", "580.95.05", 140, 139, f"GPU-{letter}") for letter in "abc"]
    assert "".join(gpu.uuid[-1] for gpu in doctor.visible(gpus, chosen)) == expected


def test_gpus_that_cuda_hides_are_told(nvidia_smi: Callable[[str], None], monkeypatch: pytest.MonkeyPatch):
    nvidia_smi("echo NVIDIA H200, 580.95.05, 143771, 143156, GPU-8a; echo NVIDIA H200, 580.95.05, 143771, 9, GPU-9b")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    findings = {finding.name: finding for finding in doctor.examine()}
    assert "1 GPUs and 1 that CUDA_VISIBLE_DEVICES hides" in findings["Device"].detail
    assert findings["GPUs"].detail.count("H200") == 1
    monkeypatch.setattr(doctor, "_version", {"vllm": "0.24.0", "torch": "2.11.0"}.get)
    assert "unset CUDA_VISIBLE_DEVICES" in doctor.check_device("gpu", [], hidden=2).fix


def test_an_environment_behind_a_link_is_the_clones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "link").symlink_to(doctor.ROOT)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "link" / ".venv"))
    assert doctor.check_python().status == "ok"
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert doctor.check_python().status == "warn"


def test_a_lock_is_compared_with_what_is_installed(tmp_path: Path):
    installed = metadata.version("numpy")
    (tmp_path / "cpu.txt").write_text(f"# a comment\nnumpy=={installed}\n")
    assert doctor.check_packages("cpu", tmp_path).status == "ok"
    (tmp_path / "cpu.txt").write_text("numpy==0.0.1\nno-such-package==1.0\n")
    finding = doctor.check_packages("cpu", tmp_path)
    assert finding.status == "fail"
    assert f"numpy {installed} (lock: 0.0.1)" in finding.detail
    assert "no-such-package missing (lock: 1.0)" in finding.detail
    assert doctor.check_packages("gpu", tmp_path).status == "warn"


@pytest.mark.parametrize(("locked", "status"), [("{}", "ok"), ("{}+cpu", "fail")])
def test_a_local_version_counts_only_where_the_lock_has_one(tmp_path: Path, locked: str, status: str):
    (tmp_path / "cpu.txt").write_text("numpy==" + locked.format(metadata.version("numpy")))
    assert doctor.check_packages("cpu", tmp_path).status == status


def test_an_environment_for_gpus_wants_a_gpu_and_a_machine_with_one_wants_it_used():
    assert doctor.check_device("cpu", []).status == "ok"
    assert "VERL_SOCIO_DEVICE=gpu" in doctor.check_device("cpu", [H200]).fix
    assert doctor.check_device("gpu", []).status == "fail"


def test_an_old_driver_fails_and_a_full_gpu_is_warned_of():
    assert doctor.check_gpus("gpu", [H200]).status == "ok"
    assert doctor.check_gpus("gpu", [Gpu("NVIDIA A100", "535.1", 80, 79)]).status == "fail"
    assert doctor.check_gpus("gpu", [H200, Gpu("NVIDIA H200", "580.95.05", 140, 2)]).status == "warn"
    assert doctor.check_gpus("cpu", []).status == "ok"


def test_vllm_finds_what_it_compiles_with_as_triton_looks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(doctor.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    assert doctor.check_compiler("cpu").status == "ok"
    both = f"not found: a C compiler (gcc, clang) and {tmp_path}/Python.h"
    assert (doctor.check_compiler("gpu").status, doctor.check_compiler("gpu").detail) == ("fail", both)
    (tmp_path / "Python.h").touch()
    for name, found in (("cc", False), ("clang", True), ("gcc", True)):
        (tmp_path / name).write_text("#!/bin/sh")
        (tmp_path / name).chmod(0o755)
        assert (doctor.check_compiler("gpu").status == "ok") is found, name
    monkeypatch.setenv("CC", "icx")
    assert "the C compiler that CC names (icx)" in doctor.check_compiler("gpu").detail
    monkeypatch.setenv("CC", str(tmp_path / "cc"))
    assert doctor.check_compiler("gpu").status == "ok"


def test_a_container_limit_counts_what_is_left_of_it(tmp_path: Path):
    assert doctor.container_limit_gib(tmp_path) is None
    (tmp_path / "memory.current").write_text(f"{doctor.GIB}\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert doctor.container_limit_gib(tmp_path) is None
    (tmp_path / "memory.max").write_text(f"{3 * doctor.GIB}\n")
    assert doctor.container_limit_gib(tmp_path) == 2
    (tmp_path / "memory.stat").write_text(f"file 7\ninactive_anon 5\ninactive_file {doctor.GIB // 2}\n")
    assert doctor.container_limit_gib(tmp_path) == 2.5, "what gives way is free"


@pytest.mark.parametrize(("found", "status"), [(5.0, "ok"), (4.9, "warn"), (0.9, "fail")])
def test_room_is_compared_with_what_a_run_needs(found: float, status: str):
    assert doctor.enough("Disk", found, wanted=5, unit="free", fix="free some", least=1).status == status


def test_room_is_looked_for_where_runs_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert str(doctor.RUNS / "embedded") == resolve("embedded", []).run_dir
    monkeypatch.setattr(doctor, "RUNS", tmp_path / "outputs" / "deep")
    (found,) = [finding for finding in doctor.examine() if finding.name == "Disk"]
    assert f"free in {tmp_path}" in found.detail


def test_plugin_settings_that_shut_the_hooks_out_fail(monkeypatch: pytest.MonkeyPatch):
    assert doctor.check_entry_points().status == "ok"
    monkeypatch.setenv("VLLM_PLUGINS", "verl_socio,lora")
    monkeypatch.setenv("VERL_USE_EXTERNAL_PLUGINS", "auto")
    assert doctor.check_entry_points().status == "ok"
    monkeypatch.setenv("VERL_USE_EXTERNAL_PLUGINS", "none")
    assert doctor.check_entry_points().fix == "unset VERL_USE_EXTERNAL_PLUGINS"


def test_a_search_path_of_the_users_is_warned_of(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert doctor.check_search_path().status == "ok"
    monkeypatch.setenv("PYTHONPATH", "/opt/ros/lib")
    assert doctor.check_search_path().detail == "/opt/ros/lib"


def test_without_the_hub_a_gpu_run_needs_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert doctor.check_hub("cpu").status == "ok"
    assert doctor.check_hub("gpu").status == "fail"
    for item in doctor.HUB_ITEMS:
        (tmp_path / item / "snapshots" / "0123").mkdir(parents=True)
        (tmp_path / item / "snapshots" / "0123" / "config.json").touch()
    assert doctor.check_hub("gpu").status == "ok"
