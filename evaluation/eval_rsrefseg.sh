#!/usr/bin/env bash
# Sets itself up, then evaluates the newest merged model on phrases about satellite images; one of:
#   bash evaluation/eval_rsrefseg.sh data=DIR data_format=rrsisd
#   bash evaluation/eval_rsrefseg.sh data=DIR data_format=risbench
#   bash evaluation/eval_rsrefseg.sh                                  RefSegRS from the Hub
# Every setting is in configs/evaluate/eval.yaml, the layout of the data in docs/evaluation.md.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../training_scripts/setup.sh"

exec verl-socio evaluate data=JessicaYuan/RefSegRS 'images=[satellite]' "$@"
