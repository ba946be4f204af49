#!/usr/bin/env bash
# Sets itself up, then evaluates the newest merged model; settings go at the end of the line, for instance:
#   bash evaluation/eval_socioseg.sh model=Qwen/Qwen2.5-VL-3B-Instruct max_samples=100
#   bash evaluation/eval_socioseg.sh data=DIR split=test pictures=10
#   bash evaluation/eval_socioseg.sh --dry-run
# Every setting is in configs/evaluate/eval.yaml.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../training_scripts/setup.sh"

exec verl-socio evaluate "$@"
