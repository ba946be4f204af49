#!/usr/bin/env bash
# Sets itself up, then evaluates the newest merged model on RefCOCO, RefCOCO+, RefCOCOg or ReasonSeg, for instance:
#   bash evaluation/eval_segmentation.sh data=Ricky06662/refcocog_test
#   bash evaluation/eval_segmentation.sh data=DIR_OR_PARQUET_FILE recipe=vision_reasoner
# Every setting is in configs/evaluate/eval.yaml, the layout of the data in docs/evaluation.md.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../training_scripts/setup.sh"

exec verl-socio evaluate data=Ricky06662/ReasonSeg_test data_format=referring 'images=[satellite]' "$@"
