#!/usr/bin/env bash
# Pretraining methods against scratch at n = 1, 2, 4, 8 labelled hippocampi, each with several pretraining seeds.
#   MEDSSL_DATA=FOLDER bash benchmarks/hippocampus_few_label.sh OUT
# BUDGETS="75 300" fine-tunes for so many steps each, one comparison a budget: what pretraining saves in steps.
# DRAW_SEED=1 takes other draws of labelled patients: to confirm on new ones what was seen on the first.
# METHODS names presets without _small; METHODS=all stands for every method that pretrains the small U-Net. BATCH=8 shows
# each of them as many windows (those of thin windows, global_contrast, local_contrast and cvrl, keep their 16).
# benchmarks/mean_rank.py ranks what comes out.
# DEV=1 leaves the test patients alone: 30 of the training patients stand for them, to look at recipes.
# Larger on a GPU: SIZE="" STEPS=20000 RECIPE=segmentation DRAWS=10 PRECISION=auto (presets without _small).
# Every step is skipped when it is done, so the script goes on where it was stopped.
set -euo pipefail
out=${1:?usage: hippocampus_few_label.sh OUT}
size=${SIZE-_small} steps=${STEPS:-1500} recipe=${RECIPE:-segmentation_small} draws=${DRAWS:-5}
precision=${PRECISION:-32-true} seeds=${SEEDS:-0 1 2} methods=${METHODS:-voco voco_masked}
budgets=${BUDGETS:-300} sizes=${SIZES:-[1,2,4,8]} draw_seed=${DRAW_SEED:-0} compared=store
if [ "$methods" = all ]; then
  methods="simclr moco byol simsiam swav barlow vicreg dino ibot cvrl global_contrast local_contrast voco masked"
  methods="$methods spark spark_s3d joined voco_masked"
fi
mkdir -p "$out" && cd "$out"
medssl index "${MEDSSL_DATA:?names the folder that holds hippocampus/}/hippocampus" --out hippocampus.parquet
medssl cache hippocampus.parquet --out store
arms=()
for seed in $seeds; do
  for method in $methods; do
    run=runs/$method-seed$seed
    arms+=("$run")
    [ -f "$run/card.json" ] && continue
    resume=(); [ -d "$run" ] && resume=(--resume)
    [[ $method = local_contrast && ! -d $run ]] && resume=(--init-from "runs/global_contrast-seed$seed")
    [[ -n ${BATCH:-} && ! $method =~ ^(global_contrast|local_contrast|cvrl)$ ]] && resume+=(train.batch_size="$BATCH")
    medssl pretrain "$method$size" --data store --out "$run" "${resume[@]}" \
      train.steps="$steps" train.seed="$seed" train.precision="$precision" train.threads=1
  done
done
against=(); for run in "${arms[@]:1}"; do against+=(--against "$run"); done
if [ -n "${DEV:-}" ]; then
  compared=dev
  python - <<'END'
import polars as pl

scans = pl.read_parquet("hippocampus.parquet").filter(pl.col("split") == "train").sort("id").sample(fraction=1, shuffle=True, seed=0)
scans.with_columns(split=pl.when(pl.int_range(pl.len()) < 30).then(pl.lit("test")).otherwise(pl.lit("train"))).write_parquet("dev.parquet")
END
  medssl cache dev.parquet --out dev
fi
for budget in $budgets; do
  medssl evaluate "${arms[0]}" "${against[@]}" --data "$compared" --protocol few-label --out "few-$compared-$budget-draws$draw_seed" \
    few_label.draws="$draws" few_label.draw_seed="$draw_seed" few_label.sizes="$sizes" few_label.recipe="$recipe" \
    few_label.finetune.train.steps="$budget" \
    few_label.finetune.train.precision="$precision" few_label.finetune.train.threads=1
done
