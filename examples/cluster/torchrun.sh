#!/bin/bash
# Pretraining on several machines without a scheduler: run this on each of them, HEAD being the first one's name.
# One machine needs neither HEAD nor NODES.
set -euo pipefail

torchrun --nnodes="${NODES:-1}" --nproc-per-node="${GPUS:-1}" \
  --rdzv-backend=c10d --rdzv-endpoint="${HEAD:-localhost}:${PORT:-29400}" \
  -m medssl pretrain "$PRESET" --data "$OUT/store" --out "$OUT/runs/$PRESET" --resume "$@"
