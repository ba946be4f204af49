#!/usr/bin/env bash
# Sets itself up, then evaluates the boxes of the newest merged model on COCO val 2017, for instance:
#   bash evaluation/eval_coco.sh data=DIR_OR_PARQUET_FILE recipe=vision_reasoner annotations=DIR/instances_val2017.json
# Every setting is in configs/evaluate/eval.yaml, the layout of the data in docs/evaluation.md.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../training_scripts/setup.sh"

exec verl-socio evaluate data=Ricky06662/coco_val data_format=detection 'images=[satellite]' "$@"
