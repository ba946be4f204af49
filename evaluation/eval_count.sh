#!/usr/bin/env bash
# Sets itself up, then evaluates how the newest merged model counts, for instance:
#   bash evaluation/eval_count.sh data=Ricky06662/counting_pixmo_test
#   bash evaluation/eval_count.sh data=DIR_OR_PARQUET_FILE recipe=vision_reasoner
# Every setting is in configs/evaluate/eval.yaml, the layout of the data in docs/evaluation.md.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../training_scripts/setup.sh"

exec verl-socio evaluate data=Ricky06662/counting_countbench data_format=counting 'images=[satellite]' "$@"
