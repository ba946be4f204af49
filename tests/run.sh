#!/usr/bin/env bash
# Sets itself up, then checks the style, the types and every test.
# With arguments only the tests that they ask pytest for, one after the other, for instance: bash tests/run.sh -k parser
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../training_scripts/setup.sh"
cd "$verl_socio_root"

ruff check
ruff format --check
mypy
# What needs a GPU is left out where the environment is for the CPU.
suited="not gpu"
[[ $verl_socio_device == gpu ]] && suited="(gpu or not gpu)"
if (($#)); then
  # A -m among the arguments comes last and so decides.
  python -m pytest -m "$suited" "$@"
else
  # A core a test: their small models gain nothing from a second one that another test is using.
  OMP_NUM_THREADS=1 python -m pytest -m "$suited and not slow" --numprocesses=logical --maxprocesses=4 --dist=worksteal --durations=5
  # These start Ray and vLLM, which have the machine to themselves.
  python -m pytest -m "$suited and slow" --durations=15
fi
