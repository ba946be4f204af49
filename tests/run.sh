#!/usr/bin/env bash
# Sets itself up, then checks the style, the types and every test. Arguments go to pytest, for instance: bash tests/run.sh -k parser
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../training_scripts/setup.sh"
cd "$verl_socio_root"

ruff check
ruff format --check
mypy
# What needs a GPU is left out where the environment is for the CPU; a -m among the arguments comes last and so decides.
[[ $verl_socio_device == gpu ]] || set -- -m "not gpu" "$@"
python -m pytest --durations=15 "$@"
