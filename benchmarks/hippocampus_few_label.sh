#!/usr/bin/env bash
# VoCo, masked reconstruction and both joined against scratch at n = 1, 2, 4, 8 labelled hippocampi.
#   MEDSSL_DATA=FOLDER bash benchmarks/hippocampus_few_label.sh OUT
# Larger on a GPU: SIZE="" STEPS=20000 RECIPE=segmentation DRAWS=10 PRECISION=auto (presets without _small).
# Every step is skipped when it is done, so the script goes on where it was stopped.
set -euo pipefail
out=${1:?usage: hippocampus_few_label.sh OUT}
size=${SIZE-_small} steps=${STEPS:-3000} recipe=${RECIPE:-segmentation_small} draws=${DRAWS:-5}
precision=${PRECISION:-bf16-mixed} seed=${SEED:-0}
mkdir -p "$out" && cd "$out"
medssl index "${MEDSSL_DATA:?names the folder that holds hippocampus/}/hippocampus" --out hippocampus.parquet
medssl cache hippocampus.parquet --out store
for method in voco voco_masked masked; do
  run=runs/$method
  [ "$seed" = 0 ] || run=$run-seed$seed
  [ -f "$run/card.json" ] && continue
  resume=(); [ -d "$run" ] && resume=(--resume)
  medssl pretrain "$method$size" --data store --out "$run" "${resume[@]}" \
    train.steps="$steps" train.seed="$seed" train.precision="$precision" train.threads=1
done
suffix=; [ "$seed" = 0 ] || suffix=-seed$seed
medssl evaluate "runs/voco$suffix" --against "runs/voco_masked$suffix" --against "runs/masked$suffix" --data store \
  --protocol few-label --out few few_label.draws="$draws" few_label.sizes=[1,2,4,8] few_label.recipe="$recipe" \
  few_label.finetune.train.precision="$precision" few_label.finetune.train.threads=1
medssl report "runs/voco$suffix" "runs/voco_masked$suffix" "runs/masked$suffix" few --out report.html
