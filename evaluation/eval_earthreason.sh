#!/usr/bin/env bash
# Sets itself up, then evaluates the newest merged model on EarthReason; settings go at the end of the line, for instance:
#   bash evaluation/eval_earthreason.sh data=DIR split=val
#   bash evaluation/eval_earthreason.sh question=random question_seed=3 recipe=think2seg
# Every setting is in configs/evaluate/eval.yaml, the layout of the data in docs/evaluation.md.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../training_scripts/setup.sh"

exec verl-socio evaluate data=earth-insights/EarthReason data_format=earthreason 'images=[satellite]' "$@"
