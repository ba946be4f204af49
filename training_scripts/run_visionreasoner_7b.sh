#!/usr/bin/env bash
# VisionReasoner with Qwen2.5-VL-7B. Sets itself up, then trains; settings go at the end of the line, for instance:
#   bash training_scripts/run_visionreasoner_7b.sh trainer.total_training_steps=2
#   bash training_scripts/run_visionreasoner_7b.sh hardware=lora_1x24gb --dry-run
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"

launch qwen2_5_vl_7b_vision_reasoner embedded/vision_reasoner "$@"
