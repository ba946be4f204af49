#!/usr/bin/env bash
# SocioReasoner with Qwen2.5-VL-7B on SocioSeg. Sets itself up, then trains; settings go at the end of the line, for instance:
#   bash training_scripts/run_qwen2_5_7b_socioseg.sh trainer.total_training_steps=2
#   bash training_scripts/run_qwen2_5_7b_socioseg.sh hardware=lora_1x24gb --dry-run
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"

launch qwen2_5_vl_7b_socioseg embedded/socioreasoner "$@"
