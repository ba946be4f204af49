#!/usr/bin/env bash
# Supervised fine-tuning, the baseline of reinforcement learning. Sets itself up, then trains; settings go at the end of the line:
#   bash training_scripts/run_sft_socioseg.sh trainer.total_training_steps=2 data.train_files=DIR
#   bash training_scripts/run_sft_socioseg.sh --dry-run
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/launch.sh"

launch sft_qwen2_5_vl_3b_socioseg embedded/socioreasoner "$@"
