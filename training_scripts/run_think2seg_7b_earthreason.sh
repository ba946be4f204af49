#!/usr/bin/env bash
# Think2Seg-RS with Qwen2.5-VL-7B on EarthReason. Sets itself up, then trains; settings go at the end of the line, for instance:
#   bash training_scripts/run_think2seg_7b_earthreason.sh trainer.total_training_steps=2
#   bash training_scripts/run_think2seg_7b_earthreason.sh hardware=lora_1x24gb --dry-run
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"

launch think2seg_7b_earthreason embedded/think2seg "$@"
